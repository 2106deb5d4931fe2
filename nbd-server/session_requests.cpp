// The reader: requests come in, are validated, get their memory, and go to the backend.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "io/base/check.h"
#include "nbd-server/session.h"

namespace lockstep::nbd {
namespace {

// Several small requests arrive in one receive; a longer payload is received in place.
constexpr size_t kCopiedPayloadBytes = size_t{16} * 1024;
// A BLOCK_STATUS looks at so much of the export at most, and a client asks on: the work for one request is bounded.
constexpr uint64_t kStatusRangeBytes = uint64_t{64} << 30;

io::BlockOperation operation_of(uint16_t command) {
  switch (static_cast<Command>(command)) {
    case Command::Write:
      return io::BlockOperation::Write;
    case Command::Flush:
      return io::BlockOperation::Flush;
    case Command::Trim:
      return io::BlockOperation::Trim;
    case Command::WriteZeroes:
      return io::BlockOperation::WriteZeroes;
    default:
      LOCKSTEP_CHECK(command == static_cast<uint16_t>(Command::Read));
      return io::BlockOperation::Read;
  }
}

bool writes(io::BlockOperation operation) {
  return operation != io::BlockOperation::Read && operation != io::BlockOperation::Flush;
}

std::optional<Request> decode_request(ReplyForm form, std::span<const uint8_t> from) {
  return form == ReplyForm::Extended ? decode_extended_request(from) : decode_compact_request(from);
}

}  // namespace

io::Task<void> Session::receive_requests() {
  const size_t header_bytes = request_header_bytes();
  while (!broken_) {
    if (window_.filled_bytes() < header_bytes) {
      // Behind a long payload there comes another: it is to be received where it belongs.
      const bool more = co_await fill(header_bytes, last_is_long_);
      if (!more) co_return;
    }
    const std::optional<Request> request = decode_request(form_, window_.filled());
    if (!request) {
      why_ended("wrong magic number of a request");
      co_return;
    }
    RequestSlot* slot = slab_->take();
    while (slot == nullptr) {
      static_cast<void>(co_await changed_.wait());
      if (broken_) co_return;
      slot = slab_->take();
    }
    window_.take(header_bytes);
    slot->request = *request;

    RequestVerdict verdict = validate_request(*request, limits_, form_);
    last_is_long_ = verdict.payload_bytes > kCopiedPayloadBytes;
    if (verdict.decision == RequestVerdict::Decision::Submit && closing_) {
      verdict.decision = RequestVerdict::Decision::Fail;
      verdict.error = WireError::Eshutdown;
    }
    if (verdict.decision != RequestVerdict::Decision::Submit) {
      const bool goes_on = co_await refuse(*slot, verdict);
      if (!goes_on) co_return;
      continue;
    }
    if (request->command == static_cast<uint16_t>(Command::BlockStatus)) {
      const bool goes_on = co_await answer_block_status(*slot, verdict.payload_bytes);
      if (!goes_on) co_return;
      continue;
    }
    if ((request->flags & command_flag::kFastZero) != 0 && !backend_->geometry().fast_zeroes) {
      answer(*slot, WireError::Enotsup, "zeroes may take as long as data");
      continue;
    }

    fill_block(*slot);
    if (is_misfit(*request)) {
      const Misfit misfit = co_await serve_misfit(*slot);
      if (misfit == Misfit::Over) co_return;
      if (misfit == Misfit::Answered) continue;
    }
    io::BlockRequest& block = slot->block;
    if (block.operation == io::BlockOperation::Read || block.operation == io::BlockOperation::Write) {
      if (!try_allocate(*slot, block.length_bytes)) co_await allocate(*slot, block.length_bytes);
    }
    if (verdict.payload_bytes > 0) {
      std::span<uint8_t> payload = block.buffer.bytes();
      LOCKSTEP_CHECK(payload.size() == verdict.payload_bytes);
      const size_t here = std::min(payload.size(), window_.filled_bytes());
      std::memcpy(payload.data(), window_.filled().data(), here);
      window_.take(here);
      if (here < payload.size()) {
        const bool received = co_await receive_payload(payload.subspan(here));
        if (!received) {
          give_back(*slot);
          co_return;
        }
      }
    }
    if (!try_submit(*slot)) co_await submit(*slot);
  }
}

// What does not go to the backend. False when the session is over.
io::Task<bool> Session::refuse(RequestSlot& slot, const RequestVerdict& verdict) {
  if (verdict.decision == RequestVerdict::Decision::EndSession) {
    give_back(slot);
    co_return false;
  }
  if (verdict.decision == RequestVerdict::Decision::Disconnect) {
    give_back(slot);
    why_ended(verdict.reason);
    co_return false;
  }
  const WireError error = verdict.error;
  const std::string_view reason = verdict.reason;
  if (verdict.payload_bytes > 0) {
    const bool drained = co_await drain(verdict.payload_bytes);
    if (!drained) {
      give_back(slot);
      co_return false;
    }
  }
  answer(slot, error, reason);
  co_return true;
}

void Session::fill_block(RequestSlot& slot) {
  const Request& request = slot.request;
  io::BlockRequest& block = slot.block;
  block.operation = operation_of(request.command);
  block.fua = (request.flags & command_flag::kFua) != 0;
  block.no_hole = (request.flags & command_flag::kNoHole) != 0;
  block.offset_bytes = request.offset_bytes;
  block.length_bytes = request.length_bytes;
  block.error_errno = 0;
  block.owner = this;
}

bool Session::try_allocate(RequestSlot& slot, size_t bytes) {
  if (held_bytes_ > 0 && held_bytes_ + bytes > services_.options.bytes_in_flight) return false;
  slot.block.buffer = services_.buffers.try_allocate(bytes);
  if (!slot.block.buffer) return false;
  slot.held_bytes = slot.block.buffer.capacity_bytes();
  held_bytes_ += slot.held_bytes;
  return true;
}

io::Task<void> Session::allocate(RequestSlot& slot, size_t bytes) {
  while (held_bytes_ > 0 && held_bytes_ + bytes > services_.options.bytes_in_flight) {
    static_cast<void>(co_await changed_.wait());
  }
  io::BufferRef buffer = co_await services_.buffers.wait_for(bytes);
  slot.block.buffer = std::move(buffer);
  slot.held_bytes = slot.block.buffer.capacity_bytes();
  held_bytes_ += slot.held_bytes;
}

void Session::release_buffer(RequestSlot& slot) {
  slot.block.buffer.reset();
  if (slot.held_bytes == 0) return;
  held_bytes_ -= std::exchange(slot.held_bytes, 0);
  if (changed_.has_waiters()) changed_.notify_all();
}

io::Task<bool> Session::take_payload(std::span<uint8_t> into) {
  const size_t here = std::min(into.size(), window_.filled_bytes());
  std::memcpy(into.data(), window_.filled().data(), here);
  window_.take(here);
  if (here == into.size()) co_return true;
  const bool received = co_await receive_payload(into.subspan(here));
  co_return received;
}

io::Task<bool> Session::receive_payload(std::span<uint8_t> into) {
  reader_limit_.start(services_.options.stall_limit_ms, services_.options.pressed_stall_limit_ms);
  bool received = false;
  if (!last_is_long_) {
    received = co_await fill(into.size());
    if (received) {
      std::memcpy(into.data(), window_.filled().data(), into.size());
      window_.take(into.size());
    }
  } else {
    // With the header of the next one, if that has come: nothing is in the window.
    const size_t header_bytes = request_header_bytes();
    const Result<size_t> beyond = co_await stream_->read_exact(into, window_.room(header_bytes).first(header_bytes));
    received = beyond.ok();
    if (received) {
      window_.fill(*beyond);
    } else {
      why_ended(beyond.error().message);
    }
  }
  reader_limit_.stop();
  co_return received;
}

io::Task<bool> Session::drain(uint64_t bytes) {
  while (bytes > 0) {
    if (window_.filled_bytes() == 0) {
      const bool more = co_await fill(1);
      if (!more) co_return false;
    }
    const size_t taken = static_cast<size_t>(std::min<uint64_t>(bytes, window_.filled_bytes()));
    window_.take(taken);
    bytes -= taken;
  }
  co_return true;
}

// False when the backend has no room now, or the range is kept from being written.
bool Session::try_submit(RequestSlot& slot) {
  if (broken_) {
    give_back(slot);
    return true;
  }
  if (closing_) {
    answer(slot, WireError::Eshutdown, {});
    return true;
  }
  const io::BlockRequest& block = slot.block;
  if (export_->range_lock_.held() && writes(block.operation) &&
      export_->range_lock_.forbids(block.offset_bytes, block.length_bytes)) {
    return false;
  }
  if (!backend_->submit(slot.block)) return false;
  slot.in_backend = true;
  ++in_backend_;
  ++export_->in_flight_;
  return true;
}

io::Task<void> Session::submit(RequestSlot& slot) {
  // The caller's try was before this began, a turn of the run queue ago: what it waited for may have come and gone.
  while (!try_submit(slot)) {
    const bool locked =
        writes(slot.block.operation) && export_->range_lock_.forbids(slot.block.offset_bytes, slot.block.length_bytes);
    io::Signal& signal = locked ? export_->range_lock_.released() : backend_->admission();
    static_cast<void>(co_await signal.wait());
  }
}

bool Session::writes_in_flight(uint64_t offset_bytes, uint64_t length_bytes) const {
  const auto slots = slab_->slots();
  return std::any_of(slots.begin(), slots.end(), [&](const RequestSlot& slot) {
    const io::BlockRequest& block = slot.block;
    return slot.in_backend && writes(block.operation) && block.offset_bytes < offset_bytes + length_bytes &&
           offset_bytes < block.offset_bytes + block.length_bytes;
  });
}

void Session::completed(io::BlockRequest& block) noexcept {
  LOCKSTEP_CHECK(in_backend_ > 0);
  --in_backend_;
  --export_->in_flight_;
  RequestSlot& slot = slab_->of(block);
  slot.in_backend = false;
  if (export_->range_lock_.held()) export_->range_lock_.progress().notify_all();
  if (block.error_errno == 0) count(block.operation, slot.request.length_bytes);
  // A written payload may be of use to others at once; what was read is sent first.
  if (block.operation != io::BlockOperation::Read || block.error_errno != 0) release_buffer(slot);
  answer(slot, wire_error(block.error_errno), {});
  if (in_backend_ == 0) changed_.notify_all();
}

// ---- BLOCK_STATUS ----

// False when the connection is over.
io::Task<bool> Session::answer_block_status(RequestSlot& slot, uint64_t payload_bytes) {
  MetaContextSet contexts = contexts_;
  if (payload_bytes > kMaximumStatusFilterBytes) {
    const bool drained = co_await drain(payload_bytes);
    if (!drained) {
      give_back(slot);
      co_return false;
    }
    answer(slot, WireError::Einval, "the payload names more contexts than were selected");
    co_return true;
  }
  if (payload_bytes > 0) {
    std::array<uint8_t, kMaximumStatusFilterBytes> bytes{};
    const std::span<uint8_t> payload = std::span(bytes).first(static_cast<size_t>(payload_bytes));
    const bool received = co_await take_payload(payload);
    if (!received) {
      give_back(slot);
      co_return false;
    }
    const std::optional<StatusFilter> filter = decode_status_filter(payload, contexts_);
    if (!filter) {
      answer(slot, WireError::Einval, "the payload does not choose among the selected contexts");
      co_return true;
    }
    contexts = filter->contexts;
    slot.request.length_bytes = filter->length_bytes;
    slot.request.flags &= static_cast<uint16_t>(~command_flag::kPayloadLength);
    const RequestVerdict verdict = validate_request(slot.request, limits_, form_);
    if (verdict.decision != RequestVerdict::Decision::Submit) {
      answer(slot, verdict.error, verdict.reason);
      co_return true;
    }
  }
  const size_t reply_bytes = contexts.size() * kStatusChunkBytes;
  if (!try_allocate(slot, reply_bytes)) co_await allocate(slot, reply_bytes);
  if (broken_) {
    give_back(slot);
    co_return false;
  }
  slot.reply_bytes = encode_status(slot, contexts, slot.block.buffer.bytes());
  answer(slot, WireError::None, {});
  co_return true;
}

// The whole reply, a chunk for each context. The backend answers at once, in multiples of its blocks.
size_t Session::encode_status(const RequestSlot& slot, MetaContextSet contexts, std::span<uint8_t> to) {
  std::array<io::BlockExtent, kMaximumStatusExtents> found;
  std::array<StatusExtent, kMaximumStatusExtents> extents;
  const Request& request = slot.request;
  const bool one = (request.flags & command_flag::kReqOne) != 0;
  const uint64_t begin_bytes = request.offset_bytes / block_bytes_ * block_bytes_;
  const uint64_t end_bytes = request.offset_bytes + std::min(request.length_bytes, kStatusRangeBytes);
  const uint64_t rounded_end_bytes = (end_bytes + block_bytes_ - 1) / block_bytes_ * block_bytes_;
  size_t position = 0;
  size_t left = contexts.size();
  for (size_t i = 0; i < kMetaContexts; ++i) {
    const auto context = static_cast<MetaContext>(i);
    if (!contexts.has(context)) continue;
    const auto map = context == MetaContext::Allocation ? io::BlockMap::Allocation : io::BlockMap::Dirty;
    const size_t count = backend_->extents(map, begin_bytes, rounded_end_bytes - begin_bytes,
                                           std::span(found).first(one ? 1 : found.size()));
    LOCKSTEP_CHECK(count > 0);
    // Cut to what was asked for, at both ends.
    uint64_t at_bytes = begin_bytes;
    size_t kept = 0;
    for (size_t k = 0; k < count && at_bytes < end_bytes; ++k) {
      const uint64_t from = std::max(at_bytes, request.offset_bytes);
      at_bytes += found[k].length_bytes;
      const uint64_t until = std::min(at_bytes, end_bytes);
      if (until > from) extents[kept++] = {until - from, found[k].flags};
    }
    position += encode_status_chunk(form_, request, id_of(context), std::span<const StatusExtent>(extents).first(kept),
                                    --left == 0, to.subspan(position));
  }
  return position;
}

}  // namespace lockstep::nbd
