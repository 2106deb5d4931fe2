#include "replicator/buffered_reads.h"

#include <utility>

namespace lockstep::repl {

BufferedReads::BufferedReads(io::Loop& loop, uint32_t slots, uint64_t longest_bytes, Start start)
    : loop_(loop), start_(std::move(start)), pool_(loop, 2 * slots * longest_bytes) {}

void BufferedReads::submit(const SubmitRead& read) {
  if (waiting_.empty() && try_start(read)) return;
  waiting_.push_back(read);
  if (!std::exchange(waits_, true)) loop_.spawn(wait_for_memory());
}

bool BufferedReads::try_start(const SubmitRead& read) {
  const io::BufferRef buffer = pool_.allocate(read.range.length_bytes);
  if (!buffer) return false;
  start_(read, buffer);
  return true;
}

std::vector<SlotRef> BufferedReads::give_up_waiting() {
  std::vector<SlotRef> slots;
  for (const SubmitRead& read : waiting_) slots.push_back(read.slot);
  waiting_.clear();
  return slots;
}

io::Task<void> BufferedReads::wait_for_memory() {
  while (!waiting_.empty() && !loop_.stopping()) {
    co_await pool_.freed().wait();
    size_t started = 0;
    while (started < waiting_.size() && try_start(waiting_[started])) ++started;
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(started));
  }
  waits_ = false;
}

}  // namespace lockstep::repl
