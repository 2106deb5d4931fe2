#include "replicator/local_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "io/base/check.h"

namespace lockstep::repl {
namespace {

constexpr size_t kZeroChunkBytes = 1 * kMiB;

}  // namespace

class LocalDisk::Request final : public io::FileOperation {
 public:
  enum class Kind : uint8_t { Read, Change, Sync };

  LocalDisk* disk = nullptr;
  SlotRef slot;
  Kind kind = Kind::Read;
  bool durable = false;  // a change: it is on stable storage when it ends

  void zero(const ByteRange& range, bool may_deallocate) {
    left_ = range;
    // Only a block device gives space back: see LocalDisk::zero.
    punch_first_ = may_deallocate && disk->file_->is_block_device();
    next_zero_step(ZeroStep::First);
  }

 private:
  enum class ZeroStep : uint8_t { None, First, Punching, Zeroing, Writing, Syncing };

  // Each way that the disk turns out not to know is not tried again.
  void next_zero_step(ZeroStep step) {
    io::File& file = *disk->file_;
    if (step == ZeroStep::First) step = punch_first_ && disk->can_punch_ ? ZeroStep::Punching : ZeroStep::Zeroing;
    if (step == ZeroStep::Zeroing && !disk->can_keep_allocated_) step = ZeroStep::Writing;
    zero_step_ = step;
    switch (step) {
      case ZeroStep::Punching:
        return file.start_zero(*this, io::ZeroMode::PunchHole, left_.offset_bytes, left_.length_bytes);
      case ZeroStep::Zeroing:
        return file.start_zero(*this, io::ZeroMode::KeepAllocated, left_.offset_bytes, left_.length_bytes);
      case ZeroStep::Writing: {
        const size_t length = std::min<uint64_t>(left_.length_bytes, kZeroChunkBytes);
        const uint64_t offset = left_.offset_bytes;
        left_ = {offset + length, left_.length_bytes - length};
        return file.start_write(*this, {disk->zeroes_.get(), length}, offset);
      }
      case ZeroStep::Syncing:
        return file.start_data_sync(*this);
      case ZeroStep::None:
      case ZeroStep::First:
        break;
    }
    LOCKSTEP_CHECK(false && "a step of zeroing");
  }

  void ended(int error_errno) noexcept override {
    const ZeroStep step = std::exchange(zero_step_, ZeroStep::None);
    const bool unsupported = error_errno == EOPNOTSUPP || error_errno == ENOSYS || error_errno == EINVAL;
    if (step == ZeroStep::Punching && unsupported) {
      disk->can_punch_ = false;
      return next_zero_step(ZeroStep::Zeroing);
    }
    if (step == ZeroStep::Zeroing && unsupported) {
      disk->can_keep_allocated_ = false;
      return next_zero_step(ZeroStep::Writing);
    }
    if (step == ZeroStep::Writing && error_errno == 0 && !left_.empty()) return next_zero_step(ZeroStep::Writing);
    if (step != ZeroStep::None && step != ZeroStep::Syncing && error_errno == 0 && durable) {
      return next_zero_step(ZeroStep::Syncing);
    }
    FlushGuess& guess = disk->flush_guess_;
    if (kind == Kind::Change) guess.write_ended(durable, error_errno != 0);
    if (kind == Kind::Sync && guess.may_have_lost()) error_errno = EIO;  // the failed write may have been told instead
    if (kind == Kind::Sync) guess.flush_ended(error_errno != 0);
    const bool all_stable = kind == Kind::Change && guess.is_all_stable();
    if (all_stable && slot.kind == SlotKind::Apply) guess.flush_spared();
    --disk->in_flight_;
    disk->owner_.local_io_ended(slot, error_errno, all_stable);
  }

  ByteRange left_;
  bool punch_first_ = false;
  ZeroStep zero_step_ = ZeroStep::None;
};

// The answer to a flush for which the disk is not asked.
class LocalDisk::DecidedFlush final : public io::Runnable {
 public:
  explicit DecidedFlush(LocalDisk& disk) : disk_(disk) {}
  SlotRef slot;
  int error_errno = 0;

  void run() noexcept override {
    --disk_.in_flight_;
    disk_.owner_.local_io_ended(slot, error_errno, false);
  }

