// Ends the connection of a client that keeps memory and does not go on: it does not send the payload that it has
// announced, or does not take the replies that wait for it. Sooner when others wait for that memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "io/stream.h"
#include "io/timer.h"
#include "nbd-server/buffer_turn.h"

namespace lockstep::nbd {

class StallLimit {
 public:
  // All three outlive this; `stream` may be replaced between stop() and start().
  StallLimit(io::Loop& loop, const BufferTurn& buffers, std::unique_ptr<io::Stream>& stream)
      : buffers_(buffers), stream_(stream), timer_(loop, [this] { step_passed(); }) {}

  void start(uint64_t limit_ms, uint64_t pressed_limit_ms) {
    left_ms_ = limit_ms;
    step_ms_ = pressed_limit_ms;
    next();
  }
  void stop() { timer_.cancel(); }

 private:
  void next() {
    const uint64_t step_ms = std::min(left_ms_, step_ms_);
    left_ms_ -= step_ms;
    timer_.start_once_ms(step_ms);
  }
  void step_passed() {
    if (left_ms_ == 0 || buffers_.waiting() > 0) {
      stream_->shutdown();
    } else {
      next();
    }
  }

  const BufferTurn& buffers_;
  std::unique_ptr<io::Stream>& stream_;
  io::Timer timer_;
  uint64_t left_ms_ = 0;
  uint64_t step_ms_ = 0;
};

}  // namespace lockstep::nbd
