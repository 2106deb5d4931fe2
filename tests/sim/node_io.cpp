// A node's disk and metadata: both take their time, and what was under way when a node crashes happened in part.
#include <algorithm>
#include <cerrno>

#include "tests/sim/node.h"
#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

uint64_t Node::disk_latency_us() {
  const uint64_t latency_us = world_.random.between(30, world_.random.chance(0.03) ? 8000 : 300);
  return slow_until_us_ > world_.now_us ? latency_us * 100 : latency_us;
}

bool Node::disk_fails(DiskFault fault) {
  if (disk_fault_ != fault) return false;
  if (disk_fault_once_) disk_fault_ = DiskFault::None;
  met_disk_fault_ = true;
  return true;
}

void Node::begin_io() {
  if (disk_released_) world_.fail("node " + std::to_string(id_) + " uses a disk that it has given up");
  ++io_in_flight_;
}

void Node::end_io(LocalIoCompleted completed) {
  --io_in_flight_;
  feed(std::move(completed));
}

// As the shipped driver does at a turn's end.
void Node::release_disk_when_quiet() {
  if (!releasing_disk_ || io_in_flight_ > 0 || (!persist_failed_ && (persisting_ || !persists_.empty()))) return;
  releasing_disk_ = false;
  disk_released_ = true;
  step(DiskReleased{});
  execute();
}

void Node::submit_write(const SlotRef& slot, const ByteRange& range, std::vector<Value> values, bool fua) {
  begin_io();
  for (const DiskWrite& other : disk_writes_) {
    if (other.range.overlaps(range)) world_.fail("two overlapping writes are on their way to one disk");
  }
  // As the shipped driver does when each write is followed by a flush.
  const bool durable = fua || (world_.makes_lone_writes_durable() && disk_writes_.empty() && disk_.all_stable());
  const uint64_t write_id = ++disk_operations_;
  const bool is_copy = slot.kind == SlotKind::Apply && applies_[slot.slot].is_copy;
  disk_writes_.push_back({write_id, range, std::move(values), is_copy});
  world_.at(world_.now_us + disk_latency_us(), [this, boot = boots_, write_id, slot, durable] {
    if (boots_ == boot && alive()) disk_write_done(write_id, slot, durable);
  });
}

void Node::disk_write_done(uint64_t write_id, const SlotRef& slot, bool durable) {
  const auto found = std::find_if(disk_writes_.begin(), disk_writes_.end(),
                                  [write_id](const DiskWrite& write) { return write.id == write_id; });
  const DiskWrite write = std::move(*found);
  disk_writes_.erase(found);
  const int error_errno = disk_fails(DiskFault::Write) ? EIO : 0;
  world_.trace("node %d: %s slot %u wrote blocks %llu to %llu, value %u, errno %d", id_,
               slot.kind == SlotKind::Apply ? "apply" : "client", slot.slot,
               static_cast<unsigned long long>(write.range.offset_bytes / kBlockBytes),
               static_cast<unsigned long long>((write.range.end_bytes() - 1) / kBlockBytes),
               write.values.empty() ? 0 : write.values[0], error_errno);
  const Layout::Units units = world_.layout.units(write.range);
  if (error_errno != 0) {
    disk_.tear(units, write.values, world_.random);
  } else {
    disk_.write(units, write.values, durable);
  }
  if (write.is_copy) world_.checker.copy_written(id_);
  const bool all_stable =
      world_.makes_lone_writes_durable() && error_errno == 0 && !flush_failed_ && disk_.all_stable();
  world_.thawed(id_, boots_, [this, slot, error_errno, all_stable] {
    end_io({slot, error_errno, false, {}, all_stable});
  });
}

