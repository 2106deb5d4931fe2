#include "tools/log_sink.h"

#include <spdlog/details/log_msg.h>
#include <spdlog/pattern_formatter.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "io/log_about.h"

namespace lockstep::tools {
namespace {

constexpr uint64_t kWhole = 1000;

uint64_t steady_ms() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

// Whoever reads the log may be gone: that is no reason to stop serving.
void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

LogAllowance::LogAllowance(uint32_t burst, uint32_t per_second)
    : capacity_(burst * kWhole), per_second_(per_second * kWhole), filled_(capacity_) {}

bool LogAllowance::take(uint64_t now_ms) {
  const uint64_t elapsed_ms = std::min<uint64_t>(now_ms - std::min(last_ms_, now_ms), 3'600'000);
  last_ms_ = now_ms;
  filled_ = std::min(capacity_, filled_ + elapsed_ms * per_second_ / 1000);
  if (filled_ < kWhole) {
    ++refused_;
    return false;
  }
  filled_ -= kWhole;
  return true;
}

uint64_t LogAllowance::take_refused() {
  return std::exchange(refused_, 0);
}

bool is_journal_stream(int fd, const char* journal_stream) {
  struct stat status {};
  if (journal_stream == nullptr || ::fstat(fd, &status) != 0) return false;
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) == journal_stream;
}

int priority_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::critical:
      return 2;
    case spdlog::level::err:
      return 3;
    case spdlog::level::warn:
      return 4;
    case spdlog::level::info:
      return 6;
    default:
      return 7;
  }
}

std::string on_one_line(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return line;
}

LogSink::LogSink(int fd, bool for_journal) : fd_(fd), for_journal_(for_journal) {
  set_pattern(for_journal ? "%v" : "%Y-%m-%d %H:%M:%S.%e %l: %v");
}

LogSink::LogSink(int fd, const std::string& journal_socket, std::string resource)
    : fd_(fd),
      for_journal_(true),
      journal_(std::make_unique<const Journal>(journal_socket)),
      resource_(std::move(resource)) {
  set_pattern("%v");
}

void LogSink::set_pattern(const std::string& pattern) {
  set_formatter(std::make_unique<spdlog::pattern_formatter>(pattern));
}

void LogSink::set_formatter(std::unique_ptr<spdlog::formatter> formatter) {
  formatter_ = std::move(formatter);
}

void LogSink::write_line(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t formatted;
  formatter_->format(message, formatted);
  std::string_view text(formatted.data(), formatted.size());
  if (text.ends_with('\n')) text.remove_suffix(1);
  const std::string line = on_one_line(text);
  if (journal_ != nullptr && send_entry(message.level, line)) return;
  const std::string priority = for_journal_ ? "<" + std::to_string(priority_of(message.level)) + ">" : "";
  write_all(fd_, priority + line + "\n");
}

bool LogSink::send_entry(spdlog::level::level_enum level, std::string_view text) const {
  const std::string priority = std::to_string(priority_of(level));
  const io::LogAbout* about = io::LogAbout::current();
  return journal_->send(journal_entry({{"MESSAGE", text},
                                       {"PRIORITY", priority},
                                       {"SYSLOG_IDENTIFIER", "lockstepd"},
                                       {"LOCKSTEP_RESOURCE", resource_},
                                       {"LOCKSTEP_PEER", about == nullptr ? std::string_view() : about->peer()},
                                       {"LOCKSTEP_EVENT", about == nullptr ? std::string_view() : about->event()}}));
}

void LogSink::log(const spdlog::details::log_msg& message) {
  // Who asked for --verbose wants everything.
  if (message.level <= spdlog::level::debug) return write_line(message);
  LogAllowance& allowance = message.level >= spdlog::level::warn ? notable_ : ordinary_;
  if (!allowance.take(steady_ms())) return;
  if (const uint64_t refused = allowance.take_refused(); refused > 0) {
    const std::string text = std::to_string(refused) + " lines were left out here: there were more than " +
                             std::to_string(kLinesPerSecond) + " in a second";
    write_line(spdlog::details::log_msg(message.logger_name, spdlog::level::warn, text));
  }
  write_line(message);
}

}  // namespace lockstep::tools
