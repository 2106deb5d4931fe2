// How long things take, for `lockstep metrics`: counts in buckets, as Prometheus's histograms have them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "io/block_backend.h"
#include "replicator/core/message.h"
#include "replicator/core/types.h"

namespace lockstep::repl {

class LatencyHistogram {
 public:
  // Upper bounds of the buckets, in microseconds; one more bucket has no bound.
  static constexpr std::array<uint64_t, 16> kBoundsUs{50,      100,       200,       500,      1'000,   2'000,
                                                      5'000,   10'000,    20'000,    50'000,   100'000, 200'000,
                                                      500'000, 1'000'000, 2'000'000, 5'000'000};

  void record(uint64_t latency_us) {
    const auto bucket = std::lower_bound(kBoundsUs.begin(), kBoundsUs.end(), latency_us) - kBoundsUs.begin();
    ++counts_[static_cast<size_t>(bucket)];
    ++count_;
    sum_us_ += latency_us;
  }
  // Of each bucket alone; the last is that without a bound.
  const std::array<uint64_t, kBoundsUs.size() + 1>& counts() const { return counts_; }
  uint64_t count() const { return count_; }
  uint64_t sum_us() const { return sum_us_; }

 private:
  std::array<uint64_t, kBoundsUs.size() + 1> counts_{};
  uint64_t count_ = 0;
  uint64_t sum_us_ = 0;
};

// Times a write on its way to a peer and back, and then the next that is sent: one at a time, so that it costs nothing.
class PeerProbe {
 public:
  void write_sent(Sequence sequence, uint64_t now_us) {
    if (sequence_ != 0) return;
    sequence_ = sequence;
    sent_us_ = now_us;
  }
  void acknowledged(Sequence written_through, uint64_t now_us) {
    if (sequence_ == 0 || written_through < sequence_) return;
    sequence_ = 0;
    written_.record(now_us - sent_us_);
  }
  void link_lost() { sequence_ = 0; }
  const LatencyHistogram& written() const { return written_; }

 private:
  Sequence sequence_ = 0;  // 0: none is on its way
  uint64_t sent_us_ = 0;
  LatencyHistogram written_;
};

struct DriverLatencies {
  std::array<LatencyHistogram, 5> requests;  // of clients, by io::BlockOperation: from arrival to the answer
  LatencyHistogram local_write;              // a client's write on the local disk
  LatencyHistogram local_flush;
  std::array<PeerProbe, kMaximumPeers> peers;

  LatencyHistogram& of(io::BlockOperation operation) { return requests[static_cast<size_t>(operation)]; }
};

}  // namespace lockstep::repl