 private:
  LocalDisk& disk_;
};

Result<std::unique_ptr<io::File>> LocalDisk::open(io::Loop& loop, const std::string& path, uint64_t size_bytes) {
  auto opened = io::File::open(loop, path, {.exclusive_device = true});
  if (!opened) {
    Error error = std::move(opened).error();
    if (error.kind == ErrorKind::NotFound) {
      error.message = "there is no disk at " + path + ": run 'lockstep create', or correct 'disk' in the configuration";
    }
    return error;
  }
  std::unique_ptr<io::File> file = std::move(*opened);
  if (Status status = file->lock_exclusive(); !status) return std::move(status).error();
  if (file->size_bytes() < size_bytes) {
    return Error{ErrorKind::Invalid, 0,
                 "the disk " + path + " is too small: it has " + std::to_string(file->size_bytes()) +
                     " bytes, the resource needs " + std::to_string(size_bytes) +
                     "; correct 'disk' in the configuration, or replace it and run 'lockstep create'"};
  }
  if (file->offset_alignment_bytes() > 4096 || file->memory_alignment_bytes() > 4096) {
    return Error{ErrorKind::Unsupported, 0, "the disk " + path + " has blocks larger than 4096 bytes"};
  }
  return file;
}

LocalDisk::LocalDisk(io::Loop& loop, std::unique_ptr<io::File> file, const Slots& slots, LocalDiskOwner& owner)
    : loop_(loop),
      file_(std::move(file)),
      slots_(slots),
      owner_(owner),
      block_bytes_(std::max(512U, file_->offset_alignment_bytes())),
      zeroes_(static_cast<uint8_t*>(std::aligned_alloc(4096, kZeroChunkBytes)), &std::free),
      requests_(std::make_unique<Request[]>(slots.client + slots.apply + slots.resync + slots.serve + 1)),
      decided_flush_(std::make_unique<DecidedFlush>(*this)) {
  LOCKSTEP_CHECK(zeroes_ != nullptr);
  std::memset(zeroes_.get(), 0, kZeroChunkBytes);
  const auto assign = [this](SlotKind kind, uint32_t count) {
    for (uint32_t slot = 0; slot < count; ++slot) {
      const SlotRef ref{kind, slot};
      request(ref).disk = this;
      request(ref).slot = ref;
    }
  };
  assign(SlotKind::Client, slots.client);
  assign(SlotKind::Apply, slots.apply);
  assign(SlotKind::Resync, slots.resync);
  assign(SlotKind::Serve, slots.serve);
  assign(SlotKind::Flush, 1);
}

LocalDisk::~LocalDisk() = default;

LocalDisk::Request& LocalDisk::request(SlotRef slot) {
  switch (slot.kind) {
    case SlotKind::Client:
      LOCKSTEP_CHECK(slot.slot < slots_.client);
      return requests_[slot.slot];
    case SlotKind::Apply:
      LOCKSTEP_CHECK(slot.slot < slots_.apply);
      return requests_[slots_.client + slot.slot];
    case SlotKind::Resync:
      LOCKSTEP_CHECK(slot.slot < slots_.resync);
      return requests_[slots_.client + slots_.apply + slot.slot];
    case SlotKind::Serve:
      LOCKSTEP_CHECK(slot.slot < slots_.serve);
      return requests_[slots_.client + slots_.apply + slots_.resync + slot.slot];
    case SlotKind::Flush:
      break;
  }
  LOCKSTEP_CHECK(slot.slot == 0);
  return requests_[slots_.client + slots_.apply + slots_.resync + slots_.serve];
}

void LocalDisk::start(Request& request) {
  LOCKSTEP_CHECK(!request.in_flight());
  ++in_flight_;
}

void LocalDisk::read(SlotRef slot, std::span<uint8_t> into, uint64_t offset_bytes) {
  Request& chosen = request(slot);
  start(chosen);
  chosen.kind = Request::Kind::Read;
  file_->start_read(chosen, into, offset_bytes);
}

void LocalDisk::write(SlotRef slot, std::span<const uint8_t> from, uint64_t offset_bytes, bool durable) {
  Request& chosen = request(slot);
  start(chosen);
  chosen.kind = Request::Kind::Change;
  if (durable) flush_guess_.durable_write_starts();
  chosen.durable = durable || (flush_guess_.write_starts() && file_->makes_writes_durable());
  file_->start_write(chosen, from, offset_bytes, chosen.durable);
}

void LocalDisk::zero(SlotRef slot, const ByteRange& range, bool durable, bool may_deallocate) {
  Request& chosen = request(slot);
  start(chosen);
  chosen.kind = Request::Kind::Change;
  chosen.durable = durable;
  if (durable) flush_guess_.durable_write_starts();
  if (!durable) flush_guess_.write_starts();
  chosen.zero(range, may_deallocate);
}

io::Task<Status> LocalDisk::prepare_size(io::Loop& loop, uint64_t from_bytes, uint64_t size_bytes) {
  ++in_flight_;
  Status status = co_await make_room(loop, from_bytes, size_bytes);
  --in_flight_;
  co_return status;
}

io::Task<Status> LocalDisk::make_room(io::Loop& loop, uint64_t from_bytes, uint64_t size_bytes) {
  const auto no_room = [&](int reason) {
    return Error{ErrorKind::Exhausted, reason,
                 "the disk " + file_->path() + " has no room for " + std::to_string(size_bytes) + " bytes"};
  };
  Status known = file_->refresh_size();
  if (!known) co_return known;
  if (file_->size_bytes() < size_bytes) {
    if (file_->is_block_device()) co_return no_room(ENOSPC);
    // In one piece first, so that a lack of room shows before the writing; not every file system can.
    const int32_t reserved =
        co_await loop.fallocate(file_->fd(), 0, file_->size_bytes(), size_bytes - file_->size_bytes());
    if (reserved < 0 && reserved != -EOPNOTSUPP) co_return no_room(-reserved);
  }
  uint64_t at = from_bytes;
  while (at < size_bytes) {
    if (loop.stopping() || stop_preparing_)
      co_return Error{ErrorKind::Closed, ECANCELED, "the disk is being taken away"};
    const size_t length = std::min<uint64_t>(size_bytes - at, kZeroChunkBytes);
    const std::span<const uint8_t> zeroes(zeroes_.get(), length);
    const Status written = co_await file_->write(zeroes, at);
    if (!written) co_return written;
    at += length;
  }
  const Status synced = co_await file_->data_sync();
  if (!synced) co_return synced;
  co_return file_->refresh_size();
}

void LocalDisk::flush(SlotRef slot) {
  Request& chosen = request(slot);
  start(chosen);
  const bool has_lost = flush_guess_.may_have_lost();
  if (!has_lost && flush_guess_.flush_starts()) {
    chosen.kind = Request::Kind::Sync;
    return file_->start_data_sync(chosen);
  }
  decided_flush_->slot = slot;
  decided_flush_->error_errno = has_lost ? EIO : 0;
  loop_.defer(*decided_flush_);
}

}  // namespace lockstep::repl
