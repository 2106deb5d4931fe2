// A timer that is set, moved and cancelled often: no allocation, no system call.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "io/loop.h"
#include "io/operation.h"
#include "io/signal.h"

namespace lockstep::io {

// Fires from the loop. After cancel(), or when it is set anew, an earlier setting does not fire any more, also when
// its time had come already. A stopping loop cancels it, and setting it then does nothing.
class Timer final : private TimerEntry {
 public:
  // `fired` (which may be empty) is called each time; it may set or cancel this timer, not destroy it.
  explicit Timer(Loop& loop, std::function<void()> fired = {});
  ~Timer() override;

  // Both replace an earlier setting. Periodic: the next time counts from the last due time, and times that were
  // missed are left out.
  void start_once_ms(uint64_t timeout_ms) { start_once_us(timeout_ms * 1000); }
  void start_once_us(uint64_t timeout_us);
  void start_periodic_ms(uint64_t period_ms);
  void cancel();
  bool armed() const { return armed_; }

  // `co_await timer.wait()`: true when it fires next, false when the loop stops. cancel() does not wake.
  [[nodiscard]] Signal::Waiter wait() { return fired_signal_.wait(); }

 private:
  void run() noexcept override;
  void stopped(RunQueue& queue) noexcept override;

  Loop& loop_;
  std::function<void()> fired_;
  Signal fired_signal_;
  uint64_t due_us_ = 0;
  uint64_t period_us_ = 0;
  bool armed_ = false;
};

}  // namespace lockstep::io
