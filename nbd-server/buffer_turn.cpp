#include "nbd-server/buffer_turn.h"

#include <utility>

namespace lockstep::nbd {

io::Task<io::BufferRef> BufferTurn::wait_for(size_t bytes) {
  const uint64_t ticket = next_ticket_++;
  while (ticket != serving_) static_cast<void>(co_await next_turn_.wait());
  io::BufferRef buffer = pool_.allocate(bytes);
  while (!buffer) {
    static_cast<void>(co_await pool_.freed().wait());
    buffer = pool_.allocate(bytes);
  }
  ++serving_;
  next_turn_.notify_all();
  co_return std::move(buffer);
}

}  // namespace lockstep::nbd
