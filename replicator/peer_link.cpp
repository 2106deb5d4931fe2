#include "replicator/peer_link.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "io/log_about.h"

namespace lockstep::repl {
namespace {

Error closed(std::string why) {
  return {ErrorKind::Closed, 0, std::move(why)};
}

}  // namespace

PeerLink::PeerLink(io::Loop& loop, LinkOwner& owner, const LinkIdentity& self, PeerIndex peer, std::string peer_name,
                   io::Address peer_address, LinkOptions options)
    : loop_(loop),
      owner_(owner),
      self_(self),
      peer_(peer),
      peer_name_(std::move(peer_name)),
      peer_address_(std::move(peer_address)),
      options_(options),
      dial_wake_(loop),
      retry_timer_(loop, [this] { dial_wake_.notify_all(); }),
      writer_wake_(loop),
      run_ended_(loop),
      writer_gate_(loop),
      close_timer_(loop, [this] { end_now(); }) {}

void PeerLink::connect() {
  wanted_ = true;
  retry_ms_ = options_.first_retry_ms;
  if (!dials()) return;
  if (dialing_) {
    dial_wake_.notify_all();
    return;
  }
  dialing_ = true;
  loop_.spawn(dial());
}

void PeerLink::stop_connecting() {
  wanted_ = false;
}

void PeerLink::report(std::string problem) {
  if (problem == problem_) return;
  problem_ = std::move(problem);
  const io::LogAbout about("no-link", peer_name_);
  if (!problem_.empty()) spdlog::warn("{}: no link with {}: {}", self_.resource_name, peer_name_, problem_);
}

// One that never lasts long is tried again and again: no news.
void PeerLink::log_link(const char* event, const std::string& what) const {
  const io::LogAbout about(event, peer_name_);
  spdlog::log(short_lived_ ? spdlog::level::debug : spdlog::level::info, "{}: link with {} {}", self_.resource_name,
              peer_name_, what);
}

// ---- coming up ----

io::Task<void> PeerLink::dial() {
  while (!loop_.stopping()) {
    if (!wanted_) {
      co_await dial_wake_.wait();
      continue;
    }
    const uint64_t began_ms = loop_.now_ms();
    const Status status = co_await dial_once();
    if (loop_.stopping()) break;
    // A link that ends at once, as one that the handshake refuses, is no reason to hurry.
    if (status && loop_.now_ms() - began_ms > options_.last_retry_ms) retry_ms_ = options_.first_retry_ms;
    if (!status) report(status.error().message);
    retry_timer_.start_once_ms(retry_ms_);
    retry_ms_ = std::min(retry_ms_ * 2, options_.last_retry_ms);
    co_await dial_wake_.wait();
  }
  retry_timer_.cancel();
  dialing_ = false;
}

io::Task<Status> PeerLink::dial_once() {
  Result<std::unique_ptr<io::Stream>> connected =
      co_await io::connect_stream(loop_, peer_address_, options_.connect_timeout_ms, options_.stream);
  if (!connected) co_return std::move(connected).error();
  std::unique_ptr<io::Stream> stream = std::move(*connected);
  const uint64_t half = random_half();
  Hello ours = make_hello(self_, peer_name_, half);
  io::Timer deadline(loop_, [&stream] { stream->shutdown(); });
  deadline.start_once_ms(options_.handshake_timeout_ms);
  const Status secured = co_await secure_dialed(loop_, stream, options_.security, peer_name_);
  if (!secured) {
    co_return Error{ErrorKind::Refused, 0,
                    "no TLS with " + io::format_address(peer_address_) + ": " + secured.error().message +
                        " (has that node the same 'secret-file', or certificates of the same authority?)"};
  }
  const Status sent = co_await send_hello(*stream, ours);
  if (!sent) co_return sent.error();
  const Result<Hello> theirs = co_await receive_hello(*stream);
  const bool in_time = deadline.armed();
  deadline.cancel();
  if (!theirs) {
    if (!in_time) co_return Error{ErrorKind::TimedOut, 0, "it does not answer on " + io::format_address(peer_address_)};
    // A node that expects TLS says so in TLS, or not at all.
    const bool understood = theirs.error().kind == ErrorKind::Refused || theirs.error().kind == ErrorKind::Unsupported;
    if (understood || options_.security.dialing != nullptr) co_return theirs.error();
    co_return Error{theirs.error().kind, 0,
                    theirs.error().message + " (has that node a 'secret-file' or 'link-certificates'?)"};
  }
  if (theirs->node_name != peer_name_) {
    co_return Error{ErrorKind::Refused, 0,
                    "node " + theirs->node_name + " answers on " + io::format_address(peer_address_) +
                        ": correct the addresses in the configuration"};
  }
  if (!may_be(*stream, options_.security, peer_name_)) {
    co_return Error{ErrorKind::Refused, 0,
                    "the certificate shown on " + io::format_address(peer_address_) + " is not of node " + peer_name_};
  }
  if (const std::optional<Refusal> refusal = judge_hello(self_, *theirs)) {
    co_return Error{ErrorKind::Refused, 0, refusal->text};
  }
  if (!wanted_ || loop_.stopping()) co_return Status{};
  co_await run(*stream, link_incarnation(half, theirs->incarnation_half));
  co_return Status{};
}

io::Task<void> PeerLink::serve(std::unique_ptr<io::Stream> stream, Hello theirs) {
  const uint64_t turn = ++served_;
  std::optional<Refusal> refusal = judge_hello(self_, theirs);
  if (refusal) {
    report(refusal->text);
  } else if (!wanted_ || dials()) {
    refusal = Refusal{RefusalReason::NotWanted, self_.node_name + " does not want a link with " + peer_name_ + " now"};
  }
  io::Timer deadline(loop_, [&stream] { stream->shutdown(); });
  if (refusal) {
    deadline.start_once_ms(options_.close_timeout_ms);
    [[maybe_unused]] const Status told = co_await send_refusal(*stream, *refusal);
    co_return;
  }
  // The peer would not dial anew if it still had the old link.
  while (running_ && served_ == turn && !loop_.stopping()) {
    end_reason_ = "the peer opened a new one";
    end_now();
    co_await run_ended_.wait();
  }
  if (served_ != turn || loop_.stopping()) co_return;
  const uint64_t half = random_half();
  Hello ours = make_hello(self_, peer_name_, half);
  deadline.start_once_ms(options_.handshake_timeout_ms);
  const Status sent = co_await send_hello(*stream, ours);
  deadline.cancel();
  if (!sent || !wanted_ || served_ != turn || running_ || loop_.stopping()) co_return;
  co_await run(*stream, link_incarnation(theirs.incarnation_half, half));
}

// ---- up ----

io::Task<void> PeerLink::run(io::Stream& stream, uint64_t link_incarnation) {
  LOCKSTEP_CHECK(!running_);
  running_ = true;
  closing_ = false;
  ended_ = false;
  ++incarnation_;
  stream_ = &stream;
  remote_description_ = describe_link(stream);
  end_reason_.clear();
  report({});
  queue_.restart(link_incarnation);
  received_from_ = received_to_ = in_place_frame_bytes_ = 0;
  if (receive_memory_ == nullptr) receive_memory_ = std::make_unique<uint8_t[]>(kReceiveBytes);
  const uint64_t began_ms = loop_.now_ms();
  log_link("link-up", "is up (" + remote_description_ + ")");
  owner_.link_established(peer_, incarnation_);

  loop_.spawn(write_frames(stream));
  const Status status = co_await read_frames(stream, link_incarnation);
  stream.shutdown();
  ended_ = true;
  writer_wake_.notify_all();
  co_await writer_gate_.emptied();
  close_timer_.cancel();
  queue_.clear();
  running_ = false;
  stream_ = nullptr;
  if (end_reason_.empty()) end_reason_ = closing_ ? "closed by this node" : status.error().message;
  log_link("link-down", "is down: " + end_reason_);
  short_lived_ = loop_.now_ms() - began_ms < options_.last_retry_ms;
  owner_.link_lost(peer_, incarnation_);
  run_ended_.notify_all();
}

void PeerLink::send(Incarnation incarnation, const Message& message, const io::BufferRef& payload,
                    uint32_t payload_checksum) {
  if (!running_ || closing_ || ended_ || incarnation != incarnation_) return;
  if (queue_.frames() >= kMaximumQueuedFrames) {
    end_reason_ = "it does not read what is sent to it";
    end_now();
    return;
  }
  queue_.push(message, payload, payload_checksum);
}

void PeerLink::send(const AuditFrame& frame) {
  if (!running_ || closing_ || ended_ || queue_.frames() >= kMaximumQueuedFrames) return;
  queue_.push(frame);
}

void PeerLink::flush() {
  if (running_ && !queue_.empty() && writer_wake_.has_waiters()) writer_wake_.notify_all();
}

void PeerLink::close(Incarnation incarnation) {
  if (!running_ || closing_ || incarnation != incarnation_) return;
  closing_ = true;
  close_timer_.start_once_ms(options_.close_timeout_ms);
  writer_wake_.notify_all();
  // A reader that waits for room must see that nothing more is wanted.
  owner_.write_admission().notify_all();
  loop_.buffers().freed().notify_all();
  owner_.read_reply_buffers().freed().notify_all();
}

void PeerLink::end_now() {
  if (stream_ == nullptr) return;
  closing_ = true;
  stream_->shutdown();
  writer_wake_.notify_all();
  owner_.write_admission().notify_all();
  loop_.buffers().freed().notify_all();
  owner_.read_reply_buffers().freed().notify_all();
}

io::Task<void> PeerLink::write_frames(io::Stream& stream) {
  const io::GatePass pass(writer_gate_);
  while (true) {
    while (queue_.empty() && !closing_ && !ended_) co_await writer_wake_.wait();
    if (ended_) break;
    if (queue_.empty()) {
      // Everything is sent. The peer reads to the end and closes, so that nothing it has not read yet is lost to a
      // reset; the timer bounds the wait.
      stream.shutdown_writing();
      break;
    }
    const std::span<const iovec> pieces = queue_.take();
    const Status status = co_await stream.write_all(pieces);
    queue_.release();
    if (!status) {
      if (end_reason_.empty() && !closing_) end_reason_ = status.error().message;
      stream.shutdown();
      break;
    }
  }
}

// More than what is wanted, unless that would be the beginning of a payload that is to be received in place.
io::Task<Status> PeerLink::receive_more(io::Stream& stream, size_t wanted_bytes) {
  if (received_from_ == received_to_) {
    received_from_ = received_to_ = 0;
  } else if (kReceiveBytes - received_to_ < kMaximumFrameBytes + kReceiveInPlaceBytes) {
    std::memmove(receive_memory_.get(), receive_memory_.get() + received_from_, received_to_ - received_from_);
    received_to_ -= received_from_;
    received_from_ = 0;
  }
  LOCKSTEP_CHECK(received_to_ < kReceiveBytes);
  size_t room = kReceiveBytes - received_to_;
  if (in_place_frame_bytes_ > 0) {
    room = std::min(room, std::max(in_place_frame_bytes_, wanted_bytes) - received().size());
  }
  const Result<size_t> got = co_await stream.read_some({receive_memory_.get() + received_to_, room});
  if (!got) co_return got.error();
  received_to_ += *got;
  co_return Status{};
}

io::Task<Status> PeerLink::receive_payload(io::Stream& stream, const FrameHeader& header, io::BufferRef& payload) {
  const size_t length = header.payload_bytes;
  io::BufferPool& pool = header.kind == FrameKind::ReadReply ? owner_.read_reply_buffers() : loop_.buffers();
  while (true) {
    payload = pool.allocate(length);
    if (payload) break;
    if (closing_ || loop_.stopping()) co_return closed("closed");
    co_await pool.freed().wait();
  }
  // A short payload comes with the frames behind it; a long one is received where it belongs.
  const bool is_long = length >= kReceiveInPlaceBytes;
  while (!is_long && received().size() < length) {
    const Status status = co_await receive_more(stream, length);
    if (!status) co_return status.error();
  }
  const size_t here = std::min(length, received().size());
  std::memcpy(payload.data(), received().data(), here);
  received_from_ += here;
  // The next frame is one like this, as a rule: it comes with the payload's end, and no more than it.
  if (is_long) in_place_frame_bytes_ = kFrameHeaderBytes + header.body_bytes;
  if (here < length) {
    received_from_ = received_to_ = 0;
    const Result<size_t> beyond = co_await stream.read_exact({payload.data() + here, length - here},
                                                             {receive_memory_.get(), in_place_frame_bytes_});
    if (!beyond) co_return beyond.error();
    received_to_ = *beyond;
  }
  if (crc32c({payload.data(), length}) != header.payload_checksum) {
    co_return Error{ErrorKind::Corrupt, 0, "the checksum of a write's data is wrong"};
  }
  co_return Status{};
}

// A peer that tells more than it can have to tell does not fill this node's log.
Status PeerLink::take_audit_frame(const FrameHeader& header, uint64_t began_ms) {
  Result<AuditFrame> frame = decode_audit_frame(header, received().subspan(kFrameHeaderBytes, header.body_bytes));
  if (!frame) return std::move(frame).error();
  received_from_ += kFrameHeaderBytes + header.body_bytes;
  const uint64_t allowed = kAuditFramesPerLink + (loop_.now_ms() - began_ms) / 1000;
  if (audit_frames_ < allowed && !closing_) {
    ++audit_frames_;
    owner_.audit_frame_arrived(peer_, *frame);
  }
  return {};
}

io::Task<Status> PeerLink::read_frames(io::Stream& stream, uint64_t link_incarnation) {
  uint64_t expected_number = 1;
  const uint64_t began_ms = loop_.now_ms();
  audit_frames_ = 0;
  while (true) {
    while (received().size() < kFrameHeaderBytes) {
      const Status status = co_await receive_more(stream, kFrameHeaderBytes);
      if (!status) co_return status.error();
    }
    const Result<FrameHeader> header = decode_frame_header(received().first<kFrameHeaderBytes>());
    if (!header) co_return header.error();
    const size_t frame_bytes = kFrameHeaderBytes + header->body_bytes;
    while (received().size() < frame_bytes) {
      const Status status = co_await receive_more(stream, frame_bytes);
      if (!status) co_return status.error();
    }
    const Status checked = check_frame(*header, received().first(frame_bytes));
    if (!checked) co_return checked.error();
    if (header->link_incarnation != link_incarnation) {
      co_return Error{ErrorKind::Corrupt, 0, "a frame of another link arrived"};
    }
    if (header->number != expected_number++) {
      co_return Error{ErrorKind::Corrupt, 0, "a frame is missing, or came twice"};
    }
    if (is_audit_frame(header->kind)) {
      const Status taken = take_audit_frame(*header, began_ms);
      if (!taken) co_return taken.error();
      continue;
    }
    const Result<Message> message =
        decode_message(*header, received().subspan(kFrameHeaderBytes, header->body_bytes), self_.size_bytes, storage_);
    if (!message) co_return message.error();
    received_from_ += frame_bytes;
    in_place_frame_bytes_ = 0;

    const bool is_write = is_stream_frame(*message);
    io::BufferRef payload;
    if (header->payload_bytes > 0) {
      const Status status = co_await receive_payload(stream, *header, payload);
      if (!status) co_return status.error();
    }
    while (is_write && !owner_.can_take_write() && !closing_) {
      if (loop_.stopping()) co_return closed("this node stops");
      co_await owner_.write_admission().wait();
    }
    if (!closing_) owner_.message_arrived(peer_, incarnation_, *message, std::move(payload));
  }
}

}  // namespace lockstep::repl
