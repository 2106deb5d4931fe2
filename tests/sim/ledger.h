// What the application was promised, unit by unit: which values a unit may hold. Kept outside of everything simulated.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/sim/disk.h"

namespace lockstep::sim {

enum class Promise : uint8_t {
  Acknowledged,  // every answered write is there
  Flushed,       // every write that an answered flush covers is there
};

class Ledger {
 public:
  explicit Ledger(size_t unit_count);

  // A write is issued; its number is its value unless it brings zeroes. Numbers are never used twice.
  uint32_t issue(const ByteRange& range, bool zeroes);
  void acknowledge(uint32_t write, bool fua);
  // The write will not be answered any more: its client is gone, or was told of an error. It may have happened.
  void give_up(uint32_t write);
  Value value_of(uint32_t write) const { return writes_[write].zeroes ? 0 : write; }
  const ByteRange& range_of(uint32_t write) const { return writes_[write].range; }

  // Moments, to compare reads and flushes with writes.
  uint64_t moment() { return ++clock_; }
  // A flush that was issued at `issued` was answered: returns the writes that are promised durable by it.
  std::vector<uint32_t> flushed(uint64_t issued);

  // Empty, or what is wrong with `value` in `unit` under the promise, seen by somebody who looked from `since` on.
  std::string objection(size_t unit, Value value, Promise promise, uint64_t since = UINT64_MAX) const;

  // From now on `content` is what the application relies on: after a loss of power took unflushed writes, or an
  // operator gave up a copy.
  void rebase(std::span<const Value> content);
  bool watches(size_t unit) const { return !by_unit_[unit].empty(); }
  size_t write_count() const { return writes_.size() - 1; }

 private:
  struct Write {
    ByteRange range;
    bool zeroes = false;
    bool durable = false;
    uint64_t issued = 0;
    uint64_t acknowledged = UINT64_MAX;
    uint64_t ended = UINT64_MAX;
  };
  void prune(size_t unit);

  std::vector<Write> writes_;
  std::vector<uint32_t> unflushed_;             // acknowledged writes that no flush covers yet
  std::vector<std::vector<uint32_t>> by_unit_;  // candidates, in order of issue
  std::vector<Value> base_;
  uint64_t clock_ = 0;
};

}  // namespace lockstep::sim
