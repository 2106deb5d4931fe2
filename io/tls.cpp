#include "io/tls.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/signal.h"
#include "io/tls_credentials.h"

namespace lockstep::io {
namespace {

constexpr size_t kRecordBytes = size_t{16} * 1024;
constexpr size_t kReceiveBytes = size_t{64} * 1024;
// Encrypted and not sent yet: writing pauses above it.
constexpr size_t kSendBytes = size_t{256} * 1024;

class GnutlsStream final : public TlsStream {
 public:
  GnutlsStream(Loop& loop, std::unique_ptr<Stream> below, std::shared_ptr<const GnutlsCredentials> credentials,
               std::string server_name)
      : below_(std::move(below)),
        credentials_(std::move(credentials)),
        server_name_(std::move(server_name)),
        received_(std::make_unique_for_overwrite<uint8_t[]>(kReceiveBytes)),
        flushed_(loop) {}

  ~GnutlsStream() override {
    if (session_ != nullptr) gnutls_deinit(session_);
  }

  Task<Status> handshake() override {
    Status started = start_session();
    if (!started.ok()) co_return started;
    for (;;) {
      const int code = gnutls_handshake(session_);
      // Also after a failure: the other side should learn the reason.
      Status sent = co_await flush();
      if (code == GNUTLS_E_SUCCESS) {
        if (!sent.ok()) co_return sent;
        break;
      }
      if (code != GNUTLS_E_AGAIN && gnutls_error_is_fatal(code) != 0) co_return handshake_error(code);
      if (!sent.ok()) co_return sent;
      if (code == GNUTLS_E_AGAIN) {
        Status received = co_await receive();
        if (!received.ok()) co_return received;
      }
    }
    ready_ = true;
    describe();
    co_return Status{};
  }

  Task<Result<size_t>> read_some(std::span<uint8_t> into) override {
    LOCKSTEP_CHECK(!into.empty());
    for (;;) {
      if (!ready_) co_return not_ready();
      // As much as is here: a record is at most 16 KiB.
      size_t done = 0;
      ssize_t got = 0;
      while (done < into.size()) {
        got = gnutls_record_recv(session_, into.data() + done, into.size() - done);
        if (got <= 0) break;
        done += static_cast<size_t>(got);
      }
      if (!to_send_.empty()) {  // an answer to a message of TLS itself
        Status sent = co_await flush();
        if (!sent.ok() && done == 0) co_return std::move(sent).error();
      }
      if (done > 0) co_return done;
      if (got == 0) co_return Error{ErrorKind::Closed, 0, peer_description() + " closed the connection"};
      if (got == GNUTLS_E_AGAIN) {
        Status received = co_await receive();
        if (!received.ok()) co_return std::move(received).error();
      } else if (got != GNUTLS_E_INTERRUPTED) {
        // A renegotiation, too: nobody needs one.
        below_->shutdown();
        co_return Error{ErrorKind::Closed, 0,
                        "TLS with " + peer_description() + " failed: " + gnutls_strerror(static_cast<int>(got))};
      }
    }
  }

  Task<Status> write_all(std::span<const iovec> pieces) override {
    if (!ready_) co_return not_ready();
    size_t filled = 0;  // of record_: small pieces share a record
    for (const iovec& piece : pieces) {
      const auto* from = static_cast<const uint8_t*>(piece.iov_base);
      size_t left = piece.iov_len;
      while (left > 0) {
        size_t taken = 0;
        int code = 0;
        if (filled == 0 && left >= kRecordBytes) {
          taken = kRecordBytes;
          code = encrypt(from, taken);
        } else {
          taken = std::min(left, kRecordBytes - filled);
          std::memcpy(record_.data() + filled, from, taken);
          filled += taken;
          if (filled == kRecordBytes) {
            code = encrypt(record_.data(), filled);
            filled = 0;
          }
        }
        if (code < 0) co_return write_error(code);
        from += taken;
        left -= taken;
        if (to_send_.size() >= kSendBytes) {
          Status sent = co_await flush();
          if (!sent.ok()) co_return sent;
        }
      }
    }
    if (filled > 0) {
      const int code = encrypt(record_.data(), filled);
      if (code < 0) co_return write_error(code);
    }
    Status sent = co_await flush();
    co_return sent;
  }

