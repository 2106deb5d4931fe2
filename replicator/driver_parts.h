// Shared by the driver's two files.
#pragma once

#include "io/run_queue.h"
#include "replicator/driver.h"

namespace lockstep::repl {

class Driver::NoticeRun final : public io::Runnable {
 public:
  explicit NoticeRun(Driver& driver) : driver_(driver) {}
  void run() noexcept override { driver_.deliver_notices(); }

 private:
  Driver& driver_;
};

}  // namespace lockstep::repl
