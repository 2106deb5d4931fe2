// Wakes each session that has replies to send once a turn of the loop, after all completions of the turn: the replies
// of a turn then leave in one system call for each connection.
#pragma once

#include "io/loop.h"
#include "io/run_queue.h"

namespace lockstep::nbd {

class ReplyTurn final : public io::TurnObserver {
 public:
  // The loop must outlive this.
  explicit ReplyTurn(io::Loop& loop) : loop_(loop) { loop_.add_turn_observer(*this); }
  ~ReplyTurn() override { loop_.remove_turn_observer(*this); }
  ReplyTurn(const ReplyTurn&) = delete;
  ReplyTurn& operator=(const ReplyTurn&) = delete;

  // `sender` is run when this turn ends. Any number of times in a turn.
  void wake_at_turn_end(io::Runnable& sender) {
    if (!sender.listed()) ready_.push(sender);
  }

  void turn_ended() noexcept override {
    while (io::Runnable* sender = ready_.pop()) loop_.defer(*sender);
  }

 private:
  io::Loop& loop_;
  io::RunList ready_;
};

}  // namespace lockstep::nbd
