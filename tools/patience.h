#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "io/base/result.h"

namespace lockstep::tools {

// The kernel ends the ring of a process that was killed after the process itself, and until then its files are locked
// and its addresses taken by nobody that one could find. A node that is started again at once, as systemd does it,
// waits; so does what works on the files of a node that was killed.
class Patience {
 public:
  // `say` is told once, with what stands in the way, when it begins to wait.
  explicit Patience(std::function<void(const std::string&)> say) : say_(std::move(say)) {}

  // `open` again and again while what it opens is Busy.
  template <typename Open>
  auto when_free(Open open) {
    while (true) {
      auto outcome = open();
      if (outcome.ok() || outcome.error().kind != ErrorKind::Busy || std::chrono::steady_clock::now() >= end_) {
        return outcome;
      }
      if (!said_) say_(outcome.error().message + " (waiting for it, at most " + std::to_string(kSeconds) + " s)");
      said_ = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

 private:
  static constexpr int kSeconds = 5;
  std::function<void(const std::string&)> say_;
  std::chrono::steady_clock::time_point end_ = std::chrono::steady_clock::now() + std::chrono::seconds(kSeconds);
  bool said_ = false;
};

}  // namespace lockstep::tools
