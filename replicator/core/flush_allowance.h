// How much may be written before the node flushes by itself, where no client flushes.
//
// Many writes cost a disk less each if they are flushed together, but a flush that takes long holds up whoever writes
// or flushes meanwhile, and a peer that takes longer than its timeout is lost. So as much is let pass as the disks of
// the pair flush in a given time, judged by the flushes of half of that or more: one that took longer shrinks the
// allowance to what it would have done in time, one that took less than half the time doubles it.
//
// Long writes take as long to flush for each MiB, however many they are: nothing is won by letting many of them pass,
// so there is a limit to their bytes as well, and nobody waits long for them.
//
// Pure arithmetic on what it is told: same calls, same allowance.
#pragma once

#include <algorithm>
#include <cstdint>

#include "io/base/units.h"

namespace lockstep::repl {

class FlushAllowance {
 public:
  // In short writes. It begins with a sixth of `most`: a flush that is too long may cost the peer, one that is too
  // small costs little.
  FlushAllowance(uint64_t most, uint64_t wanted_us)
      : most_(std::max<uint64_t>(most, 1)),
        least_(std::max<uint64_t>(most_ / 48, 1)),
        wanted_us_(std::max<uint64_t>(wanted_us, 1)),
        allowance_(std::max<uint64_t>(most_ / 6, 1)) {}

  // One of 16 KiB counts as two, and so on.
  void wrote(uint64_t payload_bytes) {
    unflushed_ += 1 + payload_bytes / kBytesOfAWrite;
    if (payload_bytes > kBytesOfAWrite) unflushed_long_bytes_ += payload_bytes;
  }
  bool is_used_up() const { return unflushed_ >= allowance_ || unflushed_long_bytes_ >= kMostLongBytes; }

  // A flush of all that was written until now, by whomever it is wanted; one at a time.
  void flush_began(uint64_t now_us) {
    flushing_ = unflushed_;
    unflushed_ = unflushed_long_bytes_ = 0;
    began_us_ = now_us;
  }
  // It ended on all nodes that were asked.
  void flush_ended(uint64_t now_us) {
    const uint64_t took_us = now_us - began_us_;
    if (flushing_ < allowance_ / 2) return;  // too little to say how long more would take
    if (took_us > wanted_us_) {
      const double in_time =
          static_cast<double>(flushing_) * static_cast<double>(wanted_us_) / static_cast<double>(took_us);
      allowance_ = std::max(least_, std::min(allowance_, static_cast<uint64_t>(in_time)));
    } else if (took_us <= wanted_us_ / 2) {
      allowance_ = std::min(allowance_ * 2, most_);
    }
  }

  static constexpr uint64_t kBytesOfAWrite = 16 * kKiB;
  static constexpr uint64_t kMostLongBytes = 48 * kMiB;  // docs/decisions/own-flushes.md

 private:
  uint64_t most_, least_, wanted_us_;
  uint64_t allowance_;
  uint64_t unflushed_ = 0;
  uint64_t unflushed_long_bytes_ = 0;
  uint64_t flushing_ = 0;
  uint64_t began_us_ = 0;
};

}  // namespace lockstep::repl
