// Reads of the local disk whose bytes go to a peer: into buffers of their own, so that they never wait for those that
// clients' requests hold, and clients' requests never for them. On the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "io/buffer_pool.h"
#include "io/loop.h"
#include "io/task.h"
#include "replicator/core/action.h"

namespace lockstep::repl {

class BufferedReads {
 public:
  // Starts the read, and keeps the buffer.
  using Start = std::function<void(const SubmitRead& read, const io::BufferRef& into)>;

  // Twice as much memory as `slots` reads of `longest_bytes` need: what was read before may still be on its way out.
  // `loop` outlives this, and this the loop's run().
  BufferedReads(io::Loop& loop, uint32_t slots, uint64_t longest_bytes, Start start);

  // At once, or when the links have sent enough of what was read before; in order.
  void submit(const SubmitRead& read);
  // Those that have not started will not; their slots.
  std::vector<SlotRef> give_up_waiting();
  io::BufferPool& pool() { return pool_; }

 private:
  bool try_start(const SubmitRead& read);
  io::Task<void> wait_for_memory();

  io::Loop& loop_;
  const Start start_;
  io::BufferPool pool_;
  std::vector<SubmitRead> waiting_;
  bool waits_ = false;  // the task runs
};

}  // namespace lockstep::repl
