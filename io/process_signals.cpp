#include "io/process_signals.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace lockstep::io {

struct ProcessSignals::SavedMask {
  sigset_t mask{};
};

ProcessSignals::ProcessSignals(Loop& loop, int fd, std::unique_ptr<SavedMask> saved_mask)
    : loop_(loop), fd_(fd), saved_mask_(std::move(saved_mask)) {}

Result<std::unique_ptr<ProcessSignals>> ProcessSignals::create(Loop& loop, std::initializer_list<int> signal_numbers) {
  sigset_t wanted;
  sigemptyset(&wanted);
  for (const int number : signal_numbers) sigaddset(&wanted, number);
  auto saved = std::make_unique<SavedMask>();
  const int blocked = pthread_sigmask(SIG_BLOCK, &wanted, &saved->mask);
  if (blocked != 0) return system_error("cannot block signals", blocked);
  const int fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &saved->mask, nullptr);
    return system_error("cannot open a signalfd", error);
  }
  return std::unique_ptr<ProcessSignals>(new ProcessSignals(loop, fd, std::move(saved)));
}

Result<std::unique_ptr<ProcessSignals>> ProcessSignals::create(Loop& loop) {
  return create(loop, {SIGTERM, SIGINT});
}

ProcessSignals::~ProcessSignals() {
  close(fd_);
  pthread_sigmask(SIG_SETMASK, &saved_mask_->mask, nullptr);
}

Task<Result<int>> ProcessSignals::next() {
  while (true) {
    // Polled, and read here: a signalfd gives the signals of the thread that reads it, which must not be a worker.
    const int32_t ready = co_await loop_.poll(fd_, POLLIN);
    if (ready == -ECANCELED) co_return Error{ErrorKind::Closed, ECANCELED, "the loop stops"};
    if (ready < 0) co_return system_error("cannot wait for signals", -ready);
    signalfd_siginfo info{};
    const ssize_t length = ::read(fd_, &info, sizeof(info));
    if (length == static_cast<ssize_t>(sizeof(info))) co_return static_cast<int>(info.ssi_signo);
    if (length < 0 && errno != EAGAIN && errno != EINTR) co_return system_error("cannot read signals", errno);
  }
}

}  // namespace lockstep::io
