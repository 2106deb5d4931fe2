#include "io/child_process.h"

#include <string>
#include <vector>

#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

ChildSpec shell(const std::string& script, uint64_t deadline_ms = 20'000) {
  return {{"/bin/sh", "-c", script}, {"NAME=value"}, deadline_ms};
}

Task<void> run_child(Loop& loop, ChildSpec spec, ChildEnd& end) {
  auto started = ChildProcess::start(loop, spec);
  REQUIRE(started.ok());
  const std::unique_ptr<ChildProcess> child = std::move(*started);
  end = co_await child->ended();
}

ChildEnd end_of(const ChildSpec& spec) {
  const auto loop = make_loop();
  ChildEnd end;
  run_to_end(*loop, run_child(*loop, spec, end));
  return end;
}

Task<void> kill_child(Loop& loop, ChildEnd& end) {
  auto started = ChildProcess::start(loop, shell("sleep 1000"));
  REQUIRE(started.ok());
  const std::unique_ptr<ChildProcess> child = std::move(*started);
  child->kill();
  end = co_await child->ended();
}

}  // namespace

TEST_CASE("a child's exit status and output are told; its environment is what was given, its folder the root") {
  const ChildEnd end = end_of(shell("echo \"$NAME $HOME $(pwd)\"; echo error >&2; cat; exit 7"));
  CHECK(end.exit_code == 7);
  CHECK_FALSE(end.timed_out);
  CHECK(end.output == "value  /\nerror\n");
}

TEST_CASE("a child without an end is killed at its deadline, with what it started") {
  const ChildEnd end = end_of(shell("sleep 1000 & sleep 1000", 50));
  CHECK(end.timed_out);
  CHECK(end.exit_code == -1);
}

TEST_CASE("a child that was killed has no exit status") {
  const auto loop = make_loop();
  ChildEnd end;
  run_to_end(*loop, kill_child(*loop, end));
  CHECK(end.exit_code == -1);
  CHECK_FALSE(end.timed_out);
}

TEST_CASE("a child cannot fill the memory with what it prints") {
  const ChildEnd end = end_of(shell("head -c 1000000 /dev/zero 2>/dev/null; exit 3"));
  CHECK(end.exit_code == 3);
  CHECK(end.output.size() <= kChildOutputBytes);
}

TEST_CASE("a program that is not there, or has no absolute path, is refused") {
  const auto loop = make_loop();
  CHECK(ChildProcess::start(*loop, {{"/nowhere/at/all"}, {}, 1000}).error().message.find("/nowhere/at/all") !=
        std::string::npos);
  CHECK_FALSE(ChildProcess::start(*loop, {{"true"}, {}, 1000}).ok());
  CHECK_FALSE(ChildProcess::start(*loop, {{}, {}, 1000}).ok());
}

TEST_CASE("a command's words stand between spaces") {
  CHECK(split_words("  /bin/fence  a\tb ") == std::vector<std::string>{"/bin/fence", "a", "b"});
  CHECK(split_words("").empty());
}

}  // namespace lockstep::io
