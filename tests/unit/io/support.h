// What the io tests share: a small loop, temporary folders, and running one task to its end.
#pragma once

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "io/loop.h"

namespace lockstep::io {

inline std::unique_ptr<Loop> make_loop(LoopOptions options = {256, size_t{1} << 20, false}) {
  Result<std::unique_ptr<Loop>> loop = Loop::create(options);
  INFO((loop.ok() ? std::string() : loop.error().message));
  REQUIRE(loop.ok());
  return std::move(loop).value();
}

inline Task<void> then_stop(Loop& loop, Task<void> body) {
  co_await body;
  loop.stop();
}

// Runs `body` on the loop, which stops when it has ended.
inline void run_to_end(Loop& loop, Task<void> body) {
  loop.spawn(then_stop(loop, std::move(body)));
  loop.run();
}

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lockstep-io-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace lockstep::io
