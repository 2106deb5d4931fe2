#include "tests/sim/disk.h"

namespace lockstep::sim {

Disk::Disk(size_t unit_count)
    : changed(unit_count),
      content_(unit_count, 0),
      stable_(unit_count, 0),
      pending_(unit_count, 0),
      stable_since_(unit_count, 0),
      decided_(unit_count, 0) {}

void Disk::put(size_t unit, Value value, bool durable) {
  changed.add(unit);
  content_[unit] = value;
  if (durable) {
    pending_[unit] = 0;
    stable_since_[unit] = writes_;
    stable_[unit] = value;
    return;
  }
  ++pending_[unit];
  pendings_.push_back({writes_, value, static_cast<uint32_t>(unit)});
}

void Disk::write(const Layout::Units& units, std::span<const Value> values, bool durable) {
  ++writes_;
  for (size_t i = 0; i < units.count(); ++i) {
    put(units.first + i, values.size() == 1 ? values[0] : values[i], durable);
  }
}

void Disk::end_flush(uint64_t began) {
  while (!pendings_.empty() && pendings_.front().order <= began) {
    const Pending pending = pendings_.front();
    pendings_.pop_front();
    if (pending.order <= stable_since_[pending.unit]) continue;
    changed.add(pending.unit);
    stable_[pending.unit] = pending.value;
    --pending_[pending.unit];
  }
}

void Disk::lose_power(Random& random) {
  for (auto pending = pendings_.rbegin(); pending != pendings_.rend(); ++pending) {
    const uint32_t unit = pending->unit;
    if (pending->order <= stable_since_[unit] || decided_[unit] != 0) continue;
    if (random.chance(0.5)) {
      stable_[unit] = pending->value;
      decided_[unit] = 1;
    }
  }
  for (const Pending& pending : pendings_) {
    const uint32_t unit = pending.unit;
    content_[unit] = stable_[unit];
    decided_[unit] = 0;
    pending_[unit] = 0;
    changed.add(unit);
  }
  pendings_.clear();
}

void Disk::tear(const Layout::Units& units, std::span<const Value> values, Random& random) {
  ++writes_;
  const uint64_t mood = random.below(3);  // nothing arrived, all of it, or each unit by chance
  for (size_t i = 0; i < units.count(); ++i) {
    if (mood == 0 || (mood == 2 && random.chance(0.5))) continue;
    put(units.first + i, values.size() == 1 ? values[0] : values[i], false);
  }
}

}  // namespace lockstep::sim
