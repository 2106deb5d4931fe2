// What the application was promised, unit by unit: which values a unit may hold. Kept outside of everything simulated.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/sim/changed_units.h"
#include "tests/sim/disk.h"
#include "tests/sim/layout.h"

namespace lockstep::sim {

enum class Promise : uint8_t {
  Acknowledged,  // every answered write is there
  Flushed,       // every write that an answered flush covers is there
};

class Ledger {
 public:
  explicit Ledger(size_t unit_count);

  // A write is issued; its number is its value unless it brings zeroes. Numbers are never used twice.
  uint32_t issue(const Layout::Units& units, bool zeroes);
  void acknowledge(uint32_t write, bool fua);
  // The write will not be answered any more: its client is gone, or was told of an error. It may have happened.
  void give_up(uint32_t write);
  Value value_of(uint32_t write) const { return writes_[write].value; }
  const Layout::Units& units_of(uint32_t write) const { return writes_[write].units; }

  // Moments, to compare reads and flushes with writes.
  uint64_t moment() { return ++clock_; }
  // A read begins: what it may see is kept until it ended.
  uint64_t begin_read() { return reads_.emplace_back(moment()); }
  void end_read(uint64_t began) { std::erase(reads_, began); }
  // A flush that was issued at `issued` was answered: the writes that are promised durable by it. Valid until the
  // next call.
  const std::vector<uint32_t>& flushed(uint64_t issued);

  // `value` is one that `unit` may hold under the promise, for somebody who looked from `since` on.
  bool allows(size_t unit, Value value, Promise promise, uint64_t since = UINT64_MAX) const;
  // It is what `write` brought to the unit, or a write that had not ended when that one was issued.
  bool is_of_or_after(uint32_t write, size_t unit, Value value) const;
  // Why it may not.
  std::string objection(size_t unit, Value value, Promise promise, uint64_t since = UINT64_MAX) const;

  // The application was given `content` after a loss of power took writes that were acknowledged and not flushed: where
  // it shows an older value, that is the acknowledged one from now on, as if it had been written again. Not
  // `acknowledged`: that, or what it was.
  void accept(std::span<const Value> content, bool acknowledged);
  // Its Primary is gone, and `disk` is all there is. What was flushed and is not on its stable storage is promised to
  // nobody any more; until somebody flushes, it may come back with the old Primary. False when nothing is missing.
  bool lose(const Disk& disk);
  size_t write_count() const { return writes_.size() - 1; }

  // Units whose allowed flushed values changed since they were cleared.
  ChangedUnits changed;

 private:
  struct Write {
    Layout::Units units;
    Value value = 0;
    bool durable = false;
    uint64_t issued = 0;
    uint64_t acknowledged = UINT64_MAX;
    uint64_t ended = UINT64_MAX;
  };
  struct Ruling {
    uint64_t before = 0;  // a promised write rules out everything that had ended before it was issued
    uint32_t by = 0;
  };
  Ruling ruling(size_t unit, Promise promise, uint64_t since) const;
  void prune(size_t unit);
  void write_again(size_t unit, Value value, bool acknowledged);
  void take_back(uint32_t number);
  void remember(size_t unit, Value value);

  std::vector<Write> writes_;
  std::vector<uint32_t> unflushed_;             // acknowledged writes that no flush covers yet
  std::vector<uint64_t> reads_;                 // when those under way began, oldest first
  std::vector<uint32_t> covered_;               // by the last flush
  std::vector<std::vector<uint32_t>> by_unit_;  // candidates, in order of issue
  uint64_t clock_ = 0;
};

}  // namespace lockstep::sim
