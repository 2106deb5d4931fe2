#include "io/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "io/socket_address.h"

namespace lockstep::io {
namespace {

constexpr size_t kPiecesPerSend = 64;
constexpr int kKeepaliveIdleSeconds = 30;
constexpr int kKeepaliveIntervalSeconds = 10;
constexpr int kKeepaliveProbes = 3;

void set_option(int fd, int level, int name, int value) {
  // Each is an improvement, none is needed: a socket without them works.
  setsockopt(fd, level, name, &value, sizeof(value));
}

bool ends_connection(int system_errno) {
  switch (system_errno) {
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ECANCELED:
    case ENOTCONN:
      return true;
    default:
      return false;
  }
}

class SocketStream final : public Stream {
 public:
  SocketStream(Loop& loop, int fd, const StreamOptions& options) : loop_(loop), fd_(fd) {
    describe_peer();
    if (options.send_buffer_bytes != 0)
      set_option(fd, SOL_SOCKET, SO_SNDBUF, static_cast<int>(options.send_buffer_bytes));
    if (options.receive_buffer_bytes != 0) {
      set_option(fd, SOL_SOCKET, SO_RCVBUF, static_cast<int>(options.receive_buffer_bytes));
    }
    if (is_unix_) return;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
    if (options.user_timeout_ms != 0) {
      set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(options.user_timeout_ms));
    }
  }

  ~SocketStream() override {
    LOCKSTEP_CHECK(!reading_ && !writing_);
    if (fd_ >= 0) ::close(fd_);
  }

  Task<Result<size_t>> read_some(std::span<uint8_t> into) override { return read_scattered(into, {}); }

  Task<Result<size_t>> read_scattered(std::span<uint8_t> into, std::span<uint8_t> then) override {
    LOCKSTEP_CHECK(!into.empty() && !reading_);
    while (!shut_down_) {
      int32_t result = 0;
      reading_ = true;
      if (then.empty()) {
        result = co_await loop_.receive(fd_, into);
      } else {
        pieces_read_ = {iovec{into.data(), into.size()}, iovec{then.data(), then.size()}};
        message_read_ = msghdr{};
        message_read_.msg_iov = pieces_read_.data();
        message_read_.msg_iovlen = pieces_read_.size();
        result = co_await loop_.receive(fd_, &message_read_);
      }
      reading_ = false;
      close_if_unused();
      if (result > 0) co_return static_cast<size_t>(result);
      if (std::optional<Error> error = receive_error(result)) co_return std::move(*error);
    }
    co_return shut_down_error();
  }

  Task<Status> write_all(std::span<const iovec> pieces) override {
    LOCKSTEP_CHECK(!writing_);
    size_t piece = 0;
    size_t sent_of_piece = 0;
    while (true) {
      size_t count = 0;
      for (size_t at = piece, skip = sent_of_piece; at < pieces.size() && count < window_.size(); ++at, skip = 0) {
        if (pieces[at].iov_len == skip) continue;
        window_[count].iov_base = static_cast<uint8_t*>(pieces[at].iov_base) + skip;
        window_[count].iov_len = pieces[at].iov_len - skip;
        ++count;
      }
      if (count == 0) co_return Status{};
      if (shut_down_) co_return shut_down_error();
      message_ = msghdr{};
      message_.msg_iov = window_.data();
      message_.msg_iovlen = count;
      writing_ = true;
      const int32_t result = co_await loop_.send(fd_, &message_, loop_.features().whole_sends ? MSG_WAITALL : 0);
      writing_ = false;
      close_if_unused();
      if (result < 0) {
        if (result == -EINTR || result == -EAGAIN) continue;
        if (shut_down_) co_return shut_down_error();
        co_return transfer_error("send to", -result);
      }
      for (auto left = static_cast<size_t>(result); left > 0;) {
        const size_t step = std::min(left, pieces[piece].iov_len - sent_of_piece);
        sent_of_piece += step;
        left -= step;
        if (sent_of_piece == pieces[piece].iov_len) {
          ++piece;
          sent_of_piece = 0;
        }
      }
    }
  }

  void shutdown() override {
    shut_down_ = true;
    if (fd_ >= 0) ::shutdown(fd_, SHUT_RDWR);
  }
  void shutdown_writing() override {
    if (fd_ >= 0) ::shutdown(fd_, SHUT_WR);
  }
  void close() override {
    shutdown();
    close_when_unused_ = true;
    close_if_unused();
  }
  bool is_shut_down() const override { return shut_down_; }
  const std::string& peer_description() const override { return peer_; }
  const std::string& peer_host() const override { return peer_host_; }
  std::optional<Credentials> peer_credentials() const override { return credentials_; }

