// A program that is run for its exit status: fencing, event handlers. The loop goes on meanwhile.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/base/result.h"
#include "io/loop.h"
#include "io/task.h"
#include "io/timer.h"

namespace lockstep::io {

struct ChildSpec {
  std::vector<std::string> arguments;    // the program first, an absolute path: there is no shell and no search
  std::vector<std::string> environment;  // "NAME=VALUE"; nothing of this process is passed on
  uint64_t deadline_ms = 30'000;         // then it, and what it started, is killed
};

struct ChildEnd {
  int exit_code = -1;  // -1 when it did not exit by itself
  bool timed_out = false;
  std::string output;  // of stdout and stderr; at most kChildOutputBytes, what is more fails where it is written
};

inline constexpr size_t kChildOutputBytes = 64 * 1024;

class ChildProcess {
 public:
  // The program runs in "/", in a process group of its own, with default signals and /dev/null as its stdin.
  static Result<std::unique_ptr<ChildProcess>> start(Loop& loop, const ChildSpec& spec);
  // Kills the child if it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Once, and this object must outlive it. When the loop stops the child is killed.
  Task<ChildEnd> ended();
  // SIGKILL for it and what it started; ended() follows.
  void kill();

 private:
  ChildProcess(Loop& loop, pid_t process, int pid_fd, int output_fd, uint64_t deadline_ms);

  Loop& loop_;
  pid_t process_;  // 0 once it was reaped
  int pid_fd_;
  int output_fd_;
  bool timed_out_ = false;
  Timer deadline_;
};

// Words between spaces, as a configuration writes a command.
std::vector<std::string> split_words(const std::string& text);

}  // namespace lockstep::io
