// Who gets the next buffer when the pool is used up: sessions stand in line, so that a large request is not starved by
// a stream of small ones.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/buffer_pool.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/task.h"

namespace lockstep::nbd {

class BufferTurn {
 public:
  // The loop must outlive this.
  explicit BufferTurn(io::Loop& loop) : pool_(loop.buffers()), next_turn_(loop) {}

  // Empty when there is none, or when others wait already: then wait_for() it.
  io::BufferRef try_allocate(size_t bytes) {
    return next_ticket_ == serving_ ? pool_.allocate(bytes) : io::BufferRef();
  }
  // `bytes` must be something that the pool can give when nobody else holds a buffer.
  io::Task<io::BufferRef> wait_for(size_t bytes);

  size_t waiting() const { return next_ticket_ - serving_; }

 private:
  io::BufferPool& pool_;
  io::Signal next_turn_;
  uint64_t next_ticket_ = 0;
  uint64_t serving_ = 0;
};

}  // namespace lockstep::nbd