  Task<void> end_writing() override {
    if (!ready_ || below_->is_shut_down()) co_return;
    gnutls_bye(session_, GNUTLS_SHUT_WR);
    static_cast<void>(co_await flush());
  }

  void shutdown() override { below_->shutdown(); }
  void shutdown_writing() override { below_->shutdown_writing(); }
  void close() override { below_->close(); }
  bool is_shut_down() const override { return below_->is_shut_down(); }
  const std::string& peer_description() const override { return below_->peer_description(); }
  const std::string& peer_host() const override { return below_->peer_host(); }

  const std::vector<std::string>& peer_names() const override { return peer_names_; }
  const std::string& session_description() const override { return description_; }

 private:
  Status start_session() {
    LOCKSTEP_CHECK(session_ == nullptr);
    Result<gnutls_session_t> session = credentials_->make_session();
    if (!session.ok()) return std::move(session).error();
    session_ = *session;
    gnutls_transport_set_ptr(session_, this);
    gnutls_transport_set_pull_function(session_, &GnutlsStream::pull);
    gnutls_transport_set_pull_timeout_function(session_, &GnutlsStream::wait_for_pull);
    gnutls_transport_set_push_function(session_, &GnutlsStream::push);
    if (credentials_->role() == TlsRole::Client) {
      if (!server_name_.empty()) {
        gnutls_server_name_set(session_, GNUTLS_NAME_DNS, server_name_.data(), server_name_.size());
      }
      gnutls_session_set_verify_cert(session_, server_name_.empty() ? nullptr : server_name_.c_str(), 0);
    } else if (credentials_->verify_peer()) {
      gnutls_session_set_verify_cert(session_, nullptr, 0);
    }
    return {};
  }

  static ssize_t pull(gnutls_transport_ptr_t self, void* into, size_t bytes) {
    auto& stream = *static_cast<GnutlsStream*>(self);
    const size_t taken = std::min(bytes, stream.received_end_ - stream.received_begin_);
    if (taken == 0) {
      gnutls_transport_set_errno(stream.session_, EAGAIN);
      return -1;
    }
    std::memcpy(into, stream.received_.get() + stream.received_begin_, taken);
    stream.received_begin_ += taken;
    return static_cast<ssize_t>(taken);
  }
  static int wait_for_pull(gnutls_transport_ptr_t self, unsigned /*timeout_ms*/) {
    const auto& stream = *static_cast<GnutlsStream*>(self);
    return stream.received_end_ > stream.received_begin_ ? 1 : 0;
  }
  static ssize_t push(gnutls_transport_ptr_t self, const void* from, size_t bytes) {
    auto& stream = *static_cast<GnutlsStream*>(self);
    const auto* begin = static_cast<const uint8_t*>(from);
    stream.to_send_.insert(stream.to_send_.end(), begin, begin + bytes);
    return static_cast<ssize_t>(bytes);
  }

  // 0, or GnuTLS's error: the bytes go to to_send_.
  int encrypt(const uint8_t* from, size_t bytes) {
    while (bytes > 0) {
      const ssize_t taken = gnutls_record_send(session_, from, bytes);
      if (taken == GNUTLS_E_INTERRUPTED || taken == GNUTLS_E_AGAIN) continue;  // push takes everything
      if (taken < 0) return static_cast<int>(taken);
      from += taken;
      bytes -= static_cast<size_t>(taken);
    }
    return 0;
  }

  Task<Status> receive() {
    received_begin_ = received_end_ = 0;  // pull() has taken everything
    const std::span<uint8_t> room(received_.get(), kReceiveBytes);
    Result<size_t> got = co_await below_->read_some(room);
    if (!got.ok()) co_return std::move(got).error();
    received_end_ = *got;
    co_return Status{};
  }

