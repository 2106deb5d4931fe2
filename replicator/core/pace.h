// How much of a resync may be on its way, so that the application does not feel it.
//
// The application's writes are timed as they end. While none are in flight for a while, the window grows to its
// maximum. While there are some, their mean latency of each period is compared with what it is without a resync, which
// is learnt whenever none runs, and else in short breaks now and then: above twice that the window is halved, below one
// and a half times it grows by a step. So it is, too, when more than one write in a hundred takes longer than twice
// what one in a hundred takes without: a mean hides those that queue behind a copy. What is copied at once is a part of
// the window, for the same reason. A resync that the application would starve keeps its minimum rate.
//
// Pure arithmetic on what it is told: same calls, same window.
#pragma once

#include <algorithm>
#include <cstdint>

#include "io/base/units.h"
#include "replicator/core/usual_latencies.h"

namespace lockstep::repl {

struct PaceOptions {
  uint64_t maximum_bytes_per_second = 0;  // 0: as fast as it goes
  uint64_t minimum_bytes_per_second = 4 * kMiB;
};

class Pace {
 public:
  explicit Pace(const PaceOptions& options) : options_(options) {}

  // An application's write began: after a quiet time it must not queue behind all that was allowed meanwhile.
  void write_began(uint64_t now_us) {
    if (now_us - last_write_us_ > kPeriodUs) window_bytes_ = std::min(window_bytes_, kCautiousWindowBytes);
    last_write_us_ = now_us;
  }
  // An application's write ended.
  void write_ended(uint64_t latency_us) {
    latency_sum_us_ += latency_us;
    ++writes_;
    if (undisturbed_) usual_.record(latency_us);
    if (usual_high_us_ != 0 && latency_us > 2 * usual_high_us_) ++slow_writes_;
  }
  // A copy of so many bytes was read to be sent.
  void copied(uint64_t bytes) {
    copied_bytes_ += bytes;
    if (options_.maximum_bytes_per_second == 0) return;
    budget_bytes_ -= static_cast<int64_t>(bytes);  // a copy that is larger than what is left is paid for by the next
  }

  // At each tick. `copying`: a resync wants to go on.
  void ticked(uint64_t now_us, bool copying) {
    // What was on its way when a break began ends in its first half.
    if (on_break_ && !settled_ && now_us - period_began_us_ >= kBreakUs / 2) {
      settled_ = undisturbed_ = true;
      latency_sum_us_ = writes_ = 0;
    }
    if (last_tick_us_ == 0) last_tick_us_ = period_began_us_ = now_us;
    const uint64_t passed_us = now_us - last_tick_us_;
    last_tick_us_ = now_us;
    if (options_.maximum_bytes_per_second != 0) {
      // Never saves up more than a tenth of a second: a limit that is exceeded after a pause is none.
      const uint64_t earned = options_.maximum_bytes_per_second * passed_us / 1'000'000;
      const uint64_t most = std::max(options_.maximum_bytes_per_second / 10, kStepBytes);
      budget_bytes_ = std::min(budget_bytes_ + static_cast<int64_t>(earned), static_cast<int64_t>(most));
    }
    if (now_us - period_began_us_ >= (on_break_ ? kBreakUs : kPeriodUs)) end_period(now_us, copying);
    // An application that writes when a resync begins must not wait until too much of it was seen.
    const bool begins = copying && !was_copying_;
    if (begins && (application_writes_ || writes_ > 0)) window_bytes_ = std::min(window_bytes_, kFirstWindowBytes);
    was_copying_ = copying;
    undisturbed_ = on_break_ ? settled_ : !copying;
  }

  // What may be on its way now. Nothing during a break.
  uint64_t window_bytes() const { return on_break_ ? 0 : window_bytes_; }
  // What may be read now, by the maximum rate.
  bool has_budget() const { return options_.maximum_bytes_per_second == 0 || budget_bytes_ > 0; }
  // What may be copied at once, of at most so many bytes.
  uint64_t chunk_bytes(uint64_t most) const {
    return application_writes_ ? std::min(most, std::max(window_bytes_ / 4, kMinimumWindowBytes)) : most;
  }
  uint64_t usual_latency_us() const { return usual_us_; }

