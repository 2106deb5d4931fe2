// A node's disk and metadata: both take their time, and what was under way when a node crashes happened in part.
#include <algorithm>
#include <cerrno>

#include "tests/sim/node.h"
#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

uint64_t Node::disk_latency_us() {
  return world_.random.between(30, world_.random.chance(0.03) ? 8000 : 300);
}

void Node::submit_write(const SlotRef& slot, const ByteRange& range, std::vector<Value> values, bool fua) {
  for (const DiskWrite& other : disk_writes_) {
    if (other.range.overlaps(range)) world_.fail("two overlapping writes are on their way to one disk");
  }
  const uint64_t write_id = ++disk_operations_;
  disk_writes_.push_back({write_id, range, std::move(values)});
  world_.at(world_.now_us + disk_latency_us(), [this, boot = boots_, write_id, slot, fua] {
    if (boots_ == boot && alive()) disk_write_done(write_id, slot, fua);
  });
}

void Node::disk_write_done(uint64_t write_id, const SlotRef& slot, bool fua) {
  const auto found = std::find_if(disk_writes_.begin(), disk_writes_.end(),
                                  [write_id](const DiskWrite& write) { return write.id == write_id; });
  const DiskWrite write = std::move(*found);
  disk_writes_.erase(found);
  world_.trace("node %d: %s slot %u wrote blocks %llu to %llu, value %u", id_,
               slot.kind == SlotKind::Apply ? "apply" : "client", slot.slot,
               static_cast<unsigned long long>(write.range.offset_bytes / kBlockBytes),
               static_cast<unsigned long long>((write.range.end_bytes() - 1) / kBlockBytes),
               write.values.empty() ? 0 : write.values[0]);
  disk_.write(world_.layout.units(write.range), write.values, fua);
  world_.thawed(id_, boots_, [this, slot] { feed(LocalIoCompleted{slot, 0, false}); });
}

void Node::submit_read(const SlotRef& slot, const ByteRange& range, bool wants_digests) {
  world_.at(world_.now_us + disk_latency_us(), [this, boot = boots_, slot, range, wants_digests] {
    if (boots_ != boot || !alive()) return;
    const Layout::Units units = world_.layout.units(range);
    std::vector<Value> values(units.count());
    for (size_t i = 0; i < values.size(); ++i) values[i] = disk_.read(units.first + i);
    const bool all_zeroes = std::all_of(values.begin(), values.end(), [](Value value) { return value == 0; });
    std::vector<BlockDigest> digests;
    for (uint64_t offset = range.offset_bytes; wants_digests && offset < range.end_bytes(); offset += kBlockBytes) {
      const Layout::Units block = world_.layout.units({offset, kBlockBytes});
      digests.push_back(block.count() == 0 ? BlockDigest{}
                                           : BlockDigest{disk_.read(block.first), disk_.read(block.end - 1)});
    }
    world_.thawed(id_, boot,
                  [this, slot, values = std::move(values), all_zeroes, digests = std::move(digests)]() mutable {
                    if (slot.kind == SlotKind::Resync) resync_values_[slot.slot] = std::move(values);
                    if (slot.kind == SlotKind::Client) requests_[slot.slot].seen = std::move(values);
                    feed(LocalIoCompleted{slot, 0, all_zeroes, digests});
                  });
  });
}

void Node::submit_flush(const SlotRef& slot) {
  const uint64_t began = disk_.begin_flush();
  world_.at(world_.now_us + disk_latency_us() * 2, [this, boot = boots_, slot, began] {
    if (boots_ != boot || !alive()) return;
    disk_.end_flush(began);
    world_.thawed(id_, boot, [this, slot] { feed(LocalIoCompleted{slot, 0, false}); });
  });
}

void Node::queue_persist(const Action& action) {
  persists_.push_back(action);
  start_persist();
}

void Node::start_persist() {
  if (persisting_ || persists_.empty()) return;
  persisting_ = true;
  world_.at(world_.now_us + disk_latency_us(),
            [this, boot = boots_] { world_.thawed(id_, boot, [this] { finish_persist(); }); });
}

void Node::finish_persist() {
  const Action persist = std::move(persists_.front());
  persists_.pop_front();
  persisting_ = false;
  write_durably(persist, false);
  ++persisted_;
  start_persist();
  release_held();
  feed(PersistCompleted{persisted_, 0});
}

// `partly`: a crash came in the middle. A superblock or a log record is there or is not; of several bitmap pages,
// some are.
void Node::write_durably(const Action& persist, bool partly) {
  if (const auto* superblock = std::get_if<PersistSuperblock>(&persist)) {
    durable_.superblock = superblock->image;
  } else if (const auto* log = std::get_if<PersistActivityLog>(&persist)) {
    for (size_t i = 0; i < log->update_count; ++i) durable_.activity_log[log->updates[i].slot] = log->updates[i].extent;
  } else if (std::holds_alternative<PersistActivityLogEmpty>(persist)) {
    std::fill(durable_.activity_log.begin(), durable_.activity_log.end(), kNoExtent);
  } else if (const auto* pages = std::get_if<PersistBitmapPages>(&persist)) {
    for (uint32_t page = pages->first_page; page < pages->first_page + pages->page_count; ++page) {
      if (partly && world_.random.chance(0.5)) continue;
      const auto words = replica_->bitmap_words(pages->peer, page);
      durable_.bitmaps[pages->peer][page].assign(words.begin(), words.end());
    }
  }
}

}  // namespace lockstep::sim
