// Requests that are not aligned to the disk's blocks, of clients that have not been told block sizes: they are served
// one after the other, in the reader, by reading, changing and writing back whole blocks. That is slow, and correct:
// while it goes on, nobody else writes these blocks (see RangeLock).
//
// No step holds one piece of memory while it waits for another, and none holds the lock while it waits for the client:
// a piece of the payload is received first, then memory is taken, then the lock.
#include <algorithm>
#include <cstring>
#include <utility>

#include "io/base/check.h"
#include "io/base/units.h"
#include "nbd-server/session.h"

namespace lockstep::nbd {
namespace {

constexpr size_t kPieceBytes = size_t{64} * 1024;

uint64_t round_down(uint64_t bytes, uint64_t unit) {
  return bytes / unit * unit;
}

}  // namespace

// One request to the backend that is waited for.
class Session::Step final : public io::BlockRequestOwner {
 public:
  explicit Step(io::Loop& loop) : done_(loop) { block.owner = this; }
  void completed(io::BlockRequest& /*block*/) noexcept override {
    pending_ = false;
    done_.notify_all();
  }

  io::BlockRequest block;

 private:
  friend class Session;
  bool pending_ = false;
  io::Signal done_;
};

// 0, or the errno.
io::Task<int> Session::carry_out(Step& step) {
  step.block.error_errno = 0;
  step.pending_ = true;
  while (!backend_->submit(step.block)) static_cast<void>(co_await backend_->admission().wait());
  while (step.pending_) static_cast<void>(co_await step.done_.wait());
  co_return step.block.error_errno;
}

io::Task<Session::Misfit> Session::serve_misfit(RequestSlot& slot) {
  const Request& request = slot.request;
  const uint64_t begin = round_down(request.offset_bytes, block_bytes_);
  const uint64_t end = round_up(request.offset_bytes + request.length_bytes, block_bytes_);
  io::BlockRequest& block = slot.block;
  if (block.operation == io::BlockOperation::Read) {
    if (end - begin > limits_.maximum_payload_bytes) {
      answer(slot, WireError::Einval, "a READ of this length must be aligned to the disk's blocks");
      co_return Misfit::Answered;
    }
    slot.skip_bytes = request.offset_bytes - begin;
    block.offset_bytes = begin;
    block.length_bytes = end - begin;
    co_return Misfit::Fits;
  }
  if (block.operation == io::BlockOperation::Trim) {
    // A hint: the blocks that lie in the range as a whole.
    const uint64_t first = round_up(request.offset_bytes, block_bytes_);
    const uint64_t last = round_down(request.offset_bytes + request.length_bytes, block_bytes_);
    if (first >= last) {
      answer(slot, WireError::None, {});
      co_return Misfit::Answered;
    }
    block.offset_bytes = first;
    block.length_bytes = last - first;
    co_return Misfit::Fits;
  }
  staging_.resize(kPieceBytes);
  // As one request, so that a closing export waits for it as for any other.
  ++in_backend_;
  ++export_->in_flight_;
  bool received = true;
  if (block.operation == io::BlockOperation::Write) {
    received = co_await write_misfit(slot);
  } else {
    co_await zero_misfit(slot);
  }
  --in_backend_;
  --export_->in_flight_;
  if (in_backend_ == 0) changed_.notify_all();
  if (!received) {
    give_back(slot);
    co_return Misfit::Over;
  }
  if (block.error_errno == 0) count(block.operation, request.length_bytes);
  answer(slot, wire_error(block.error_errno), {});
  co_return Misfit::Answered;
}

// False when the connection ended before the payload. The outcome is in the slot's block.
io::Task<bool> Session::write_misfit(RequestSlot& slot) {
  uint64_t position = slot.request.offset_bytes;
  const uint64_t end = position + slot.request.length_bytes;
  while (position < end) {
    const uint64_t piece_end = std::min(end, round_down(position, block_bytes_) + kPieceBytes);
    const std::span<uint8_t> piece = std::span(staging_).first(static_cast<size_t>(piece_end - position));
    const bool received = co_await take_payload(piece);
    if (!received) co_return false;
    if (slot.block.error_errno == 0) slot.block.error_errno = co_await replace(position, piece, slot.block.fua);
    position = piece_end;
  }
  co_return true;
}

io::Task<void> Session::zero_misfit(RequestSlot& slot) {
  const uint64_t begin = slot.request.offset_bytes;
  const uint64_t end = begin + slot.request.length_bytes;
  const uint64_t first = std::min(end, round_up(begin, block_bytes_));
  const uint64_t last = std::max(first, round_down(end, block_bytes_));
  int& error_errno = slot.block.error_errno;
  std::fill(staging_.begin(), staging_.end(), uint8_t{0});
  if (first > begin) {
    const std::span<const uint8_t> zeroes = std::span(staging_).first(static_cast<size_t>(first - begin));
    error_errno = co_await replace(begin, zeroes, slot.block.fua);
  }
  if (error_errno == 0 && last > first) {
    Step step(services_.loop);
    step.block.operation = io::BlockOperation::WriteZeroes;
    step.block.fua = slot.block.fua;
    step.block.no_hole = slot.block.no_hole;
    step.block.offset_bytes = first;
    step.block.length_bytes = last - first;
    // Held so that another session's misfit sees this write.
    co_await export_->range_lock_.acquire(first, last - first);
    error_errno = co_await carry_out(step);
    export_->range_lock_.release();
  }
  if (error_errno == 0 && end > last) {
    const std::span<const uint8_t> zeroes = std::span(staging_).first(static_cast<size_t>(end - last));
    error_errno = co_await replace(last, zeroes, slot.block.fua);
  }
}

// Puts the bytes there, and leaves what else is in their blocks as it is. 0, or the errno.
io::Task<int> Session::replace(uint64_t offset_bytes, std::span<const uint8_t> bytes, bool fua) {
  const uint64_t begin = round_down(offset_bytes, block_bytes_);
  const uint64_t end = round_up(offset_bytes + bytes.size(), block_bytes_);
  Step step(services_.loop);
  step.block.buffer = services_.buffers.try_allocate(static_cast<size_t>(end - begin));
  if (!step.block.buffer) {
    io::BufferRef buffer = co_await services_.buffers.wait_for(static_cast<size_t>(end - begin));
    step.block.buffer = std::move(buffer);
  }
  step.block.offset_bytes = begin;
  step.block.length_bytes = end - begin;

  RangeLock& lock = export_->range_lock_;
  co_await lock.acquire(begin, end - begin);
  // What began before must be in what is read; what comes later waits.
  while (export_->writes_in_flight(begin, end - begin)) static_cast<void>(co_await lock.progress().wait());
  int error_errno = 0;
  if (end - begin != bytes.size()) {
    step.block.operation = io::BlockOperation::Read;
    error_errno = co_await carry_out(step);
  }
  if (error_errno == 0) {
    std::memcpy(step.block.buffer.data() + (offset_bytes - begin), bytes.data(), bytes.size());
    step.block.operation = io::BlockOperation::Write;
    step.block.fua = fua;
    error_errno = co_await carry_out(step);
  }
  lock.release();
  co_return error_errno;
}

}  // namespace lockstep::nbd
