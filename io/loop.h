// The io_uring loop: one thread, one ring, for all sockets, disk requests and timers of a resource.
//
// A turn: reap all completions, run the run queue until it is empty (completions first, in order), tell the turn
// observers (and go on with the queue when they filled it), then one system call that submits everything, what is for a
// disk last, and waits.
// Except where said otherwise, everything is called on the thread that runs the loop (or before run(), on one thread).
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "io/base/result.h"
#include "io/buffer_pool.h"
#include "io/disk_turns.h"
#include "io/operation.h"
#include "io/polling.h"
#include "io/run_queue.h"
#include "io/signal.h"
#include "io/task.h"

struct io_uring_sqe;

namespace lockstep::io {

class DiskObserver;

struct LoopOptions {
  unsigned ring_entries = 512;
  size_t buffer_arena_bytes = size_t{64} * 1024 * 1024;
  // Use nothing that the oldest supported kernel, or a small RLIMIT_MEMLOCK, might not give: for tests of that way.
  bool plain_ring = false;
  // After something happened, look for more for so long before sleeping, while requests_in_hand() says few; 0: never.
  uint32_t poll_us = 0;
  // Told of each write, zeroing and sync of class File on this loop; outlives it.
  DiskObserver* disk_observer = nullptr;
};

// Told once a turn, after everything that was ready has run and before the turn's one submission: the place to send
// what was gathered during the turn. May start operations and queue work; work makes the turn go on (and turn_ended()
// be called again).
class TurnObserver {
 public:
  virtual ~TurnObserver() = default;
  virtual void turn_ended() noexcept = 0;
};

// What the kernel gave us, for logs and tests.
struct LoopFeatures {
  bool single_issuer = false;
  bool deferred_task_run = false;
  bool cooperative_task_run = false;
  bool task_run_flag = false;  // it can be seen without a system call whether the kernel has work for the thread
  bool whole_sends = false;    // MSG_WAITALL makes the kernel go on after a short send
  bool fixed_buffers = false;  // false: the arena could not be registered (RLIMIT_MEMLOCK); plain requests are used
};

class TimerHeap;
struct SpawnedTask;
class SpawnedPromise;

class Loop {
 public:
  // Unsupported, with what to do about it, when the host forbids io_uring.
  static Result<std::unique_ptr<Loop>> create(LoopOptions options = {});
  // No operation may be in flight. Tasks that never ended are destroyed.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop() was called and every spawned task has ended and no operation is in flight.
  void run();
  // Ends run(), as above: timers, and what is in flight on sockets (accept, connect, receive, send, poll), complete
  // with -ECANCELED, and so does each that is started afterwards; tasks in Signal::wait() wake with false; disk
  // requests go on, and may still be started. So end sessions in good order first, and stop() last.
  void stop();
  // stop(), from any thread or from a signal handler.
  void request_stop() noexcept;
  bool stopping() const { return stopping_; }

  // Monotonic; read once a turn, so that everything in a turn sees the same time.
  uint64_t now_us() const { return now_us_; }
  uint64_t now_ms() const { return now_us_ / 1000; }

  // Starts `task` from the run queue; the loop owns it until it ended.
  void spawn(Task<void> task);
  size_t spawned_tasks() const { return spawned_count_; }
  // Runs `work` from the run queue, later in this turn. It must be in no list.
  void defer(Runnable& work) { queue_.push(work); }

  BufferPool& buffers() { return *buffers_; }
  RunQueue& run_queue() { return queue_; }
  const LoopFeatures& features() const { return features_; }
  DiskObserver* disk_observer() const { return disk_observer_; }
  // How many requests of clients or peers are being carried out, said at a turn's end: whether to poll.
  void requests_in_hand(uint32_t count) { polling_.requests_in_hand(count, now_us_); }
  // Requests that the kernel has.
  size_t operations_in_flight() const { return in_kernel_.size(); }

  // The observer must be removed before it ends. Neither may be called from inside turn_ended().
  void add_turn_observer(TurnObserver& observer);
  void remove_turn_observer(TurnObserver& observer);

  // Callback forms. Memory that is passed (spans, msghdr and all that it names, addresses) stays valid, and unchanged
  // for writes and sends, until completed(). Where the bytes lie in buffers()'s arena the registered form is used.
  // Disk requests may transfer less than asked: class File goes on by itself.
  void start_read(Operation& operation, int fd, std::span<uint8_t> into, uint64_t offset_bytes);
  // data_sync: the data is on stable storage at completion (RWF_DSYNC).
  void start_write(Operation& operation, int fd, std::span<const uint8_t> from, uint64_t offset_bytes, bool data_sync);
  void start_fdatasync(Operation& operation, int fd);
  // `mode`: FALLOC_FL_*.
  void start_fallocate(Operation& operation, int fd, int mode, uint64_t offset_bytes, uint64_t length_bytes);
  // recv(2) and sendmsg(2); `flags`: MSG_*. MSG_NOSIGNAL is always added to sends.
  void start_receive(Operation& operation, int fd, std::span<uint8_t> into, int flags = 0);
  void start_receive(Operation& operation, int fd, msghdr* message, int flags = 0);  // recvmsg(2)
  void start_send(Operation& operation, int fd, const msghdr* message, int flags = 0);
  // The result is the new descriptor, close-on-exec.
  void start_accept(Operation& operation, int fd, sockaddr* peer = nullptr, socklen_t* peer_length = nullptr);
  void start_connect(Operation& operation, int fd, const sockaddr* address, socklen_t length);
  // `events`: POLL*; the result is the events that are there. Once.
  void start_poll(Operation& operation, int fd, uint32_t events);
  // Completes with -ETIME.
  void start_timeout(Operation& operation, uint64_t timeout_us);
  // Asks for the operation to end with -ECANCELED; it may still complete otherwise. Nothing happens when it is not in
  // flight. Its completed() comes, as always, from the loop.
  void cancel(Operation& operation);

