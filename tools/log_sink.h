// The daemon's log: dated lines on standard error for a terminal or a file; where the journal reads that, entries with
// fields, or lines with a priority (sd-daemon(3)) if it takes none. What repeats without end is left out and counted.
#pragma once

#include <spdlog/formatter.h>
#include <spdlog/sinks/sink.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tools/journal.h"

namespace lockstep::tools {

// A bucket of lines: `burst` of them at once, and `per_second` in the long run. Pure.
class LogAllowance {
 public:
  LogAllowance(uint32_t burst, uint32_t per_second);

  // Whether a line may be written at this time, of a clock that never goes back.
  bool take(uint64_t now_ms);
  // Lines that were refused since the last call.
  uint64_t take_refused();

 private:
  uint64_t capacity_, per_second_;  // in thousandths of a line
  uint64_t filled_;
  uint64_t last_ms_ = 0;
  uint64_t refused_ = 0;
};

// Whether `fd` is the stream that JOURNAL_STREAM names, "DEVICE:INODE"; false without it.
bool is_journal_stream(int fd, const char* journal_stream);

// syslog(3)'s number.
int priority_of(spdlog::level::level_enum level);

// `text` with a space for each control character: one message is one line, and none can look like another's.
std::string on_one_line(std::string_view text);

class LogSink final : public spdlog::sinks::sink {
 public:
  // Errors and warnings have an allowance of their own, so that nothing less crowds them out.
  static constexpr uint32_t kBurstLines = 200;
  static constexpr uint32_t kLinesPerSecond = 20;

  // Writes to `fd`, which stays the caller's. For the journal without the time, which the journal adds itself.
  LogSink(int fd, bool for_journal);
  // `fd` is the journal's: sends entries to the journal's socket instead, with the resource among their fields.
  LogSink(int fd, const std::string& journal_socket, std::string resource);

  void log(const spdlog::details::log_msg& message) override;
  void flush() override {}
  void set_pattern(const std::string& pattern) override;
  void set_formatter(std::unique_ptr<spdlog::formatter> formatter) override;

 private:
  void write_line(const spdlog::details::log_msg& message);
  bool send_entry(spdlog::level::level_enum level, std::string_view text) const;

  const int fd_;
  const bool for_journal_;
  const std::unique_ptr<const Journal> journal_;  // null: lines only
  const std::string resource_;
  std::unique_ptr<spdlog::formatter> formatter_;
  LogAllowance notable_{kBurstLines, kLinesPerSecond};
  LogAllowance ordinary_{kBurstLines, kLinesPerSecond};
};

}  // namespace lockstep::tools
