#include "tests/sim/ledger.h"

#include <algorithm>

namespace lockstep::sim {

Ledger::Ledger(size_t unit_count) : writes_(1), by_unit_(unit_count), base_(unit_count, 0) {}

uint32_t Ledger::issue(const ByteRange& range, bool zeroes) {
  Write write;
  write.range = range;
  write.zeroes = zeroes;
  write.issued = moment();
  writes_.push_back(write);
  const auto number = static_cast<uint32_t>(writes_.size() - 1);
  for (uint64_t unit = range.offset_bytes / kUnitBytes; unit < range.end_bytes() / kUnitBytes; ++unit) {
    by_unit_[unit].push_back(number);
  }
  return number;
}

void Ledger::acknowledge(uint32_t number, bool fua) {
  Write& write = writes_[number];
  write.acknowledged = write.ended = moment();
  if (fua) {
    write.durable = true;
    for (uint64_t unit = write.range.offset_bytes / kUnitBytes; unit < write.range.end_bytes() / kUnitBytes; ++unit) {
      prune(unit);
    }
  } else {
    unflushed_.push_back(number);
  }
}

void Ledger::give_up(uint32_t number) {
  writes_[number].ended = moment();
}

std::vector<uint32_t> Ledger::flushed(uint64_t issued) {
  std::vector<uint32_t> covered;
  const auto keep = std::partition(unflushed_.begin(), unflushed_.end(),
                                   [&](uint32_t number) { return writes_[number].acknowledged > issued; });
  covered.assign(keep, unflushed_.end());
  unflushed_.erase(keep, unflushed_.end());
  for (const uint32_t number : covered) writes_[number].durable = true;
  for (const uint32_t number : covered) {
    const ByteRange& range = writes_[number].range;
    for (uint64_t unit = range.offset_bytes / kUnitBytes; unit < range.end_bytes() / kUnitBytes; ++unit) prune(unit);
  }
  return covered;
}

// Forgets candidates that a durable write replaced, so that lists stay short.
void Ledger::prune(size_t unit) {
  auto& numbers = by_unit_[unit];
  uint64_t newest_durable = 0;
  for (const uint32_t number : numbers) {
    if (writes_[number].durable) newest_durable = std::max(newest_durable, writes_[number].issued);
  }
  std::erase_if(numbers, [&](uint32_t number) { return writes_[number].ended < newest_durable; });
}

std::string Ledger::objection(size_t unit, Value value, Promise promise, uint64_t since) const {
  const auto& numbers = by_unit_[unit];
  // A promised write rules out everything that had ended before it was issued.
  uint64_t rules_out_before = 0;
  uint32_t by = 0;
  for (const uint32_t number : numbers) {
    const Write& write = writes_[number];
    const bool promised = promise == Promise::Acknowledged ? write.acknowledged < since : write.durable;
    if (promised && write.issued > rules_out_before) {
      rules_out_before = write.issued;
      by = number;
    }
  }
  if (rules_out_before == 0 && value == base_[unit]) return {};
  for (const uint32_t number : numbers) {
    if (value_of(number) == value && writes_[number].ended >= rules_out_before) return {};
  }
  return "unit " + std::to_string(unit) + " holds " + std::to_string(value) + ", but write " + std::to_string(by) +
         (promise == Promise::Acknowledged ? " was acknowledged" : " was flushed") + " (base " +
         std::to_string(base_[unit]) + ")";
}

void Ledger::rebase(std::span<const Value> content) {
  unflushed_.clear();
  for (size_t unit = 0; unit < by_unit_.size(); ++unit) {
    base_[unit] = content[unit];
    // Writes under way go on and may still be answered.
    std::erase_if(by_unit_[unit], [&](uint32_t number) { return writes_[number].ended != UINT64_MAX; });
  }
}

}  // namespace lockstep::sim
