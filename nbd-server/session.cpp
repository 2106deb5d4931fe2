#include "nbd-server/session.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "io/base/check.h"

namespace lockstep::nbd {
namespace {

// Several small requests arrive in one receive; what is longer than a quarter of it is received in place.
constexpr size_t kWindowBytes = size_t{64} * 1024;
constexpr size_t kCopiedPayloadBytes = size_t{16} * 1024;
static_assert(kWindowBytes >= kNegotiationWindowBytes);
// One batch of replies holds at least one, and no further one when it has so many bytes.
constexpr size_t kBatchBytes = size_t{4} * 1024 * 1024;

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

iovec piece(std::span<const uint8_t> bytes) {
  return {const_cast<uint8_t*>(bytes.data()), bytes.size()};  // sendmsg(2) reads only
}

std::optional<Request> decode_request(ReplyForm form, std::span<const uint8_t> from) {
  return form == ReplyForm::Extended ? decode_extended_request(from) : decode_compact_request(from);
}

}  // namespace

Session::Session(SessionServices& services, std::unique_ptr<io::Stream> stream)
    : services_(services),
      stream_(std::move(stream)),
      window_(kWindowBytes),
      changed_(services.loop),
      replies_ready_(services.loop),
      reader_limit_(services.loop, [this] { stream_->shutdown(); }),
      sender_limit_(services.loop, [this] { stream_->shutdown(); }),
      closing_limit_(services.loop, [this] { stream_->shutdown(); }) {}

Session::~Session() {
  LOCKSTEP_CHECK(export_ == nullptr && in_backend_ == 0);
}

io::Task<std::string> Session::serve() {
  reader_limit_.start_once_ms(services_.options.handshake_limit_ms);
  const bool agreed = co_await negotiate();
  reader_limit_.cancel();
  if (agreed) {
    sender_ended_ = false;
    services_.loop.spawn(send_replies());
    co_await receive_requests();
    co_await finish();
  }
  stream_->close();
  if (export_ != nullptr) {
    export_->leave(*this);
    export_ = nullptr;
  }
  co_return std::move(ended_because_);
}

io::Task<bool> Session::fill(size_t bytes) {
  while (window_.filled_bytes() < bytes) {
    const std::span<uint8_t> room = window_.room(bytes);
    const Result<size_t> received = co_await stream_->read_some(room);
    if (!received.ok()) {
      const bool clean = window_.filled_bytes() == 0 && received.error().kind == ErrorKind::Closed;
      why_ended(clean ? "the client closed the connection" : received.error().message);
      co_return false;
    }
    window_.fill(*received);
  }
  co_return true;
}

io::Task<bool> Session::negotiate() {
  std::vector<uint8_t> reply;
  Negotiation::greet(reply);
  Negotiation negotiation(services_.exports);
  for (;;) {
    if (!reply.empty()) {
      const Status sent = co_await stream_->write_all(std::span<const uint8_t>(reply));
      if (!sent.ok()) {
        why_ended(sent.error().message);
        co_return false;
      }
      reply.clear();
    }
    if (negotiation.phase() == Negotiation::Phase::Transmission) co_return true;
    if (negotiation.phase() == Negotiation::Phase::Ended) {
      why_ended(negotiation.why_ended());
      co_return false;
    }
    const size_t taken = negotiation.advance(window_.filled(), reply);
    window_.take(taken);
    if (taken == 0) {
      const bool more = co_await fill(window_.filled_bytes() + 1);
      if (!more) co_return false;
    }
    if (negotiation.phase() == Negotiation::Phase::Transmission) {
      // Before the reply leaves: from here on close_sessions() knows this session.
      const ExportOffer& agreed = negotiation.agreed_export();
      export_ = services_.exports.find_export(agreed.name);
      LOCKSTEP_CHECK(export_ != nullptr);
      backend_ = &export_->join(*this);
      limits_ = agreed.limits;
      form_ = negotiation.reply_form();
      slab_ = std::make_unique<RequestSlab>(services_.options.requests_in_flight);
      batch_ = std::make_unique<ReplyBatch>();
    }
  }
}

io::Task<void> Session::receive_requests() {
  const size_t header_bytes = form_ == ReplyForm::Extended ? kExtendedRequestBytes : kRequestBytes;
  while (!broken_) {
    if (window_.filled_bytes() < header_bytes) {
      const bool more = co_await fill(header_bytes);
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
    if (verdict.decision == RequestVerdict::Decision::Submit && closing_) {
      verdict.decision = RequestVerdict::Decision::Fail;
      verdict.error = WireError::Eshutdown;
    }
    if (verdict.decision == RequestVerdict::Decision::EndSession) {
      give_back(*slot);
      co_return;
    }
    if (verdict.decision == RequestVerdict::Decision::Disconnect) {
      give_back(*slot);
      why_ended(verdict.reason);
      co_return;
    }
    if (verdict.decision != RequestVerdict::Decision::Submit) {
      if (verdict.payload_bytes > 0) {
        const bool drained = co_await drain(verdict.payload_bytes);
        if (!drained) {
          give_back(*slot);
          co_return;
        }
      }
      answer(*slot, verdict.error, verdict.reason);
      continue;
    }

    io::BlockRequest& block = slot->block;
    block.operation = operation_of(request->command);
    block.fua = (request->flags & command_flag::kFua) != 0;
    block.no_hole = (request->flags & command_flag::kNoHole) != 0;
    block.offset_bytes = request->offset_bytes;
    block.length_bytes = request->length_bytes;
    block.error_errno = 0;
    block.owner = this;
    if (block.operation == io::BlockOperation::Read || block.operation == io::BlockOperation::Write) {
      block.buffer = services_.buffers.try_allocate(request->length_bytes);
      if (!block.buffer) {
        io::BufferRef buffer = co_await services_.buffers.wait_for(request->length_bytes);
        block.buffer = std::move(buffer);
      }
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

io::Task<bool> Session::receive_payload(std::span<uint8_t> into) {
  reader_limit_.start_once_ms(services_.options.stall_limit_ms);
  bool received = false;
  if (into.size() <= kCopiedPayloadBytes) {
    received = co_await fill(into.size());
    if (received) {
      std::memcpy(into.data(), window_.filled().data(), into.size());
      window_.take(into.size());
    }
  } else {
    const Status status = co_await stream_->read_exact(into);
    received = status.ok();
    if (!received) why_ended(status.error().message);
  }
  reader_limit_.cancel();
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

// False when the backend has no room now.
bool Session::try_submit(RequestSlot& slot) {
  if (broken_) {
    give_back(slot);
    return true;
  }
  if (closing_) {
    answer(slot, WireError::Eshutdown, {});
    return true;
  }
  if (!backend_->submit(slot.block)) return false;
  ++in_backend_;
  ++export_->in_flight_;
  return true;
}

io::Task<void> Session::submit(RequestSlot& slot) {
  do {
    static_cast<void>(co_await backend_->admission().wait());
  } while (!try_submit(slot));
}

void Session::completed(io::BlockRequest& block) noexcept {
  LOCKSTEP_CHECK(in_backend_ > 0);
  --in_backend_;
  --export_->in_flight_;
  if (block.error_errno == 0) count(block);
  // A written payload may be of use to others at once; what was read is sent first.
  if (block.operation != io::BlockOperation::Read || block.error_errno != 0) block.buffer.reset();
  answer(slab_->of(block), wire_error(block.error_errno), {});
  if (in_backend_ == 0) changed_.notify_all();
}

void Session::count(const io::BlockRequest& block) {
  ExportStatistics& statistics = export_->statistics_;
  switch (block.operation) {
    case io::BlockOperation::Read:
      ++statistics.reads;
      statistics.read_bytes += block.length_bytes;
      break;
    case io::BlockOperation::Write:
      ++statistics.writes;
      statistics.written_bytes += block.length_bytes;
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
  slab_->give_back(slot);
  changed_.notify_all();
}

void Session::run() noexcept {
  replies_ready_.notify_all();
}

Session::Gathered Session::gather() {
  Gathered gathered;
  size_t bytes = 0;
  while (gathered.slots < kBatchReplies && bytes < kBatchBytes) {
    RequestSlot* slot = replies_.pop();
    if (slot == nullptr) break;
    ReplyHead& head = batch_->heads[gathered.slots];
    batch_->slots[gathered.slots++] = slot;
    const std::span<const uint8_t> data =
        slot->error == WireError::None ? slot->block.buffer.bytes() : std::span<const uint8_t>();
    if (data.empty()) {
      encode_reply(form_, slot->request, slot->error, slot->reason, head);
      batch_->pieces[gathered.pieces++] = piece(head.span());
    } else {
      LOCKSTEP_CHECK(data.size() == slot->request.length_bytes);
      encode_read_head(form_, slot->request, head);
      batch_->pieces[gathered.pieces++] = piece(head.span());
      batch_->pieces[gathered.pieces++] = piece(data);
    }
    bytes += head.size_bytes + data.size();
  }
  return gathered;
}

io::Task<void> Session::send_replies() {
  for (;;) {
    while (replies_.empty() && !no_more_replies_) static_cast<void>(co_await replies_ready_.wait());
    if (replies_.empty()) break;
    sending_ = true;
    const Gathered gathered = gather();
    sender_limit_.start_once_ms(services_.options.stall_limit_ms);
    const Status sent = co_await stream_->write_all(std::span<const iovec>(batch_->pieces.data(), gathered.pieces));
    sender_limit_.cancel();
    for (size_t i = 0; i < gathered.slots; ++i) slab_->give_back(*batch_->slots[i]);
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
  while (RequestSlot* slot = replies_.pop()) slab_->give_back(*slot);
  stream_->shutdown();
}

void Session::begin_close() {
  if (closing_) return;
  closing_ = true;
  why_ended("the export was closed");
  // The reader may wait for a slot of the backend; it should give up now.
  backend_->admission().notify_all();
  closing_step();
}

void Session::closing_step() {
  if (!closing_ || in_backend_ > 0 || lingering_) return;
  if (replies_.empty() && !sending_) {
    lingering_ = true;
    closing_limit_.start_once_ms(services_.options.closing_linger_ms);
  } else if (!closing_limit_.armed()) {
    closing_limit_.start_once_ms(services_.options.closing_reply_limit_ms);
  }
}

io::Task<void> Session::finish() {
  while (in_backend_ > 0) static_cast<void>(co_await changed_.wait());
  if (!closing_limit_.armed()) closing_limit_.start_once_ms(services_.options.stall_limit_ms);
  while (!replies_.empty() || sending_) static_cast<void>(co_await changed_.wait());
  no_more_replies_ = true;
  replies_ready_.notify_all();
  while (!sender_ended_) static_cast<void>(co_await changed_.wait());
  closing_limit_.cancel();
  LOCKSTEP_CHECK(slab_->used() == 0);
}

}  // namespace lockstep::nbd
