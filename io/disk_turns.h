// How many reads the disk gets at once, so that it and the client do not take turns.
//
// A virtual machine's disk often tells of its requests when all are done, with one interrupt; a client that has its
// answers at once asks for as much at once. Then everything is with the disk, or everything with the client, and each
// waits for the other while processors and disk are idle. If the disk gets a part, the answers to that part are
// followed by new requests while it works on the rest. So the loop holds back some reads when all that the disk had
// ended together, several times in a row; not for long if that changes nothing (a client that waits for all of a batch
// before it goes on), and never with a disk that ends its requests one by one. Writes take part in no such thing:
// docs/decisions/disk-turns.md.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

namespace lockstep::io {

class DiskTurns {
 public:
  // The disk got one more, and has so many.
  void given(size_t at_disk) {
    most_ = std::max(most_, at_disk);
    if (has_ended_some_) ++given_between_;
  }
  // So many of its requests ended; `left` are with it still, `held` wait here.
  void ended(size_t count, size_t left, size_t held) {
    if (count == 0) return;
    const bool is_idle = left == 0 && held == 0;
    since_ += count;
    has_ended_some_ = !is_idle;
    if (limit_ == kNone) {
      if (is_idle) note_idle(std::exchange(most_, 0), std::exchange(given_between_, 0));
      return;
    }
    if (is_idle) ++idle_;
    if (since_ < trial_ends_) return;
    if (idle_ * batch_ * 2 > since_ - trial_began_) return give_all(std::min(2 * pause_, kLongestPause));
    if (since_ >= kLooksAgain) return give_all(0);
    pause_ = kShortestPause;
    begin_trial();
  }

  // At least 1.
  size_t limit() const { return limit_; }

  static constexpr size_t kNone = std::numeric_limits<size_t>::max();
  static constexpr size_t kBatch = 8;             // fewer are no batch
  static constexpr size_t kTurns = 4;             // in a row
  static constexpr size_t kTrial = 16;            // batches, after which a limit has helped or has not
  static constexpr size_t kLooksAgain = 16'384;   // requests, then the limit is found anew
  static constexpr size_t kShortestPause = 4096;  // requests without a limit, after one that did not help
  static constexpr size_t kLongestPause = 1 << 20;

 private:
  // The disk had so many, and while they ended it got no more, or few.
  void note_idle(size_t batch, size_t given_between) {
    turns_ = batch >= kBatch && given_between * 2 <= batch ? turns_ + 1 : 0;
    if (turns_ < kTurns || since_ < not_before_) return;
    batch_ = batch;
    limit_ = std::max<size_t>(batch * 11 / 16, 1);
    since_ = 0;
    begin_trial();
  }

  void begin_trial() {
    trial_began_ = since_;
    trial_ends_ = since_ + kTrial * batch_;
    idle_ = 0;
  }

  void give_all(size_t pause) {
    limit_ = kNone;
    turns_ = since_ = most_ = given_between_ = 0;
    not_before_ = pause;
    pause_ = std::max(pause, kShortestPause);
  }

  size_t limit_ = kNone;
  size_t since_ = 0;  // requests that ended since the limit changed
  // Since the disk was idle:
  bool has_ended_some_ = false;
  size_t given_between_ = 0;  // when it had ended some
  size_t most_ = 0;           // that it had at once
  size_t turns_ = 0;
  size_t not_before_ = 0;
  size_t pause_ = kShortestPause / 2;
  size_t batch_ = 0;
  size_t trial_began_ = 0, trial_ends_ = 0;
  size_t idle_ = 0;  // how often the disk had nothing to do, in this trial
};

}  // namespace lockstep::io
