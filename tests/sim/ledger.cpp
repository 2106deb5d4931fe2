#include "tests/sim/ledger.h"

#include <algorithm>
#include <utility>

namespace lockstep::sim {

Ledger::Ledger(size_t unit_count) : changed(unit_count), writes_(1), by_unit_(unit_count) {}

uint32_t Ledger::issue(const Layout::Units& units, bool zeroes) {
  Write write;
  write.units = units;
  const auto number = static_cast<uint32_t>(writes_.size());
  write.value = zeroes ? 0 : number;
  write.issued = moment();
  writes_.push_back(write);
  for (size_t unit = units.first; unit < units.end; ++unit) {
    by_unit_[unit].push_back(number);
    changed.add(unit);  // a disk that was wrong may hold it by chance, and then nothing is copied there
  }
  return number;
}

void Ledger::acknowledge(uint32_t number, bool fua) {
  Write& write = writes_[number];
  write.acknowledged = write.ended = moment();
  if (fua) {
    write.durable = true;
    for (size_t unit = write.units.first; unit < write.units.end; ++unit) prune(unit);
  } else {
    unflushed_.push_back(number);
  }
}

void Ledger::give_up(uint32_t number) {
  writes_[number].ended = moment();
}

const std::vector<uint32_t>& Ledger::flushed(uint64_t issued) {
  const auto keep = std::partition(unflushed_.begin(), unflushed_.end(),
                                   [&](uint32_t number) { return writes_[number].acknowledged > issued; });
  covered_.assign(keep, unflushed_.end());
  unflushed_.erase(keep, unflushed_.end());
  for (const uint32_t number : covered_) writes_[number].durable = true;
  for (const uint32_t number : covered_) {
    const Layout::Units& units = writes_[number].units;
    for (size_t unit = units.first; unit < units.end; ++unit) prune(unit);
  }
  return covered_;
}

// Forgets candidates that a durable write replaced, so that lists stay short.
void Ledger::prune(size_t unit) {
  changed.add(unit);
  auto& numbers = by_unit_[unit];
  uint64_t newest_durable = 0;
  for (const uint32_t number : numbers) {
    const Write& write = writes_[number];
    // A read that began before it was acknowledged may see what was there before.
    const bool is_everywhere = reads_.empty() || write.acknowledged < reads_.front();
    if (write.durable && is_everywhere) newest_durable = std::max(newest_durable, write.issued);
  }
  std::erase_if(numbers, [&](uint32_t number) { return writes_[number].ended < newest_durable; });
}

Ledger::Ruling Ledger::ruling(size_t unit, Promise promise, uint64_t since) const {
  Ruling ruling;
  for (const uint32_t number : by_unit_[unit]) {
    const Write& write = writes_[number];
    const bool promised = promise == Promise::Acknowledged ? write.acknowledged < since : write.durable;
    if (promised && write.issued > ruling.before) ruling = {write.issued, number};
  }
  return ruling;
}

bool Ledger::allows(size_t unit, Value value, Promise promise, uint64_t since) const {
  const auto& numbers = by_unit_[unit];
  if (numbers.empty()) return value == 0;
  const uint64_t ruled_out_before = ruling(unit, promise, since).before;
  if (ruled_out_before == 0 && value == 0) return true;
  return std::any_of(numbers.begin(), numbers.end(), [&](uint32_t number) {
    return value_of(number) == value && writes_[number].ended >= ruled_out_before;
  });
}

// Among all writes: candidates of the unit are forgotten when a newer one is durable.
bool Ledger::is_of_or_after(uint32_t write, size_t unit, Value value) const {
  return std::any_of(writes_.begin(), writes_.end(), [&](const Write& each) {
    return each.value == value && each.units.first <= unit && unit < each.units.end &&
           each.ended >= writes_[write].issued;
  });
}

std::string Ledger::objection(size_t unit, Value value, Promise promise, uint64_t since) const {
  return "unit " + std::to_string(unit) + " holds " + std::to_string(value) + ", but write " +
         std::to_string(ruling(unit, promise, since).by) +
         (promise == Promise::Acknowledged ? " was acknowledged" : " was flushed");
}

bool Ledger::lose(const Disk& disk) {
  bool lost = false;
  for (size_t unit = 0; unit < by_unit_.size(); ++unit) {
    lost = lost || !allows(unit, disk.read(unit), Promise::Acknowledged);
    if (allows(unit, disk.stable(unit), Promise::Flushed)) continue;
    for (const uint32_t number : by_unit_[unit]) {
      take_back(number);
    }
  }
  // Older candidates were forgotten when what is lost became durable. Nobody was told of them: the old Primary's may be
  // there again when the new one was lost before it had written anything.
  for (size_t unit = 0; unit < by_unit_.size(); ++unit) {
    for (const Value value : {disk.stable(unit), disk.read(unit)}) {
      if (!allows(unit, value, Promise::Flushed)) write_again(unit, value, false);
    }
  }
  // Nor does a promise keep the disk from what is in its cache, between what is stable and what it reads as.
  disk.each_volatile([this](size_t unit, Value value) {
    if (!allows(unit, value, Promise::Flushed)) remember(unit, value);
  });
  return lost;
}

// It is not promised to be durable any more.
void Ledger::take_back(uint32_t number) {
  Write& write = writes_[number];
  if (!std::exchange(write.durable, false)) return;
  unflushed_.push_back(number);
  for (size_t each = write.units.first; each < write.units.end; ++each) changed.add(each);
}

// As candidates, with the times that they had.
void Ledger::remember(size_t unit, Value value) {
  auto& numbers = by_unit_[unit];
  for (uint32_t number = 1; number < writes_.size(); ++number) {
    const Write& write = writes_[number];
    if (write.value != value || unit < write.units.first || unit >= write.units.end) continue;
    if (std::find(numbers.begin(), numbers.end(), number) != numbers.end()) continue;
    take_back(number);
    numbers.push_back(number);
  }
}

void Ledger::write_again(size_t unit, Value value, bool acknowledged) {
  Write write;
  write.units = {unit, unit + 1};
  write.value = value;
  write.issued = write.ended = moment();
  if (acknowledged) write.acknowledged = write.ended;
  const auto number = static_cast<uint32_t>(writes_.size());
  writes_.push_back(write);
  by_unit_[unit].push_back(number);
  if (acknowledged) unflushed_.push_back(number);
}

void Ledger::accept(std::span<const Value> content, bool acknowledged) {
  for (size_t unit = 0; unit < by_unit_.size(); ++unit) {
    if (allows(unit, content[unit], Promise::Acknowledged)) continue;
    write_again(unit, content[unit], acknowledged);
  }
}

}  // namespace lockstep::sim
