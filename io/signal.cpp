#include "io/signal.h"

#include "io/loop.h"

namespace lockstep::io {

Signal::Signal(Loop& loop) : loop_(loop), next_of_loop_(loop.signals_) {
  if (next_of_loop_ != nullptr) next_of_loop_->previous_of_loop_ = this;
  loop.signals_ = this;
}

Signal::~Signal() {
  wake_all(false);
  (previous_of_loop_ == nullptr ? loop_.signals_ : previous_of_loop_->next_of_loop_) = next_of_loop_;
  if (next_of_loop_ != nullptr) next_of_loop_->previous_of_loop_ = previous_of_loop_;
}

void Signal::wake_all(bool notified) {
  while (first_ != nullptr) {
    Waiter* waiter = first_;
    waiter->leave();
    waiter->notified_ = notified;
    waiter->waiting_->schedule();
  }
}

void Signal::Waiter::enter() {
  entered_ = true;
  previous_ = signal_->last_;
  next_ = nullptr;
  (previous_ == nullptr ? signal_->first_ : previous_->next_) = this;
  signal_->last_ = this;
}

void Signal::Waiter::leave() {
  if (!entered_) return;
  entered_ = false;
  (previous_ == nullptr ? signal_->first_ : previous_->next_) = next_;
  (next_ == nullptr ? signal_->last_ : next_->previous_) = previous_;
}

void Gate::leave() {
  LOCKSTEP_CHECK(inside_ > 0);
  --inside_;
  if (inside_ == 0) left_.notify_all();
}

Task<void> Gate::emptied() {
  while (inside_ > 0) co_await left_.wait();
}

}  // namespace lockstep::io
