#include "replicator/core/activity_log.h"

#include <bit>

namespace lockstep::repl {

ActivityLog::ActivityLog(uint32_t slot_count)
    : extents_(slot_count, kNoExtent),
      references_(slot_count, 0),
      durable_(slot_count, false),
      older_(slot_count, kNone),
      newer_(slot_count, kNone),
      map_(std::bit_ceil(size_t{slot_count} * 2 + 1), kNone) {
  updates_.reserve(kActivityLogUpdatesPerTransaction);
  evicted_.reserve(kActivityLogUpdatesPerTransaction);
  clear();
}

ActivityLog::Extents ActivityLog::extents_of(const ByteRange& range) {
  return {static_cast<uint32_t>(range.offset_bytes / kExtentBytes),
          static_cast<uint32_t>(divide_up(range.end_bytes(), kExtentBytes))};
}

void ActivityLog::clear() {
  LOCKSTEP_CHECK(referenced_slots_ == 0 && updates_.empty());
  std::fill(extents_.begin(), extents_.end(), kNoExtent);
  std::fill(durable_.begin(), durable_.end(), false);
  std::fill(map_.begin(), map_.end(), kNone);
  oldest_ = newest_ = kNone;
  used_slots_ = unreferenced_slots_ = 0;
  for (uint32_t slot = 0; slot < extents_.size(); ++slot) link_newest(slot);
}

void ActivityLog::reset() {
  updates_.clear();
  evicted_.clear();
  std::fill(references_.begin(), references_.end(), 0);
  referenced_slots_ = 0;
  clear();
}

namespace {
size_t hash_of(uint32_t extent) {
  return (extent * uint64_t{0x9E3779B97F4A7C15}) >> 32;
}
}  // namespace

uint32_t ActivityLog::find(uint32_t extent) const {
  const size_t mask = map_.size() - 1;
  for (size_t at = hash_of(extent) & mask;; at = (at + 1) & mask) {
    if (map_[at] == kNone) return kNone;
    if (extents_[map_[at]] == extent) return map_[at];
  }
}

void ActivityLog::map_insert(uint32_t extent, uint32_t slot) {
  const size_t mask = map_.size() - 1;
  size_t at = hash_of(extent) & mask;
  while (map_[at] != kNone) at = (at + 1) & mask;
  map_[at] = slot;
}

void ActivityLog::map_erase(uint32_t extent) {
  const size_t mask = map_.size() - 1;
  size_t hole = hash_of(extent) & mask;
  while (extents_[map_[hole]] != extent) hole = (hole + 1) & mask;
  // Moves back what probed past the hole, so that no search stops short of it.
  for (size_t at = (hole + 1) & mask; map_[at] != kNone; at = (at + 1) & mask) {
    const size_t home = hash_of(extents_[map_[at]]) & mask;
    if (((at - home) & mask) >= ((at - hole) & mask)) {
      map_[hole] = map_[at];
      hole = at;
    }
  }
  map_[hole] = kNone;
}

void ActivityLog::unlink(uint32_t slot) {
  (older_[slot] == kNone ? oldest_ : newer_[older_[slot]]) = newer_[slot];
  (newer_[slot] == kNone ? newest_ : older_[newer_[slot]]) = older_[slot];
  older_[slot] = newer_[slot] = kNone;
  --unreferenced_slots_;
}

void ActivityLog::link_newest(uint32_t slot) {
  older_[slot] = newest_;
  newer_[slot] = kNone;
  (newest_ == kNone ? oldest_ : newer_[newest_]) = slot;
  newest_ = slot;
  ++unreferenced_slots_;
}

void ActivityLog::reference(uint32_t slot) {
  if (references_[slot]++ == 0) {
    unlink(slot);
    ++referenced_slots_;
  }
}

bool ActivityLog::acquire_hot(const ByteRange& range) {
  const auto [first, end] = extents_of(range);
  for (uint32_t extent = first; extent < end; ++extent) {
    const uint32_t slot = find(extent);
    if (slot == kNone || !durable_[slot]) return false;
  }
  for (uint32_t extent = first; extent < end; ++extent) reference(find(extent));
  return true;
}

void ActivityLog::release(const ByteRange& range) {
  const auto [first, end] = extents_of(range);
  for (uint32_t extent = first; extent < end; ++extent) {
    const uint32_t slot = find(extent);
    LOCKSTEP_CHECK(slot != kNone && references_[slot] > 0);
    if (--references_[slot] == 0) {
      --referenced_slots_;
      link_newest(slot);
    }
  }
}

void ActivityLog::begin_transaction() {
  LOCKSTEP_CHECK(updates_.empty() && evicted_.empty());
}

uint32_t ActivityLog::take_victim() {
  const uint32_t slot = oldest_;
  LOCKSTEP_CHECK(slot != kNone);
  if (extents_[slot] != kNoExtent) {
    evicted_.push_back(extents_[slot]);
    map_erase(extents_[slot]);
    --used_slots_;
  }
  return slot;
}

bool ActivityLog::reserve(const ByteRange& range) {
  const auto [first, end] = extents_of(range);
  uint32_t missing = 0;
  uint32_t idle = 0;  // of the range's own extents, hot and unreferenced: no victims for its others
  for (uint32_t extent = first; extent < end; ++extent) {
    const uint32_t slot = find(extent);
    if (slot == kNone) {
      ++missing;
    } else if (references_[slot] == 0) {
      ++idle;
    }
  }
  if (missing + idle > unreferenced_slots_ || updates_.size() + missing > kActivityLogUpdatesPerTransaction) {
    return false;
  }
  for (uint32_t extent = first; extent < end; ++extent) {
    if (const uint32_t slot = find(extent); slot != kNone) reference(slot);
  }
  for (uint32_t extent = first; extent < end; ++extent) {
    if (find(extent) != kNone) continue;
    const uint32_t slot = take_victim();
    extents_[slot] = extent;
    durable_[slot] = false;
    map_insert(extent, slot);
    ++used_slots_;
    reference(slot);
    updates_.push_back({slot, extent});
  }
  return true;
}

void ActivityLog::commit_transaction() {
  for (const ActivityLogUpdate& update : updates_) durable_[update.slot] = true;
  updates_.clear();
  evicted_.clear();
}

}  // namespace lockstep::repl