 private:
  void describe_peer() {
    SocketAddress peer;
    if (getpeername(fd_, peer.get(), &peer.length) != 0) {
      peer_ = "unknown peer";
      return;
    }
    is_unix_ = peer.family() == AF_UNIX;
    peer_host_ = numeric_host(peer);
    if (!is_unix_) {
      peer_ = numeric_host_and_port(peer);
      return;
    }
    peer_ = "unix socket";
    for (const auto name : {&getsockname, &getpeername}) {  // whichever end is the one with a name
      SocketAddress named;
      if (name(fd_, named.get(), &named.length) != 0 || named.length <= offsetof(sockaddr_un, sun_path)) continue;
      peer_ += " ";
      peer_ += reinterpret_cast<const sockaddr_un*>(named.get())->sun_path;
      break;
    }
    ucred credentials{};
    socklen_t length = sizeof(credentials);
    if (getsockopt(fd_, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 && credentials.pid > 0) {
      credentials_ = Credentials{static_cast<uint32_t>(credentials.pid), credentials.uid};
      peer_ += " (pid " + std::to_string(credentials.pid) + ", uid " + std::to_string(credentials.uid) + ")";
    }
  }

  void close_if_unused() {
    if (!close_when_unused_ || reading_ || writing_ || fd_ < 0) return;
    ::close(fd_);
    fd_ = -1;
  }

  // None: it is to be tried again.
  std::optional<Error> receive_error(int32_t result) const {
    if (result == -EINTR || result == -EAGAIN) return std::nullopt;
    if (shut_down_) return shut_down_error();
    if (result == 0) return Error{ErrorKind::Closed, 0, peer_ + " closed the connection"};
    return transfer_error("receive from", -result);
  }

  Error shut_down_error() const {
    return Error{ErrorKind::Closed, 0, "the connection with " + peer_ + " was ended here"};
  }

  Error transfer_error(const char* what, int system_errno) const {
    Error error = system_error(std::string("cannot ") + what + " " + peer_, system_errno);
    if (ends_connection(system_errno)) error.kind = ErrorKind::Closed;
    return error;
  }

  Loop& loop_;
  int fd_;
  bool is_unix_ = false;
  bool shut_down_ = false;
  bool close_when_unused_ = false;
  bool reading_ = false;
  bool writing_ = false;
  std::string peer_;
  std::string peer_host_;
  std::optional<Credentials> credentials_;
  // Of the one read in flight, and of the one write: what the kernel uses until they complete.
  msghdr message_read_{};
  std::array<iovec, 2> pieces_read_{};
  msghdr message_{};
  std::array<iovec, kPiecesPerSend> window_{};
};

}  // namespace

Task<Result<size_t>> Stream::read_scattered(std::span<uint8_t> into, std::span<uint8_t> /*then*/) {
  Result<size_t> got = co_await read_some(into);
  co_return got;
}

Task<Status> Stream::read_exact(std::span<uint8_t> into) {
  Result<size_t> done = co_await read_exact(into, {});
  if (!done.ok()) co_return std::move(done).error();
  co_return Status{};
}

Task<Result<size_t>> Stream::read_exact(std::span<uint8_t> into, std::span<uint8_t> then) {
  size_t done = 0;
  while (done < into.size()) {
    Result<size_t> got = co_await read_scattered(into.subspan(done), then);
    if (!got.ok()) {
      Error error = std::move(got).error();
      if (done > 0 && error.kind == ErrorKind::Closed) {
        error.message += ", in the middle of a message (" + std::to_string(done) + " of " +
                         std::to_string(into.size()) + " bytes had come)";
      }
      co_return error;
    }
    done += *got;
  }
  co_return done - into.size();
}

Task<Status> Stream::write_all(std::span<const uint8_t> bytes) {
  const iovec piece{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  const std::span<const iovec> pieces(&piece, 1);
  Status written = co_await write_all(pieces);
  co_return written;
}

std::unique_ptr<Stream> make_socket_stream(Loop& loop, int fd, const StreamOptions& options) {
  return std::make_unique<SocketStream>(loop, fd, options);
}

Result<std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>> make_stream_pair(Loop& loop) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return system_error("cannot make a pair of sockets", errno);
  }
  return std::pair(make_socket_stream(loop, ends[0]), make_socket_stream(loop, ends[1]));
}

}  // namespace lockstep::io