  static constexpr uint64_t kMaximumWindowBytes = 8 * kMiB;
  static constexpr uint64_t kMinimumWindowBytes = 64 * kKiB;
  static constexpr uint64_t kStepBytes = 256 * kKiB;
  static constexpr uint64_t kPeriodUs = 100'000;
  static constexpr uint64_t kBreakUs = 60'000;
  static constexpr uint64_t kBreakEveryPeriods = 100;  // 10 s
  static constexpr uint64_t kEnoughWrites = 4;         // in a period, to say something of it

 private:
  void end_period(uint64_t now_us, bool copying) {
    const uint64_t length_us = now_us - period_began_us_;
    const uint64_t rate = copied_bytes_ * 1'000'000 / length_us;
    const uint64_t mean_us = writes_ == 0 ? 0 : latency_sum_us_ / writes_;
    const bool undisturbed = on_break_ || !copying;
    on_break_ = false;
    application_writes_ = writes_ > 0;
    if (undisturbed) {
      if (writes_ >= kEnoughWrites) learn(mean_us);
      if (writes_ > 0) usual_high_us_ = usual_.high_us();
    } else {
      adapt(mean_us, rate);
      if (++periods_since_break_ >= kBreakEveryPeriods || (usual_us_ == 0 && writes_ >= kEnoughWrites)) {
        periods_since_break_ = 0;
        // Nothing is learnt from a break in which the application does nothing; then none is needed.
        on_break_ = writes_ > 0;
        settled_ = false;
      }
    }
    period_began_us_ = now_us;
    latency_sum_us_ = writes_ = slow_writes_ = copied_bytes_ = 0;
  }

  // Quickly down, slowly up: a slow moment must not pass for what is usual.
  void learn(uint64_t mean_us) {
    if (usual_us_ == 0 || mean_us < usual_us_) {
      usual_us_ = std::max<uint64_t>(mean_us, 1);
    } else {
      usual_us_ += (mean_us - usual_us_) / 4;
    }
  }

  void adapt(uint64_t mean_us, uint64_t rate) {
    // Of some periods, since one has few of them.
    recent_writes_ += writes_ - recent_writes_ / 4;
    recent_slow_writes_ += 64 * slow_writes_ - recent_slow_writes_ / 4;
    const bool many_slow = 100 * recent_slow_writes_ > 64 * recent_writes_;
    const bool few_slow = 200 * recent_slow_writes_ < 64 * recent_writes_;
    if (writes_ == 0) {
      window_bytes_ = std::min(window_bytes_ * 2, kMaximumWindowBytes);
    } else if (usual_us_ == 0) {
      window_bytes_ = std::min(window_bytes_, kCautiousWindowBytes);
    } else if ((mean_us > 2 * usual_us_ || many_slow) && rate > options_.minimum_bytes_per_second) {
      window_bytes_ = std::max(window_bytes_ / 2, kMinimumWindowBytes);
    } else if ((2 * mean_us < 3 * usual_us_ && few_slow) || rate < options_.minimum_bytes_per_second) {
      window_bytes_ = std::min(window_bytes_ + kStepBytes, kMaximumWindowBytes);
    }
  }

  static constexpr uint64_t kCautiousWindowBytes = kMiB;
  static constexpr uint64_t kFirstWindowBytes = 256 * kKiB;

  PaceOptions options_;
  uint64_t window_bytes_ = kMaximumWindowBytes;
  int64_t budget_bytes_ = 0;
  uint64_t usual_us_ = 0;
  uint64_t last_tick_us_ = 0, period_began_us_ = 0;
  UsualLatencies usual_;
  uint64_t latency_sum_us_ = 0, writes_ = 0, copied_bytes_ = 0;
  uint64_t usual_high_us_ = 0;
  uint64_t slow_writes_ = 0;
  uint64_t recent_writes_ = 0, recent_slow_writes_ = 0;  // the latter in 64ths
  uint64_t periods_since_break_ = 0;
  uint64_t last_write_us_ = 0;
  bool on_break_ = false;
  bool settled_ = false;
  bool undisturbed_ = true;
  bool was_copying_ = false;
  bool application_writes_ = false;
};

}  // namespace lockstep::repl
