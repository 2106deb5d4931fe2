#include "nbd-server/session.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "io/base/check.h"

namespace lockstep::nbd {
namespace {

constexpr size_t kWindowBytes = size_t{64} * 1024;
static_assert(kWindowBytes >= kNegotiationWindowBytes);

}  // namespace

Session::Session(SessionServices& services, std::unique_ptr<io::Stream> stream, TlsTerms tls, bool unix_socket)
    : services_(services),
      stream_(std::move(stream)),
      tls_(std::move(tls)),
      view_(services.exports, {client_host(stream_->peer_host()), unix_socket, false, {}}),
      window_(kWindowBytes),
      changed_(services.loop),
      replies_ready_(services.loop),
      handshake_limit_(services.loop, [this] { stream_->shutdown(); }),
      reader_limit_(services.loop, services.buffers, stream_),
      sender_limit_(services.loop, services.buffers, stream_),
      closing_limit_(services.loop, [this] { stream_->shutdown(); }) {}

Session::~Session() {
  LOCKSTEP_CHECK(export_ == nullptr && in_backend_ == 0);
}

io::Task<std::string> Session::serve() {
  handshake_limit_.start_once_ms(services_.options.handshake_limit_ms);
  const bool agreed = co_await negotiate();
  handshake_limit_.cancel();
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

io::Task<bool> Session::fill(size_t bytes, bool just_so_many) {
  while (window_.filled_bytes() < bytes) {
    std::span<uint8_t> room = window_.room(bytes);
    if (just_so_many) room = room.first(bytes - window_.filled_bytes());
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
  Negotiation negotiation(view_, tls_.mode);
  for (;;) {
    if (!reply.empty()) {
      const Status sent = co_await stream_->write_all(std::span<const uint8_t>(reply));
      if (!sent.ok()) {
        why_ended(sent.error().message);
        co_return false;
      }
      reply.clear();
    }
    switch (negotiation.phase()) {
      case Negotiation::Phase::Transmission:
        co_return true;
      case Negotiation::Phase::Ended:
        why_ended(negotiation.why_ended());
        co_return false;
      default:
        break;
    }
    if (negotiation.phase() == Negotiation::Phase::StartTls) {
      const bool secure = co_await start_tls();
      if (!secure) co_return false;
      negotiation.tls_started();
    }
    const size_t taken = negotiation.advance(window_.filled(), reply);
    window_.take(taken);
    if (taken == 0) {
      const bool more = co_await fill(window_.filled_bytes() + 1);
      if (!more) co_return false;
    }
    // Before the reply leaves: from here on close_sessions() knows this session.
    if (negotiation.phase() == Negotiation::Phase::Transmission) join(negotiation);
  }
}

io::Task<bool> Session::start_tls() {
  // What came in clear must not pass for something that came encrypted.
  if (window_.filled_bytes() > 0) {
    why_ended("bytes behind STARTTLS, before it was answered");
    co_return false;
  }
  std::unique_ptr<io::TlsStream> secure = io::TlsStream::make(services_.loop, std::move(stream_), tls_.credentials);
  io::TlsStream& tls = *secure;
  stream_ = std::move(secure);
  const Status shaken = co_await tls.handshake();
  if (!shaken.ok()) {
    why_ended(shaken.error().message);
    co_return false;
  }
  view_.proved_by_tls(tls.peer_names());
  spdlog::debug("NBD server: {} uses {}", stream_->peer_description(), tls.session_description());
  co_return true;
}

void Session::join(const Negotiation& negotiation) {
  const ExportOffer& agreed = negotiation.agreed_export();
  export_ = services_.exports.find_export(agreed.name);
  LOCKSTEP_CHECK(export_ != nullptr);
  backend_ = &export_->join(*this);
  limits_ = agreed.limits;
  block_bytes_ = limits_.minimum_block_bytes;
  if (!negotiation.block_sizes_agreed()) limits_.minimum_block_bytes = 1;
  form_ = negotiation.reply_form();
  contexts_ = negotiation.contexts();
  slab_ = std::make_unique<RequestSlab>(services_.options.requests_in_flight);
  batch_ = std::make_unique<ReplyBatch>();
}

void Session::begin_close() {
  if (closing_) return;
  closing_ = true;
  why_ended("the export was closed");
  if (export_ == nullptr) {
    closing_limit_.start_once_ms(services_.options.closing_linger_ms);
    return;
  }
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
  if (!broken_) co_await stream_->end_writing();
  closing_limit_.cancel();
  LOCKSTEP_CHECK(slab_->used() == 0 && held_bytes_ == 0);
}

}  // namespace lockstep::nbd
