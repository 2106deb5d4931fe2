// The sender: what has been completed goes out, all of a turn of the loop in one system call.
#include <utility>

#include "io/base/check.h"
#include "nbd-server/session.h"

namespace lockstep::nbd {
namespace {

// One batch of replies holds at least one, and no further one when it has so many bytes.
constexpr size_t kBatchBytes = size_t{4} * 1024 * 1024;

iovec piece(std::span<const uint8_t> bytes) {
  return {const_cast<uint8_t*>(bytes.data()), bytes.size()};  // sendmsg(2) reads only
}

}  // namespace

void Session::count(io::BlockOperation operation, uint64_t length_bytes) {
  ExportStatistics& statistics = export_->statistics_;
  switch (operation) {
    case io::BlockOperation::Read:
      ++statistics.reads;
      statistics.read_bytes += length_bytes;
      break;
    case io::BlockOperation::Write:
      ++statistics.writes;
      statistics.written_bytes += length_bytes;
      break;
    case io::BlockOperation::Trim:
    case io::BlockOperation::WriteZeroes:
      ++statistics.writes;
      break;
    case io::BlockOperation::Flush:
      ++statistics.flushes;
      break;
  }
}

void Session::answer(RequestSlot& slot, WireError error, std::string_view reason) {
  slot.error = error;
  slot.reason = reason;
  if (broken_) {
    give_back(slot);
  } else {
    replies_.push(slot);
    if (!sending_) services_.replies.wake_at_turn_end(*this);
  }
  closing_step();
}

void Session::give_back(RequestSlot& slot) {
  release_buffer(slot);
  slab_->give_back(slot);
  if (changed_.has_waiters()) changed_.notify_all();
}

void Session::run() noexcept {
  replies_ready_.notify_all();
}

Session::Gathered Session::gather() {
  Gathered gathered;
  size_t bytes = 0;
  while (gathered.slots < kBatchReplies && gathered.heads + kMaximumReadChunks <= kBatchHeads && bytes < kBatchBytes) {
    RequestSlot* slot = replies_.pop();
    if (slot == nullptr) break;
    batch_->slots[gathered.slots++] = slot;
    if (slot->reply_bytes > 0) {
      batch_->pieces[gathered.pieces++] = piece(slot->block.buffer.bytes().first(slot->reply_bytes));
      bytes += slot->reply_bytes;
    } else if (slot->error == WireError::None && slot->block.buffer) {
      bytes += gather_read(*slot, gathered);
    } else {
      ReplyHead& head = batch_->heads[gathered.heads++];
      encode_reply(form_, slot->request, slot->error, slot->reason, head);
      batch_->pieces[gathered.pieces++] = piece(head.span());
      bytes += head.size_bytes;
    }
  }
  return gathered;
}

// The bytes to send.
size_t Session::gather_read(const RequestSlot& slot, Gathered& gathered) {
  const std::span<const uint8_t> data =
      slot.block.buffer.bytes().subspan(slot.skip_bytes, static_cast<size_t>(slot.request.length_bytes));
  if (form_ == ReplyForm::Simple) {
    ReplyHead& head = batch_->heads[gathered.heads++];
    encode_read_head(form_, slot.request, head);
    batch_->pieces[gathered.pieces++] = piece(head.span());
    batch_->pieces[gathered.pieces++] = piece(data);
    return head.size_bytes + data.size();
  }
  const bool one_chunk = (slot.request.flags & command_flag::kDf) != 0;
  const ReadChunks split = split_read(data, slot.request.offset_bytes, one_chunk);
  size_t bytes = 0;
  for (size_t i = 0; i < split.count; ++i) {
    const ReadChunk& chunk = split.chunks[i];
    ReplyHead& head = batch_->heads[gathered.heads++];
    encode_read_chunk(form_, slot.request, chunk, i + 1 == split.count, head);
    batch_->pieces[gathered.pieces++] = piece(head.span());
    bytes += head.size_bytes;
    if (chunk.hole) continue;
    batch_->pieces[gathered.pieces++] = piece(data.subspan(chunk.offset_bytes, chunk.length_bytes));
    bytes += chunk.length_bytes;
  }
  return bytes;
}

io::Task<void> Session::send_replies() {
  for (;;) {
    while (replies_.empty() && !no_more_replies_) static_cast<void>(co_await replies_ready_.wait());
    if (replies_.empty()) break;
    sending_ = true;
    const Gathered gathered = gather();
    sender_limit_.start(services_.options.stall_limit_ms, services_.options.pressed_stall_limit_ms);
    const Status sent = co_await stream_->write_all(std::span<const iovec>(batch_->pieces.data(), gathered.pieces));
    sender_limit_.stop();
    for (size_t i = 0; i < gathered.slots; ++i) give_back(*batch_->slots[i]);
    sending_ = false;
    if (!sent.ok()) {
      why_ended(sent.error().message);
      break_off();
    }
    changed_.notify_all();
    closing_step();
  }
  sender_ended_ = true;
  changed_.notify_all();
}

void Session::break_off() {
  broken_ = true;
  while (RequestSlot* slot = replies_.pop()) give_back(*slot);
  stream_->shutdown();
}

}  // namespace lockstep::nbd