  // Awaitable forms of the same; each gives the int32_t that completed() would get.
  auto read(int fd, std::span<uint8_t> into, uint64_t offset_bytes) {
    return awaited([=, this](Operation& operation) { start_read(operation, fd, into, offset_bytes); });
  }
  auto write(int fd, std::span<const uint8_t> from, uint64_t offset_bytes, bool data_sync) {
    return awaited([=, this](Operation& operation) { start_write(operation, fd, from, offset_bytes, data_sync); });
  }
  auto fdatasync(int fd) {
    return awaited([=, this](Operation& operation) { start_fdatasync(operation, fd); });
  }
  auto fallocate(int fd, int mode, uint64_t offset_bytes, uint64_t length_bytes) {
    return awaited(
        [=, this](Operation& operation) { start_fallocate(operation, fd, mode, offset_bytes, length_bytes); });
  }
  auto receive(int fd, std::span<uint8_t> into, int flags = 0) {
    return awaited([=, this](Operation& operation) { start_receive(operation, fd, into, flags); });
  }
  auto receive(int fd, msghdr* message, int flags = 0) {
    return awaited([=, this](Operation& operation) { start_receive(operation, fd, message, flags); });
  }
  auto send(int fd, const msghdr* message, int flags = 0) {
    return awaited([=, this](Operation& operation) { start_send(operation, fd, message, flags); });
  }
  auto accept(int fd, sockaddr* peer = nullptr, socklen_t* peer_length = nullptr) {
    return awaited([=, this](Operation& operation) { start_accept(operation, fd, peer, peer_length); });
  }
  auto connect(int fd, const sockaddr* address, socklen_t length) {
    return awaited([=, this](Operation& operation) { start_connect(operation, fd, address, length); });
  }
  auto poll(int fd, uint32_t events) {
    return awaited([=, this](Operation& operation) { start_poll(operation, fd, events); });
  }

  class Sleep;
  // `co_await loop.sleep_ms(20)` gives true when the time has passed, false when the loop stops.
  [[nodiscard]] Sleep sleep_us(uint64_t time_us);
  [[nodiscard]] Sleep sleep_ms(uint64_t time_ms);

 private:
  friend class Signal;
  friend class Timer;
  friend struct SpawnedTask;
  struct Ring;  // the only place that knows liburing
  class StopRequest;

  explicit Loop(uint32_t poll_us);
  template <typename Start>
  static AwaitedOperation<Start> awaited(Start start) {
    return AwaitedOperation<Start>(start);
  }
  Status open_ring(const LoopOptions& options);
  void register_arena();
  void read_clock();
  void run_ready();
  void reap();
  void fire_timers();
  void submit_and_wait();
  void take_rest_of_batch();
  bool poll();
  void observe_turn();
  void cancel_everything();
  bool begin(Operation& operation, bool stoppable);  // false: it was answered with -ECANCELED
  io_uring_sqe* disk_entry();
  void give_disk_requests();
  void give_held_reads();
  void give(Operation& operation, io_uring_sqe* entry);
  void answer(Operation& operation, int32_t result);
  void set_timer(TimerEntry& entry, uint64_t deadline_us);
  void clear_timer(TimerEntry& entry);

  std::unique_ptr<Ring> ring_;
  LoopFeatures features_;
  DiskObserver* disk_observer_ = nullptr;
  RunQueue queue_;
  RunList in_kernel_;
  std::unique_ptr<TimerHeap> timers_;
  std::unique_ptr<StopRequest> stop_request_;
  std::vector<TurnObserver*> observers_;
  Signal* signals_ = nullptr;
  SpawnedPromise* spawned_ = nullptr;
  size_t spawned_count_ = 0;
  uint64_t now_us_ = 0;
  bool stopping_ = false;
  bool reaped_something_ = false;
  size_t reads_at_disk_ = 0;  // that the kernel has
  DiskTurns disk_turns_;
  Polling polling_;
  std::unique_ptr<BufferPool> buffers_;
};

class Loop::Sleep final : private TimerEntry {
 public:
  Sleep(Loop& loop, uint64_t time_us) : loop_(loop), time_us_(time_us) {}
  ~Sleep() override { loop_.clear_timer(*this); }

  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> waiting) {
    waiting_ = &waiting.promise();
    passed_ = true;
    loop_.set_timer(*this, loop_.now_us() + time_us_);
  }
  bool await_resume() const noexcept { return passed_; }

 private:
  void run() noexcept override { waiting_->run(); }
  void stopped(RunQueue& queue) noexcept override {
    passed_ = false;
    queue.push(*this);
  }

  Loop& loop_;
  uint64_t time_us_;
  TaskPromiseBase* waiting_ = nullptr;
  bool passed_ = false;
};

inline Loop::Sleep Loop::sleep_us(uint64_t time_us) {
  return Sleep(*this, time_us);
}
inline Loop::Sleep Loop::sleep_ms(uint64_t time_ms) {
  return Sleep(*this, time_ms * 1000);
}

}  // namespace lockstep::io
