// SIGTERM, SIGINT and the like, delivered into the loop.
#pragma once

#include <initializer_list>
#include <memory>

#include "io/base/result.h"
#include "io/loop.h"
#include "io/task.h"

namespace lockstep::io {

// Blocks the signals in the calling thread (so create it before other threads start) and reads them with a signalfd.
// The end of this object restores the thread's signal mask.
class ProcessSignals {
 public:
  static Result<std::unique_ptr<ProcessSignals>> create(Loop& loop, std::initializer_list<int> signal_numbers);
  // SIGTERM and SIGINT.
  static Result<std::unique_ptr<ProcessSignals>> create(Loop& loop);
  ~ProcessSignals();
  ProcessSignals(const ProcessSignals&) = delete;
  ProcessSignals& operator=(const ProcessSignals&) = delete;

  // The number of the next signal; Closed when the loop stops. One caller at a time.
  Task<Result<int>> next();

 private:
  struct SavedMask;
  ProcessSignals(Loop& loop, int fd, std::unique_ptr<SavedMask> saved_mask);

  Loop& loop_;
  int fd_;
  std::unique_ptr<SavedMask> saved_mask_;
};

}  // namespace lockstep::io
