// Runs the commands of [handlers], beside replication: lockstep.conf(5).
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "io/child_process.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/timer.h"
#include "tools/configuration.h"

namespace lockstep::tools {

class Handlers {
 public:
  static constexpr size_t kAtOnce = 4;
  static constexpr size_t kWaiting = 32;
  static constexpr uint64_t kCloseTimeoutMs = 5000;

  // The loop outlives it; close() comes before the loop stops.
  Handlers(io::Loop& loop, std::string resource, HandlersConfiguration configuration);
  ~Handlers();
  Handlers(const Handlers&) = delete;
  Handlers& operator=(const Handlers&) = delete;

  bool has(HandlerEvent event) const { return !configuration_.command_of(event).empty(); }
  // Nothing, if the event has no handler. Of one event's handlers one runs at a time, in order. `about` says in the
  // log what it was run for. `ended`, if given, is called once, from the loop, never from inside this call: true when
  // the program exited with 0.
  void run(HandlerEvent event, std::string about, std::vector<std::string> environment,
           std::function<void(bool)> ended = {});
  // What runs or waits has a last while to end; then it is killed. `ended` is not called any more.
  io::Task<void> close();

 private:
  struct Job {
    HandlerEvent event = HandlerEvent::Promoted;
    std::string about;
    std::vector<std::string> environment;
    std::function<void(bool)> ended;
  };
  void start_what_may();
  io::Task<void> run_job(Job job);
  bool judge(const Job& job, const io::ChildEnd& end) const;

  io::Loop& loop_;
  const std::string resource_;
  const HandlersConfiguration configuration_;
  std::deque<Job> waiting_;
  std::array<io::ChildProcess*, kHandlerEventCount> children_{};
  std::array<bool, kHandlerEventCount> runs_{};
  size_t running_ = 0;
  io::Gate gate_;
  io::Timer close_timer_;
  bool closing_ = false;
};

}  // namespace lockstep::tools
