#include "tools/lockstep_progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "tools/control_client.h"

namespace lockstep::tools {
namespace {

constexpr uint64_t kDrawEveryMs = 100;
constexpr uint64_t kSayEveryMs = 10'000;
constexpr uint64_t kRateAfterMs = 500;

}  // namespace

ScreenSize screen_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {size.ws_col, size.ws_row};
}

ProgressShow::ProgressShow(bool always) : terminal_(::isatty(STDERR_FILENO) == 1), always_(always) {}

ProgressShow::~ProgressShow() {
  clear();
}

void ProgressShow::update(const std::string& label, Progress progress) {
  if (!terminal_ && !always_) return;
  const uint64_t now_ms = monotonic_ms();
  if (!begun_) {
    begun_ = true;
    began_ms_ = told_ms_ = now_ms;
    began_bytes_ = progress.done_bytes;
    if (!terminal_) return;
  } else if (now_ms - told_ms_ < (terminal_ ? kDrawEveryMs : kSayEveryMs)) {
    return;
  }
  told_ms_ = now_ms;
  const uint64_t passed_ms = now_ms - began_ms_;
  if (progress.bytes_per_second == 0 && passed_ms >= kRateAfterMs && progress.done_bytes > began_bytes_) {
    progress.bytes_per_second = (progress.done_bytes - began_bytes_) * 1000 / passed_ms;
  }
  if (!terminal_) {
    std::fprintf(stderr, "%s: %s\n", label.c_str(), progress_words(progress).c_str());
    return;
  }
  drawn_ = true;
  std::fprintf(stderr, "\r%s\033[K", progress_line(label, progress, screen_size(STDERR_FILENO).columns - 1).c_str());
  std::fflush(stderr);
}

void ProgressShow::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

}  // namespace lockstep::tools
