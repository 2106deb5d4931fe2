// The hot set: the extents that may differ between the nodes at this moment. A write's data is submitted only when
// its extents are hot durably; an extent turns cold only when nothing refers to it, least recently used first.
// Knows slots and references; the order of its durable records is kept by whoever persists them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "replicator/core/metadata_image.h"

namespace lockstep::repl {

class ActivityLog {
 public:
  explicit ActivityLog(uint32_t slot_count);

  // How many extents the range touches.
  static uint32_t extents_in(const ByteRange& range) {
    const Extents extents = extents_of(range);
    return extents.end - extents.first;
  }

  // Takes a reference on every extent that the range touches, if all of them are hot durably; else on none.
  bool acquire_hot(const ByteRange& range);
  // Gives back what acquire_hot took, or a reservation turned into.
  void release(const ByteRange& range);

  // Builds the next transaction. reserve() finds slots for the range's extents that are not hot, and takes a
  // reference on all of them, or does nothing and says no: no slot is free, or the transaction is full.
  void begin_transaction();
  bool reserve(const ByteRange& range);
  std::span<const ActivityLogUpdate> updates() const { return updates_; }
  std::span<const uint32_t> evicted() const { return evicted_; }  // the extents that turn cold by it
  // It is durable: what it made hot may be written to.
  void commit_transaction();

  bool is_empty() const { return used_slots_ == 0; }
  void clear();  // only without references and without a transaction under way
  void reset();  // forgets these as well: the disk that it was about is gone
  std::span<const uint32_t> slots() const { return extents_; }
  uint32_t referenced_slots() const { return referenced_slots_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Extents {
    uint32_t first;
    uint32_t end;
  };
  static Extents extents_of(const ByteRange& range);
  uint32_t find(uint32_t extent) const;
  void map_insert(uint32_t extent, uint32_t slot);
  void map_erase(uint32_t extent);
  uint32_t take_victim();
  void unlink(uint32_t slot);
  void link_newest(uint32_t slot);
  void reference(uint32_t slot);

  std::vector<uint32_t> extents_;        // by slot
  std::vector<uint32_t> references_;     // by slot
  std::vector<bool> durable_;            // by slot
  std::vector<uint32_t> older_, newer_;  // the least-recently-used list of unreferenced slots
  uint32_t oldest_ = kNone, newest_ = kNone;
  std::vector<uint32_t> map_;  // open addressing: extent to slot
  uint32_t used_slots_ = 0, referenced_slots_ = 0, unreferenced_slots_ = 0;
  std::vector<ActivityLogUpdate> updates_;
  std::vector<uint32_t> evicted_;
};

}  // namespace lockstep::repl
