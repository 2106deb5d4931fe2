// Whether a write is to be made durable by itself because a flush will follow it, and whether a flush has anything to
// do, or may succeed at all.
//
// A database that commits writes once, waits, flushes, and waits again. Where the disk has been used like that for a
// while a write that is alone is made durable at once, so that its flush finds nothing left to do: one way to the disk
// instead of two, on each node. Only where everything before is stable: the failure of such a write is then its own,
// and says nothing of others.
#pragma once

#include <cstdint>

namespace lockstep::repl {

class FlushGuess {
 public:
  // A write that may be durable only when it is flushed; true: it is to be durable when it ends.
  bool write_starts() {
    const bool is_alone = in_flight_ == 0 && since_flush_ == 0 && is_all_stable();
    const bool guessed = is_alone && streak_ >= kTrusted;
    ++in_flight_;
    if (++since_flush_ > 1) streak_ = 0;
    return guessed;
  }
  // `durable`: it was, by the guess or because it was asked for. One that failed may have happened in part. Where one
  // fails that was to be durable it may be its sync that did, which then took with it what others had written.
  void write_ended(bool durable, bool failed) {
    --in_flight_;
    if (durable && failed && (in_flight_ > 0 || !is_all_stable())) may_have_lost_ = true;
    if (!durable || failed) ++volatile_;
  }
  // Durable because it was asked for; it ends with write_ended().
  void durable_write_starts() { ++in_flight_; }

  // A flush is asked for. False: everything that it covers is on stable storage.
  bool flush_starts() {
    if (since_flush_ == 1 && streak_ < kTrusted) ++streak_;
    if (since_flush_ > 1) streak_ = 0;
    since_flush_ = spared_ = 0;
    if (is_all_stable()) return false;
    covers_ = volatile_;
    return true;
  }
  // One for which flush_starts() gave true.
  void flush_ended(bool failed) {
    if (!failed) stable_ = covers_;
  }

  bool is_all_stable() const { return stable_ == volatile_; }
  // No flush may succeed any more: what it would cover may be gone, and the kernel would not say so twice.
  bool may_have_lost() const { return may_have_lost_; }
  // A write ended, all was stable, and who would ask for the flush was told so: none comes for it. That one would have
  // come is assumed, so many times; then a few writes have to show it again.
  void flush_spared() {
    if (since_flush_ != 1) return;
    since_flush_ = 0;
    if (++spared_ < kAssumed) return;
    streak_ = spared_ = 0;
  }

  static constexpr uint32_t kTrusted = 4;    // so many flushes in turn, of one write each
  static constexpr uint32_t kAssumed = 256;  // so many that do not come

 private:
  uint32_t in_flight_ = 0;
  uint32_t since_flush_ = 0;  // writes that started since the last flush
  uint32_t streak_ = 0;
  uint32_t spared_ = 0;  // flushes that were assumed since one came
  // Writes that have ended and may be in the disk's cache: their number, and how many of them were flushed since. One
  // from the start: what an earlier process wrote.
  uint64_t volatile_ = 1;
  uint64_t stable_ = 0;
  uint64_t covers_ = 0;
  bool may_have_lost_ = false;
};

}  // namespace lockstep::repl
