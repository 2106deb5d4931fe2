#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <coroutine>

#include "io/socket_address.h"
#include "io/stream.h"
#include "io/timer.h"

namespace lockstep::io {
namespace {

// A connect that can be cancelled while a task awaits it.
class Connecting final : public Operation {
 public:
  Connecting(Loop& loop, int fd, const SocketAddress& address) : loop_(loop), fd_(fd), address_(address) {}

  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> waiting) {
    waiting_ = &waiting.promise();
    loop_.start_connect(*this, fd_, address_.get(), address_.length);
  }
  int32_t await_resume() const noexcept { return outcome_; }

 private:
  void completed(int32_t result) noexcept override {
    outcome_ = result;
    waiting_->run();
  }

  Loop& loop_;
  int fd_;
  SocketAddress address_;
  TaskPromiseBase* waiting_ = nullptr;
  int32_t outcome_ = 0;
};

class OwnedDescriptor {
 public:
  explicit OwnedDescriptor(int fd) : fd_(fd) {}
  OwnedDescriptor(const OwnedDescriptor&) = delete;
  OwnedDescriptor& operator=(const OwnedDescriptor&) = delete;
  ~OwnedDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Error timed_out(const Address& address, uint64_t timeout_ms) {
  return Error{
      ErrorKind::TimedOut, ETIMEDOUT,
      "cannot connect to " + format_address(address) + ": no answer within " + std::to_string(timeout_ms) + " ms"};
}

}  // namespace

Task<Result<std::unique_ptr<Stream>>> connect_stream(Loop& loop, Address address, uint64_t timeout_ms,
                                                     StreamOptions options) {
  Result<std::vector<SocketAddress>> resolved = resolve(address, false);
  if (!resolved.ok()) co_return std::move(resolved).error();
  const uint64_t deadline_ms = loop.now_ms() + timeout_ms;
  int last_errno = ECONNREFUSED;
  for (const SocketAddress& target : *resolved) {
    if (loop.now_ms() >= deadline_ms) co_return timed_out(address, timeout_ms);
    OwnedDescriptor socket_fd(::socket(target.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (socket_fd.get() < 0) {
      last_errno = errno;
      continue;
    }
    bool in_time = true;
    Connecting connecting(loop, socket_fd.get(), target);
    Timer timer(loop, [&] {
      in_time = false;
      loop.cancel(connecting);
    });
    timer.start_once_ms(deadline_ms - loop.now_ms());
    const int32_t result = co_await connecting;
    timer.cancel();
    if (result == 0) {
      const int connected = socket_fd.release();
      co_return make_socket_stream(loop, connected, options);
    }
    if (!in_time) co_return timed_out(address, timeout_ms);
    last_errno = -result;
    if (result == -ECANCELED) break;
  }
  Error error = system_error("cannot connect to " + format_address(address), last_errno);
  if (last_errno == ECANCELED) error.kind = ErrorKind::Closed;
  if (last_errno == ENOENT || last_errno == ECONNREFUSED) error.message += " (nobody listens there)";
  co_return error;
}

}  // namespace lockstep::io
