#include "io/timer.h"

namespace lockstep::io {

Timer::Timer(Loop& loop, std::function<void()> fired) : loop_(loop), fired_(std::move(fired)), fired_signal_(loop) {}

Timer::~Timer() {
  cancel();
}

void Timer::start_once_us(uint64_t timeout_us) {
  cancel();
  period_us_ = 0;
  due_us_ = loop_.now_us() + timeout_us;
  armed_ = true;
  loop_.set_timer(*this, due_us_);
}

void Timer::start_periodic_ms(uint64_t period_ms) {
  LOCKSTEP_CHECK(period_ms > 0);
  cancel();
  period_us_ = period_ms * 1000;
  due_us_ = loop_.now_us() + period_us_;
  armed_ = true;
  loop_.set_timer(*this, due_us_);
}

void Timer::cancel() {
  loop_.clear_timer(*this);
  unlink();  // it may have come due in this turn, and not have run yet
  armed_ = false;
}

void Timer::run() noexcept {
  armed_ = period_us_ != 0;
  if (armed_) {
    const uint64_t late_us = loop_.now_us() - due_us_;
    due_us_ += period_us_ * (1 + late_us / period_us_);
    loop_.set_timer(*this, due_us_);
  }
  fired_signal_.notify_all();
  if (fired_) fired_();
}

void Timer::stopped(RunQueue& /*queue*/) noexcept {
  armed_ = false;
}

}  // namespace lockstep::io
