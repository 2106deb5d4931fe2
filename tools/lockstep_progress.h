// Shows progress on standard error: a bar on a terminal, else a plain line now and then.
#pragma once

#include <cstdint>
#include <string>

#include "tools/progress_line.h"

namespace lockstep::tools {

struct ScreenSize {
  size_t columns = 80;
  size_t rows = 24;
};
// Of the terminal behind the descriptor; 80 by 24 where that is not known.
ScreenSize screen_size(int fd);

class ProgressShow {
 public:
  // `always`: also plain lines where there is no terminal.
  explicit ProgressShow(bool always);
  ~ProgressShow();
  ProgressShow(const ProgressShow&) = delete;
  ProgressShow& operator=(const ProgressShow&) = delete;

  bool on_terminal() const { return terminal_; }
  // Cheap, and may be called often. Without a rate in `progress`, that since the first call.
  void update(const std::string& label, Progress progress);
  // Takes the bar away.
  void clear();

 private:
  const bool terminal_;
  const bool always_;
  bool drawn_ = false;
  bool begun_ = false;
  uint64_t began_ms_ = 0;
  uint64_t began_bytes_ = 0;
  uint64_t told_ms_ = 0;
};

}  // namespace lockstep::tools
