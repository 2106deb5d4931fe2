#include "tests/sim/disk.h"

#include <algorithm>

namespace lockstep::sim {

Disk::Disk(uint64_t size_bytes)
    : content_(size_bytes / kUnitBytes, 0), stable_(content_.size(), 0), pending_(content_.size(), kNone) {}

void Disk::put(size_t unit, Value value, bool durable) {
  content_[unit] = value;
  if (durable) {
    if (pending_[unit] != kNone) --pending_units_;
    pending_[unit] = kNone;
    stable_[unit] = value;
    return;
  }
  if (pending_[unit] == kNone) ++pending_units_;
  pendings_.push_back({writes_, value, static_cast<uint32_t>(unit), pending_[unit]});
  pending_[unit] = static_cast<uint32_t>(pendings_.size() - 1);
}

void Disk::write(const ByteRange& range, std::span<const Value> values, bool durable) {
  ++writes_;
  const size_t first = range.offset_bytes / kUnitBytes;
  const size_t count = range.length_bytes / kUnitBytes;
  for (size_t i = 0; i < count; ++i) put(first + i, values.size() == 1 ? values[0] : values[i], durable);
}

void Disk::end_flush(uint64_t began) {
  for (size_t at = pendings_.size(); at-- > 0;) {
    const uint32_t unit = pendings_[at].unit;
    if (pending_[unit] != at) continue;  // not the newest of its unit, or flushed since
    uint32_t newest_flushed = static_cast<uint32_t>(at);
    uint32_t newer = kNone;
    while (newest_flushed != kNone && pendings_[newest_flushed].order > began) {
      newer = newest_flushed;
      newest_flushed = pendings_[newest_flushed].older;
    }
    if (newest_flushed == kNone) continue;
    stable_[unit] = pendings_[newest_flushed].value;
    if (newer == kNone) {
      pending_[unit] = kNone;
      --pending_units_;
    } else {
      pendings_[newer].older = kNone;
    }
  }
  if (pending_units_ == 0) pendings_.clear();
}

void Disk::lose_power(Random& random) {
  for (size_t at = pendings_.size(); at-- > 0;) {
    const uint32_t unit = pendings_[at].unit;
    if (pending_[unit] != at) continue;
    Value kept = stable_[unit];
    for (uint32_t candidate = pending_[unit]; candidate != kNone; candidate = pendings_[candidate].older) {
      if (random.chance(0.5)) {
        kept = pendings_[candidate].value;
        break;
      }
    }
    content_[unit] = stable_[unit] = kept;
    pending_[unit] = kNone;
  }
  pendings_.clear();
  pending_units_ = 0;
}

void Disk::tear(const ByteRange& range, std::span<const Value> values, Random& random) {
  ++writes_;
  const size_t first = range.offset_bytes / kUnitBytes;
  const size_t count = range.length_bytes / kUnitBytes;
  const uint64_t mood = random.below(3);  // nothing arrived, all of it, or each unit by chance
  for (size_t i = 0; i < count; ++i) {
    if (mood == 0 || (mood == 2 && random.chance(0.5))) continue;
    put(first + i, values.size() == 1 ? values[0] : values[i], false);
  }
}

void Disk::fill(Value value) {
  std::fill(content_.begin(), content_.end(), value);
  std::fill(stable_.begin(), stable_.end(), value);
  std::fill(pending_.begin(), pending_.end(), kNone);
  pendings_.clear();
  pending_units_ = 0;
}

}  // namespace lockstep::sim