void Node::submit_read(const SlotRef& slot, const ByteRange& range, bool wants_digests) {
  begin_io();
  world_.at(world_.now_us + disk_latency_us(), [this, boot = boots_, slot, range, wants_digests] {
    if (boots_ != boot || !alive()) return;
    const Layout::Units units = world_.layout.units(range);
    std::vector<Value> values(units.count());
    for (size_t i = 0; i < values.size(); ++i) values[i] = disk_.read(units.first + i);
    std::vector<BlockDigest> digests;
    if (wants_digests) digests.resize(range.length_bytes / kBlockBytes);
    for (size_t unit = units.first; wants_digests && unit < units.end; unit += kUnitsPerBlock) {
      const uint64_t block = world_.layout.block_of(unit) - range.offset_bytes / kBlockBytes;
      digests[block] = BlockDigest{disk_.read(unit), disk_.read(unit + kUnitsPerBlock - 1)};
    }
    const bool is_copy = slot.kind == SlotKind::Resync;
    const int error_errno = disk_fails(DiskFault::Read) || (is_copy && disk_fails(DiskFault::CopyRead)) ? EIO : 0;
    const bool all_zeroes =
        error_errno == 0 && std::all_of(values.begin(), values.end(), [](Value value) { return value == 0; });
    ReadDone done{slot, error_errno, all_zeroes, std::move(values), std::move(digests)};
    world_.thawed(id_, boot, [this, done = std::move(done)]() mutable { read_done(std::move(done)); });
  });
}

void Node::read_done(ReadDone done) {
  if (done.slot.kind == SlotKind::Resync) resync_values_[done.slot.slot] = std::move(done.values);
  if (done.slot.kind == SlotKind::Serve) serve_values_[done.slot.slot] = std::move(done.values);
  if (done.slot.kind == SlotKind::Client) requests_[done.slot.slot].seen = std::move(done.values);
  end_io({done.slot, done.error_errno, done.all_zeroes, done.digests, false});
}

// A flush that failed: what it was to make stable may be lost, and no later flush brings it back.
void Node::submit_flush(const SlotRef& slot) {
  begin_io();
  const uint64_t began = disk_.begin_flush();
  world_.at(world_.now_us + disk_latency_us() * 2, [this, boot = boots_, slot, began] {
    if (boots_ != boot || !alive()) return;
    const int error_errno = disk_fails(DiskFault::Flush) ? EIO : 0;
    if (error_errno != 0) {
      world_.checker.before_crash();
      disk_.lose_power(world_.random);
      world_.checker.cache_lost(id_);
      flush_failed_ = true;
      break_disk(DiskFault::Read, false);  // nobody is to see what is left
    } else if (!world_.disks_ignore_flushes()) {
      disk_.end_flush(began);
    }
    world_.thawed(id_, boot, [this, slot, error_errno] { end_io({slot, error_errno, false, {}, false}); });
  });
}

// What lies beyond the present size reads as zeroes: nothing has ever been written there.
void Node::prepare_disk(uint64_t size_bytes) {
  begin_io();
  const int error_errno = world_.growth.has_room() ? 0 : ENOSPC;
  world_.at(world_.now_us + world_.growth.preparation_us(), [this, boot = boots_, size_bytes, error_errno] {
    world_.thawed(id_, boot, [this, size_bytes, error_errno] {
      --io_in_flight_;
      feed(DiskPrepared{size_bytes, error_errno});
    });
  });
}

void Node::queue_persist(const Action& action) {
  if (persist_failed_) return;
  if (disk_released_) world_.fail("node " + std::to_string(id_) + " writes metadata that it has given up");
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
  if (disk_fails(DiskFault::Persist)) {
    if (world_.random.chance(0.5)) {
      const Generation before = durable_.superblock.current;
      write_durably(persists_.front(), true);
      if (durable_.superblock.current != before) {
        unannounced_ = durable_.superblock.current;
        unannounced_in_boot_ = boots_;
      }
    }
    persist_failed_ = true;
    persists_.clear();
    std::deque<Held> failed;
    failed.swap(held_);
    for (const Held& held : failed) fail(held.action);
    return feed(PersistCompleted{persisted_ + 1, EIO});
  }
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
    if (world_.node_count() > 2) {
      once_known_.insert(superblock->image.current);
      once_known_.insert(superblock->image.history.begin(), superblock->image.history.end());
    }
  } else if (const auto* size = std::get_if<PersistSize>(&persist)) {
    durable_.superblock = size->image;
    durable_.size_bytes = size->size_bytes;
    snapshot_.reset();  // of another size
    world_.growth.grew(id_);
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
