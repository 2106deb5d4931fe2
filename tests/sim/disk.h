// A disk with a volatile cache. Content is a value for each unit of the layout; what was written and not flushed may
// or may not survive a loss of power, each unit for itself.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "tests/sim/changed_units.h"
#include "tests/sim/layout.h"
#include "tests/sim/random.h"

namespace lockstep::sim {

using Value = uint32_t;  // 0: zeroes; else the number of the write that brought it

class Disk {
 public:
  explicit Disk(size_t unit_count);

  Value read(size_t unit) const { return content_[unit]; }
  std::span<const Value> content() const { return content_; }
  Value stable(size_t unit) const { return stable_[unit]; }
  // The unit may read differently after a loss of power.
  bool is_volatile(size_t unit) const { return pending_[unit] != 0; }
  bool all_stable() const { return pendings_.empty(); }
  // … and may then hold any of these.
  template <typename F>
  void each_volatile(F&& visit) const {
    for (const Pending& pending : pendings_) {
      if (pending.order > stable_since_[pending.unit]) visit(size_t{pending.unit}, pending.value);
    }
  }

  // Values for each unit, or one for all of them.
  void write(const Layout::Units& units, std::span<const Value> values, bool durable);
  // A flush covers what was written before it began.
  uint64_t begin_flush() const { return writes_; }
  void end_flush(uint64_t began);

  // Every unit that is not flushed keeps one of the values that it had since the last flush.
  void lose_power(Random& random);
  // A write that was under way: some of its units arrived.
  void tear(const Layout::Units& units, std::span<const Value> values, Random& random);

  // The medium gives other content than what was written, and says nothing.
  void rot(size_t unit) {
    constexpr Value kRotten = 0xFFFFFFF0;
    content_[unit] = stable_[unit] = kRotten;
  }

  // Units whose content or stability changed since they were cleared.
  ChangedUnits changed;

 private:
  struct Pending {
    uint64_t order;
    Value value;
    uint32_t unit;
  };
  void put(size_t unit, Value value, bool durable);

  std::vector<Value> content_, stable_;
  std::vector<uint32_t> pending_;       // by unit: how many of its values are not stable yet
  std::vector<uint64_t> stable_since_;  // by unit: values of this order and older are of no account any more
  std::deque<Pending> pendings_;        // in order
  std::vector<uint8_t> decided_;        // by unit, while power is lost
  uint64_t writes_ = 0;
};

}  // namespace lockstep::sim
