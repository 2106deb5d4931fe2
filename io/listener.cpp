#include "io/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/socket_address.h"

namespace lockstep::io {
namespace {

constexpr uint64_t kPauseWhenExhausted_ms = 50;

class Accepting final : public Operation {
 public:
  Accepting(Loop& loop, int fd) : loop_(loop), fd_(fd) {}

  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> waiting) {
    waiting_ = &waiting.promise();
    loop_.start_accept(*this, fd_);
  }
  int32_t await_resume() const noexcept { return outcome_; }

 private:
  void completed(int32_t result) noexcept override {
    outcome_ = result;
    waiting_->run();
  }

  Loop& loop_;
  int fd_;
  TaskPromiseBase* waiting_ = nullptr;
  int32_t outcome_ = 0;
};

Error listen_error(const Address& address, int system_errno) {
  const std::string what = "cannot listen on " + format_address(address);
  Error error = system_error(what, system_errno);
  switch (system_errno) {
    case EADDRINUSE:
      error.kind = ErrorKind::Busy;
      error.message +=
          address.family == AddressFamily::Unix
              ? ": a program answers on this socket; stop it, or choose another path"
              : ": stop the program that has this port ('ss -ltnp sport = :" + std::to_string(address.port) +
                    "' shows it), or choose another";
      break;
    case EADDRNOTAVAIL:
      error.kind = ErrorKind::Invalid;
      error.message += ": no interface of this host has this address";
      break;
    case EACCES:
      error.message += address.family == AddressFamily::Unix ? ": this user may not create files in the folder"
                                                             : ": ports below 1024 need root";
      break;
    case ENOENT:
      error.kind = ErrorKind::NotFound;
      error.message += ": create the folder first";
      break;
    default:
      break;
  }
  return error;
}

// Removes a socket file that nobody answers on. Another program's, and anything else, stays.
Status remove_stale_socket(const Address& address, const SocketAddress& bound) {
  struct stat found {};
  if (lstat(address.path.c_str(), &found) != 0) {
    if (errno == ENOENT) return {};
    return listen_error(address, errno);
  }
  if (!S_ISSOCK(found.st_mode)) {
    return Error{ErrorKind::Invalid, EEXIST,
                 "cannot listen on " + format_address(address) + ": the path holds something that is not a socket"};
  }
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return listen_error(address, errno);
  const int connected = ::connect(probe, bound.get(), bound.length);
  const int reason = connected == 0 ? 0 : errno;
  ::close(probe);
  if (reason == ENOENT) return {};
  if (reason != ECONNREFUSED) return listen_error(address, EADDRINUSE);
  if (unlink(address.path.c_str()) != 0 && errno != ENOENT) return listen_error(address, errno);
  return {};
}

Status bind_and_listen(int fd, const Address& address, const SocketAddress& target, const ListenerOptions& options) {
  if (address.family == AddressFamily::Unix) {
    // Before bind(), so that the file never has a wider mode; and after, because the umask narrows it.
    if (fchmod(fd, options.unix_mode) != 0) return listen_error(address, errno);
  } else {
    const int on = 1;
    const int off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (target.family() == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  if (::bind(fd, target.get(), target.length) != 0) return listen_error(address, errno);
  if (address.family == AddressFamily::Unix && chmod(address.path.c_str(), options.unix_mode) != 0) {
    return listen_error(address, errno);
  }
  if (::listen(fd, options.backlog) != 0) return listen_error(address, errno);
  return {};
}

bool is_passing(int system_errno) {
  switch (system_errno) {  // accept(2): errors of the connection that was to be accepted
    case EINTR:
    case EAGAIN:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
      return true;
    default:
      return false;
  }
}

bool is_exhaustion(int system_errno) {
  return system_errno == EMFILE || system_errno == ENFILE || system_errno == ENOMEM || system_errno == ENOBUFS;
}

}  // namespace

Listener::Listener(Loop& loop, Address address, ListenerOptions options, int fd)
    : loop_(loop), address_(std::move(address)), options_(options), fd_(fd) {}

Result<std::unique_ptr<Listener>> Listener::open(Loop& loop, const Address& address, const ListenerOptions& options) {
  Result<std::vector<SocketAddress>> resolved = resolve(address, true);
  if (!resolved.ok()) return std::move(resolved).error();
  Error last{ErrorKind::Io, 0, {}};
  for (const SocketAddress& target : *resolved) {
    if (address.family == AddressFamily::Unix) {
      if (Status removed = remove_stale_socket(address, target); !removed.ok()) return std::move(removed).error();
    }
    const int fd = ::socket(target.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
      last = listen_error(address, errno);
      continue;
    }
    std::unique_ptr<Listener> listener(new Listener(loop, address, options, fd));
    if (Status listening = bind_and_listen(fd, address, target, options); !listening.ok()) {
      last = std::move(listening).error();
      // Taken: do not quietly take less than was asked for (IPv4 alone, say).
      if (last.kind == ErrorKind::Busy) break;
      continue;
    }
    if (address.family == AddressFamily::Unix) {
      struct stat made {};
      if (stat(address.path.c_str(), &made) == 0) {
        listener->device_ = made.st_dev;
        listener->inode_ = made.st_ino;
      }
    } else {
      SocketAddress bound;
      if (getsockname(fd, bound.get(), &bound.length) != 0) return listen_error(address, errno);
      listener->address_.port = port_of(bound);
    }
    return listener;
  }
  return last;
}

Listener::~Listener() {
  LOCKSTEP_CHECK(pending_ == nullptr);
  unlink_socket_file();
  ::close(fd_);
}

Task<Result<std::unique_ptr<Stream>>> Listener::accept() {
  LOCKSTEP_CHECK(pending_ == nullptr);
  while (!closed_) {
    Accepting accepting(loop_, fd_);
    pending_ = &accepting;
    const int32_t result = co_await accepting;
    pending_ = nullptr;
    if (result >= 0) {
      if (!closed_) co_return make_socket_stream(loop_, result, options_.stream);
      ::close(result);
      break;
    }
    if (closed_) break;
    if (result == -ECANCELED) {
      co_return Error{ErrorKind::Closed, ECANCELED, "the loop stops"};
    }
    if (is_exhaustion(-result)) {
      co_await loop_.sleep_ms(kPauseWhenExhausted_ms);
    } else if (!is_passing(-result)) {
      co_return system_error("cannot accept on " + format_address(address_), -result);
    }
  }
  co_return Error{ErrorKind::Closed, 0, format_address(address_) + " was closed"};
}

void Listener::close() {
  if (closed_) return;
  closed_ = true;
  unlink_socket_file();
  ::shutdown(fd_, SHUT_RDWR);
  if (pending_ != nullptr) loop_.cancel(*pending_);
}

void Listener::unlink_socket_file() {
  if (inode_ == 0) return;
  struct stat found {};
  if (lstat(address_.path.c_str(), &found) == 0 && found.st_dev == device_ && found.st_ino == inode_) {
    unlink(address_.path.c_str());
  }
  inode_ = 0;
}

}  // namespace lockstep::io
