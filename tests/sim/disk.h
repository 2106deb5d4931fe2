// A disk with a volatile cache. Content is a value for each unit of 2 KiB; what was written and not flushed may or
// may not survive a loss of power, each unit for itself.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "io/base/units.h"
#include "tests/sim/random.h"

namespace lockstep::sim {

inline constexpr uint64_t kUnitBytes = 2048;
using Value = uint32_t;  // 0: zeroes; else the number of the write that brought it

class Disk {
 public:
  explicit Disk(uint64_t size_bytes);

  size_t unit_count() const { return content_.size(); }
  Value read(size_t unit) const { return content_[unit]; }
  std::span<const Value> content() const { return content_; }
  Value stable(size_t unit) const { return stable_[unit]; }
  // The unit may read differently after a loss of power.
  bool is_volatile(size_t unit) const { return pending_[unit] != kNone; }

  // Values for each unit of the range, or one for all of them.
  void write(const ByteRange& range, std::span<const Value> values, bool durable);
  // A flush covers what was written before it began.
  uint64_t begin_flush() const { return writes_; }
  void end_flush(uint64_t began);

  // Every unit that is not flushed keeps one of the values that it had since the last flush.
  void lose_power(Random& random);
  // A write that was under way: some of its units arrived.
  void tear(const ByteRange& range, std::span<const Value> values, Random& random);
  void fill(Value value);

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Pending {
    uint64_t order;
    Value value;
    uint32_t unit;
    uint32_t older;
  };
  void put(size_t unit, Value value, bool durable);

  std::vector<Value> content_, stable_;
  std::vector<uint32_t> pending_;  // by unit: newest of its pending values
  std::vector<Pending> pendings_;  // emptied when nothing is pending
  size_t pending_units_ = 0;
  uint64_t writes_ = 0;
};

}  // namespace lockstep::sim