  // Ends when everything that was encrypted before has been sent. The reader and the writer may both be in it: the
  // stream below takes one writer.
  Task<Status> flush() {
    for (;;) {
      if (flushing_) {
        static_cast<void>(co_await flushed_.wait());
        continue;
      }
      if (send_failed_) co_return Error{ErrorKind::Closed, 0, send_failure_};
      if (to_send_.empty()) co_return Status{};
      flushing_ = true;
      being_sent_.clear();
      being_sent_.swap(to_send_);
      const std::span<const uint8_t> bytes(being_sent_);
      Status sent = co_await below_->write_all(bytes);
      flushing_ = false;
      if (!sent.ok()) {
        send_failed_ = true;
        send_failure_ = sent.error().message;
      }
      flushed_.notify_all();
    }
  }

  Error not_ready() const { return {ErrorKind::Closed, 0, "TLS with " + peer_description() + " has not begun"}; }
  Error write_error(int code) const {
    return {ErrorKind::Closed, 0, "TLS with " + peer_description() + " failed: " + gnutls_strerror(code)};
  }
  Error handshake_error(int code) const {
    std::string reason = gnutls_strerror(code);
    if (code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
      gnutls_datum_t text{};
      const unsigned status = gnutls_session_get_verify_cert_status(session_);
      if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) == 0) {
        reason = reinterpret_cast<const char*>(text.data);
        gnutls_free(text.data);
      }
    } else if (code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
      const char* alert = gnutls_alert_get_name(gnutls_alert_get(session_));
      if (alert != nullptr) reason += std::string(" (") + alert + ")";
    }
    return {ErrorKind::Refused, 0, "the TLS handshake with " + peer_description() + " failed: " + reason};
  }

  void describe() {
    const char* version = gnutls_protocol_get_name(gnutls_protocol_get_version(session_));
    description_ = version == nullptr ? "TLS" : version;
    if (gnutls_auth_get_type(session_) == GNUTLS_CRD_PSK) {
      const char* name = credentials_->role() == TlsRole::Server ? gnutls_psk_server_get_username(session_) : nullptr;
      if (name != nullptr) peer_names_.emplace_back(name);
    } else if (credentials_->role() == TlsRole::Client || credentials_->verify_peer()) {
      read_certificate();
    }
    for (const std::string& name : peer_names_) description_ += ", " + name;
  }

  void read_certificate() {
    unsigned count = 0;
    const gnutls_datum_t* chain = gnutls_certificate_get_peers(session_, &count);
    gnutls_x509_crt_t certificate = nullptr;
    if (chain == nullptr || count == 0 || gnutls_x509_crt_init(&certificate) < 0) return;
    if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0) {
      std::array<char, 256> text{};
      size_t size = text.size();
      if (gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text.data(), &size) == 0) {
        peer_names_.emplace_back(text.data(), size);
      }
      for (unsigned i = 0; i < 64; ++i) {
        size = text.size();
        const int type = gnutls_x509_crt_get_subject_alt_name(certificate, i, text.data(), &size, nullptr);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) break;
        if (type == GNUTLS_SAN_DNSNAME) peer_names_.emplace_back(text.data(), size);
      }
    }
    gnutls_x509_crt_deinit(certificate);
  }

  std::unique_ptr<Stream> below_;
  std::shared_ptr<const GnutlsCredentials> credentials_;
  const std::string server_name_;
  gnutls_session_t session_ = nullptr;
  bool ready_ = false;

  std::unique_ptr<uint8_t[]> received_;  // encrypted
  size_t received_begin_ = 0;
  size_t received_end_ = 0;

  std::array<uint8_t, kRecordBytes> record_;
  std::vector<uint8_t> to_send_;  // encrypted
  std::vector<uint8_t> being_sent_;
  bool flushing_ = false;
  bool send_failed_ = false;
  std::string send_failure_;
  Signal flushed_;

  std::vector<std::string> peer_names_;
  std::string description_;
};

}  // namespace

std::unique_ptr<TlsStream> TlsStream::make(Loop& loop, std::unique_ptr<Stream> below,
                                           std::shared_ptr<const TlsCredentials> credentials,
                                           const std::string& server_name) {
  return std::make_unique<GnutlsStream>(
      loop, std::move(below), std::static_pointer_cast<const GnutlsCredentials>(std::move(credentials)), server_name);
}

}  // namespace lockstep::io
