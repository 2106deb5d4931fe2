// What the tests of the replicator's impure parts share: a folder, a loop, a task run to its end.
#pragma once

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/loop.h"
#include "io/task.h"
#include "replicator/metadata_setup.h"

// REQUIRE for coroutines, which must not throw.
#define CO_REQUIRE(condition)                                 \
  do {                                                        \
    const bool lockstep_holds = static_cast<bool>(condition); \
    if (!lockstep_holds) FAIL_CHECK("required: " #condition); \
    if (!lockstep_holds) co_return;                           \
  } while (false)

namespace lockstep::tests {

class Folder {
 public:
  Folder() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr && *base != '\0' ? base : "/tmp") + "/lockstep-replicator-XXXXXX";
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void write_file(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(file.good());
}

inline std::unique_ptr<io::Loop> make_loop() {
  auto loop = io::Loop::create({.ring_entries = 64, .buffer_arena_bytes = 16 * 1024 * 1024});
  REQUIRE(loop);
  return std::move(*loop);
}

inline io::Task<void> run_then_stop(io::Loop& loop, io::Task<void> task) {
  co_await task;
  loop.stop();
}

// Runs the loop until `task` has ended and everything else has been stopped.
inline void run_to_end(io::Loop& loop, io::Task<void> task) {
  loop.spawn(run_then_stop(loop, std::move(task)));
  loop.run();
}

// The test's deadline, not its pace: 10 s on a loaded host is long enough for anything here.
template <typename Condition>
io::Task<bool> becomes_true(io::Loop& loop, Condition condition) {
  for (int i = 0; i < 10'000; ++i) {
    if (condition()) co_return true;
    co_await loop.sleep_ms(1);
  }
  co_return condition();
}

inline repl::MetadataParameters example_parameters() {
  repl::MetadataParameters parameters;
  parameters.resource_name = "pgdata";
  parameters.node_name = "alpha";
  parameters.peer_names = {"beta"};
  parameters.size_bytes = 256 * kMiB;
  parameters.activity_log_slots = 128;
  return parameters;
}

}  // namespace lockstep::tests
