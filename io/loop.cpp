#include "io/loop.h"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "io/timer_heap.h"

namespace lockstep::io {
namespace {

constexpr unsigned kSmallestCompletionQueue = 4096;
// The kernel's own limit for one transfer, page aligned; callers go on after a short one.
constexpr size_t kLongestTransferBytes = size_t{1} << 30;
constexpr unsigned kLooksPerYield = 8;
constexpr unsigned kMostRests = 4;  // the kernel completes some twenty each time
constexpr size_t kLargestFixedBuffer = size_t{1} << 30;

unsigned transfer_length(size_t bytes) {
  return static_cast<unsigned>(std::min(bytes, kLongestTransferBytes));
}

uint64_t read_monotonic_us() {
  timespec now{};
  // Time in which the machine was asleep counts, too: to others this node was silent.
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

Error ring_error(int system_errno) {
  switch (system_errno) {
    case EPERM:
    case EACCES: {
      Error error = system_error("io_uring is not allowed here", system_errno);
      error.kind = ErrorKind::Unsupported;
      error.message +=
          ": allow it with 'sysctl kernel.io_uring_disabled=0', or, in a container, with a seccomp profile that "
          "permits "
          "io_uring_setup, io_uring_enter and io_uring_register";
      return error;
    }
    case ENOSYS: {
      Error error = system_error("this kernel has no io_uring, or a seccomp profile hides it", system_errno);
      error.kind = ErrorKind::Unsupported;
      error.message += ": use Linux 6.1 or newer and permit io_uring_setup";
      return error;
    }
    case ENOMEM: {
      Error error = system_error("no memory for the io_uring ring", system_errno);
      error.kind = ErrorKind::Exhausted;
      error.message += ": raise the locked-memory limit (ulimit -l, LimitMEMLOCK=)";
      return error;
    }
    case EMFILE:
    case ENFILE: {
      Error error = system_error("no descriptor is left for the io_uring ring", system_errno);
      error.kind = ErrorKind::Exhausted;
      return error;
    }
    default:
      return system_error("cannot set up io_uring", system_errno);
  }
}

}  // namespace

struct Loop::Ring {
  io_uring uring{};
  std::vector<io_uring_sqe> disk_entries;  // of the present turn: all but reads
  std::vector<io_uring_sqe> disk_reads;    // the oldest first; as many go as DiskTurns allows
  bool opened = false;
  bool enabled = false;

  ~Ring() {
    if (opened) io_uring_queue_exit(&uring);
  }

  // The thread that does this is the only one that may submit from then on.
  void enable() {
    if (enabled) return;
    enabled = true;
    if ((uring.flags & IORING_SETUP_R_DISABLED) == 0) return;
    // By hand, because liburing 2.3 declares io_uring_enable_rings() and does not export it.
    LOCKSTEP_CHECK(syscall(SYS_io_uring_register, uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) == 0);
  }

  // The kernel has something to do for this thread before more completions are there.
  bool has_task_work() const { return (io_uring_smp_load_acquire(uring.sq.kflags) & IORING_SQ_TASKRUN) != 0; }

  // Without a system call, unless the kernel has something to do for this thread first.
  bool has_completions() {
    if (io_uring_cq_ready(&uring) > 0) return true;
    if (!has_task_work()) return false;
    io_uring_get_events(&uring);
    return io_uring_cq_ready(&uring) > 0;
  }

  static void pause() {
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
  }

  io_uring_sqe* next_entry(Loop& loop) {
    while (true) {
      io_uring_sqe* entry = io_uring_get_sqe(&uring);
      if (entry != nullptr) return entry;
      enable();
      const int submitted = io_uring_submit(&uring);
      if (submitted >= 0 || submitted == -EINTR) continue;
      // The kernel wants its completions taken first. They are only queued here, so this is safe at any place.
      LOCKSTEP_CHECK(submitted == -EBUSY || submitted == -EAGAIN);
      io_uring_get_events(&uring);
      loop.reap();
      sched_yield();
    }
  }
};

// Wakes the loop from elsewhere: an eventfd that is polled, never read.
class Loop::StopRequest final : public Operation {
 public:
  explicit StopRequest(Loop& loop) : loop_(loop) {}
  ~StopRequest() override {
    if (fd_ >= 0) close(fd_);
  }
  Status open() {
    fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd_ < 0) return system_error("cannot open an eventfd", errno);
    return {};
  }
  void listen() {
    if (!in_flight()) loop_.start_poll(*this, fd_, POLLIN);
  }
  void send() const noexcept {
    const uint64_t one = 1;
    // It can only fail because the request stands already.
    [[maybe_unused]] const ssize_t written = ::write(fd_, &one, sizeof(one));
  }
  void completed(int32_t result) noexcept override {
    if (loop_.stopping()) return;
    if (result > 0) {
      loop_.stop();
    } else {
      listen();
    }
  }

 private:
  Loop& loop_;
  int fd_ = -1;
};

// A task that nobody awaits, in the loop's list until it ended.
struct SpawnedTask {
  using promise_type = SpawnedPromise;
  SpawnedPromise* promise = nullptr;

  static SpawnedTask start(Loop& loop, Task<void> task);
  static void enter(Loop& loop, SpawnedPromise& promise);
  static void destroy(SpawnedPromise& promise);
};

class SpawnedPromise final : public TaskPromiseBase {
 public:
  SpawnedPromise(Loop& loop, Task<void>& /*task*/) : loop_(loop) {}

  struct EndAwaiter {
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<SpawnedPromise> ended) noexcept { SpawnedTask::destroy(ended.promise()); }
    void await_resume() noexcept {}
  };
  SpawnedTask get_return_object() noexcept { return SpawnedTask{this}; }
  EndAwaiter final_suspend() noexcept { return {}; }
  void return_void() noexcept {}

 private:
  friend struct SpawnedTask;
  Loop& loop_;
  SpawnedPromise* next_ = nullptr;
  SpawnedPromise* previous_ = nullptr;
};

SpawnedTask SpawnedTask::start(Loop& /*loop*/, Task<void> task) {
  co_await task;
}

void SpawnedTask::enter(Loop& loop, SpawnedPromise& promise) {
  promise.next_ = loop.spawned_;
  if (loop.spawned_ != nullptr) loop.spawned_->previous_ = &promise;
  loop.spawned_ = &promise;
  ++loop.spawned_count_;
}

void SpawnedTask::destroy(SpawnedPromise& promise) {
  Loop& loop = promise.loop_;
  (promise.previous_ == nullptr ? loop.spawned_ : promise.previous_->next_) = promise.next_;
  if (promise.next_ != nullptr) promise.next_->previous_ = promise.previous_;
  --loop.spawned_count_;
  std::coroutine_handle<SpawnedPromise>::from_promise(promise).destroy();
}

Loop::Loop(uint32_t poll_us)
    : ring_(std::make_unique<Ring>()), timers_(std::make_unique<TimerHeap>()), polling_(poll_us) {}

Result<std::unique_ptr<Loop>> Loop::create(LoopOptions options) {
  std::unique_ptr<Loop> loop(new Loop(options.poll_us));
  loop->disk_observer_ = options.disk_observer;
  if (Status opened = loop->open_ring(options); !opened.ok()) return std::move(opened).error();
  loop->stop_request_ = std::make_unique<StopRequest>(*loop);
  if (Status opened = loop->stop_request_->open(); !opened.ok()) return std::move(opened).error();
  loop->buffers_ = std::make_unique<BufferPool>(*loop, options.buffer_arena_bytes);
  if (!options.plain_ring) loop->register_arena();
  loop->read_clock();
  return loop;
}

Status Loop::open_ring(const LoopOptions& options) {
  // What a kernel does not know, it answers with EINVAL: from the best set of features to none. The ring starts
  // disabled, so that a loop may be made on one thread and run on another.
  static constexpr unsigned kSingle = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_R_DISABLED;
  static constexpr std::array<unsigned, 4> kFlagSets = {
      kSingle | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
      kSingle | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, 0};
  int result = -EINVAL;
  for (const unsigned flags : kFlagSets) {
    if (options.plain_ring && flags != 0) continue;
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_CQSIZE;
    params.cq_entries = std::max(kSmallestCompletionQueue, options.ring_entries * 4);
    result = io_uring_queue_init_params(options.ring_entries, &ring_->uring, &params);
    if (result == -EINVAL) continue;
    if (result < 0) break;
    ring_->opened = true;
    // NODROP: completions that find the queue full are kept by the kernel. EXT_ARG: waiting with a timeout.
    if ((params.features & IORING_FEAT_NODROP) == 0 || (params.features & IORING_FEAT_EXT_ARG) == 0) {
      return Error{ErrorKind::Unsupported, 0, "the io_uring of this kernel is too old: use Linux 6.1 or newer"};
    }
    features_.single_issuer = (flags & IORING_SETUP_SINGLE_ISSUER) != 0;
    features_.deferred_task_run = (flags & IORING_SETUP_DEFER_TASKRUN) != 0;
    features_.task_run_flag = (flags & IORING_SETUP_TASKRUN_FLAG) != 0;
    features_.whole_sends = !options.plain_ring;
    features_.cooperative_task_run = (flags & IORING_SETUP_COOP_TASKRUN) != 0;
    return {};
  }
  return ring_error(-result);
}

void Loop::register_arena() {
  if (buffers_->arena_bytes() == 0 || buffers_->arena_bytes() > kLargestFixedBuffer) return;
  const iovec arena{buffers_->arena().data(), buffers_->arena_bytes()};
  features_.fixed_buffers = io_uring_register_buffers(&ring_->uring, &arena, 1) == 0;
}

Loop::~Loop() {
  LOCKSTEP_CHECK(in_kernel_.empty());
  while (spawned_ != nullptr) SpawnedTask::destroy(*spawned_);
}

void Loop::read_clock() {
  now_us_ = read_monotonic_us();
}

void Loop::run() {
  ring_->enable();
  if (!stopping_) stop_request_->listen();
  while (true) {
    // In this order, so that nothing that is reaped came after the time that it is seen with: a process that was
    // stopped in between would take what arrived meanwhile for older than it is.
    reap();
    give_held_reads();
    read_clock();
    if (std::exchange(reaped_something_, false)) polling_.went_on(now_us_);
    fire_timers();
    do {
      run_ready();
      observe_turn();
      if (queue_.empty()) give_disk_requests();  // may find the ring full, and what to do meanwhile
    } while (!queue_.empty());
    if (stopping_ && spawned_count_ == 0 && in_kernel_.empty()) return;
    submit_and_wait();
    take_rest_of_batch();
  }
}

void Loop::run_ready() {
  while (Runnable* next = queue_.pop()) next->run();
}

void Loop::observe_turn() {
  for (TurnObserver* observer : observers_) observer->turn_ended();
}

void Loop::reap() {
  unsigned head = 0;
  unsigned reaped = 0;
  size_t reads = 0;
  io_uring_cqe* completion = nullptr;
  io_uring_for_each_cqe(&ring_->uring, head, completion) {
    ++reaped;
    auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(completion));
    if (operation == nullptr) continue;  // the answer to a cancel()
    LOCKSTEP_CHECK(operation->in_kernel_);
    operation->in_kernel_ = false;
    if (std::exchange(operation->at_disk_, false)) ++reads;
    operation->result_ = completion->res;
    operation->unlink();
    queue_.push(*operation);
  }
  io_uring_cq_advance(&ring_->uring, reaped);
  reaped_something_ = reaped > 0;
  reads_at_disk_ -= reads;
  disk_turns_.ended(reads, reads_at_disk_, ring_->disk_reads.size());
}

void Loop::fire_timers() {
  while (TimerEntry* due = timers_->pop_due(now_us_)) queue_.push(*due);
}

// True when something came.
bool Loop::poll() {
  uint64_t at_us = read_monotonic_us();
  uint64_t until_us = polling_.until_us(at_us);
  if (!timers_->empty()) until_us = std::min(until_us, timers_->next_deadline_us());
  if (at_us >= until_us) return false;
  if (io_uring_sq_ready(&ring_->uring) > 0 && io_uring_submit(&ring_->uring) < 0) return false;
  while (true) {
    for (unsigned look = 0; look < kLooksPerYield; ++look) {
      if (ring_->has_completions()) {
        polling_.found();
        return true;
      }
      ring_->pause();
    }
    sched_yield();
    const uint64_t yielded_us = at_us;
    at_us = read_monotonic_us();
    if (!polling_.yielded(yielded_us, at_us) || at_us >= until_us) return ring_->has_completions();
  }
}

void Loop::submit_and_wait() {
  if (features_.task_run_flag && poll()) return;
  io_uring_cqe* first = nullptr;
  int result = 0;
  if (timers_->empty()) {
    result = io_uring_submit_and_wait(&ring_->uring, 1);
  } else {
    const uint64_t deadline_us = timers_->next_deadline_us();
    const uint64_t actual_us = read_monotonic_us();
    const uint64_t left_us = deadline_us > actual_us ? deadline_us - actual_us : 0;
    __kernel_timespec timeout{};
    timeout.tv_sec = static_cast<int64_t>(left_us / 1'000'000);
    timeout.tv_nsec = static_cast<long long>(left_us % 1'000'000) * 1000;
    result = io_uring_submit_and_wait_timeout(&ring_->uring, &first, 1, &timeout, nullptr);
  }
  if (result >= 0 || result == -ETIME || result == -EINTR) return;
  // Completions have to be taken first, or memory is short for an instant: the next turn submits again.
  LOCKSTEP_CHECK(result == -EBUSY || result == -EAGAIN);
  io_uring_get_events(&ring_->uring);
  sched_yield();
}

// Whoever waits for one completion and slept is given one, though the disk may have ended a batch with one interrupt.
// While reads are held that is too few: one of them would go to the disk, and the others wait until that is done.
void Loop::take_rest_of_batch() {
  if (!features_.task_run_flag || ring_->disk_reads.empty()) return;
  for (unsigned more = 0; more < kMostRests && ring_->has_task_work(); ++more) io_uring_get_events(&ring_->uring);
}

void Loop::stop() {
  if (stopping_) return;
  stopping_ = true;
  cancel_everything();
}

void Loop::request_stop() noexcept {
  stop_request_->send();
}

void Loop::cancel_everything() {
  // Collected first: taking a submission entry may reap completions, which changes the list.
  std::vector<Operation*> stoppable;
  for (Runnable* entry = in_kernel_.first(); entry != nullptr; entry = RunList::after(*entry)) {
    auto* operation = static_cast<Operation*>(entry);
    if (operation->stoppable_) stoppable.push_back(operation);
  }
  for (Operation* operation : stoppable) cancel(*operation);
  while (TimerEntry* entry = timers_->pop_any()) entry->stopped(queue_);
  for (Signal* signal = signals_; signal != nullptr; signal = signal->next_of_loop_) signal->wake_all(false);
}

void Loop::spawn(Task<void> task) {
  LOCKSTEP_CHECK(task);
  const SpawnedTask spawned = SpawnedTask::start(*this, std::move(task));
  SpawnedTask::enter(*this, *spawned.promise);
  spawned.promise->attach(queue_, std::coroutine_handle<SpawnedPromise>::from_promise(*spawned.promise), nullptr);
  spawned.promise->schedule();
}

void Loop::add_turn_observer(TurnObserver& observer) {
  observers_.push_back(&observer);
}

void Loop::remove_turn_observer(TurnObserver& observer) {
  std::erase(observers_, &observer);
}

bool Loop::begin(Operation& operation, bool stoppable) {
  LOCKSTEP_CHECK(!operation.in_flight_);
  operation.in_flight_ = true;
  operation.stoppable_ = stoppable;
  if (stoppable && stopping_) {
    answer(operation, -ECANCELED);
    return false;
  }
  return true;
}

void Loop::answer(Operation& operation, int32_t result) {
  operation.result_ = result;
  queue_.push(operation);
}

// Behind everything else of the turn: the kernel carries requests out in their order, a disk's at a few microseconds
// each, and whoever waits for what is sent has a processor of its own.
io_uring_sqe* Loop::disk_entry() {
  return &ring_->disk_entries.emplace_back();
}

void Loop::give_disk_requests() {
  for (const io_uring_sqe& entry : ring_->disk_entries) *ring_->next_entry(*this) = entry;
  ring_->disk_entries.clear();
  std::vector<io_uring_sqe>& waiting = ring_->disk_reads;
  size_t given = 0;
  while (given < waiting.size() && reads_at_disk_ < disk_turns_.limit()) {
    const io_uring_sqe& entry = waiting[given++];
    reinterpret_cast<Operation*>(entry.user_data)->at_disk_ = true;
    ++reads_at_disk_;
    disk_turns_.given(reads_at_disk_);
    *ring_->next_entry(*this) = entry;
  }
  waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(given));
}

// Before anything else is done with what the disk has ended: it has nothing to do until then.
void Loop::give_held_reads() {
  if (ring_->disk_reads.empty()) return;
  give_disk_requests();
  if (io_uring_sq_ready(&ring_->uring) > 0) io_uring_submit(&ring_->uring);
}

// The kernel gets the entry with the turn's submission.
void Loop::give(Operation& operation, io_uring_sqe* entry) {
  io_uring_sqe_set_data(entry, &operation);
  operation.in_kernel_ = true;
  in_kernel_.push(operation);
}

void Loop::start_read(Operation& operation, int fd, std::span<uint8_t> into, uint64_t offset_bytes) {
  if (!begin(operation, false)) return;
  const unsigned length = transfer_length(into.size());
  io_uring_sqe* entry = &ring_->disk_reads.emplace_back();
  if (features_.fixed_buffers && buffers_->contains(into.data(), into.size())) {
    io_uring_prep_read_fixed(entry, fd, into.data(), length, offset_bytes, 0);
  } else {
    io_uring_prep_read(entry, fd, into.data(), length, offset_bytes);
  }
  give(operation, entry);
}

void Loop::start_write(Operation& operation, int fd, std::span<const uint8_t> from, uint64_t offset_bytes,
                       bool data_sync) {
  if (!begin(operation, false)) return;
  const unsigned length = transfer_length(from.size());
  io_uring_sqe* entry = disk_entry();
  if (features_.fixed_buffers && buffers_->contains(from.data(), from.size())) {
    io_uring_prep_write_fixed(entry, fd, from.data(), length, offset_bytes, 0);
  } else {
    io_uring_prep_write(entry, fd, from.data(), length, offset_bytes);
  }
  entry->rw_flags = data_sync ? RWF_DSYNC : 0;
  give(operation, entry);
}

void Loop::start_fdatasync(Operation& operation, int fd) {
  if (!begin(operation, false)) return;
  io_uring_sqe* entry = disk_entry();
  io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC);
  give(operation, entry);
}

void Loop::start_fallocate(Operation& operation, int fd, int mode, uint64_t offset_bytes, uint64_t length_bytes) {
  if (!begin(operation, false)) return;
  io_uring_sqe* entry = disk_entry();
  io_uring_prep_fallocate(entry, fd, mode, static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes));
  give(operation, entry);
}

void Loop::start_receive(Operation& operation, int fd, std::span<uint8_t> into, int flags) {
  if (!begin(operation, true)) return;
  io_uring_sqe* entry = ring_->next_entry(*this);
  io_uring_prep_recv(entry, fd, into.data(), transfer_length(into.size()), flags);
  give(operation, entry);
}

void Loop::start_receive(Operation& operation, int fd, msghdr* message, int flags) {
  if (!begin(operation, true)) return;
  io_uring_sqe* entry = ring_->next_entry(*this);
  io_uring_prep_recvmsg(entry, fd, message, static_cast<unsigned>(flags));
  give(operation, entry);
}

void Loop::start_send(Operation& operation, int fd, const msghdr* message, int flags) {
  if (!begin(operation, true)) return;
  io_uring_sqe* entry = ring_->next_entry(*this);
  io_uring_prep_sendmsg(entry, fd, message, static_cast<unsigned>(flags | MSG_NOSIGNAL));
  give(operation, entry);
}

void Loop::start_accept(Operation& operation, int fd, sockaddr* peer, socklen_t* peer_length) {
  if (!begin(operation, true)) return;
  io_uring_sqe* entry = ring_->next_entry(*this);
  io_uring_prep_accept(entry, fd, peer, peer_length, SOCK_CLOEXEC);
  give(operation, entry);
}

void Loop::start_connect(Operation& operation, int fd, const sockaddr* address, socklen_t length) {
  if (!begin(operation, true)) return;
  io_uring_sqe* entry = ring_->next_entry(*this);
  io_uring_prep_connect(entry, fd, address, length);
  give(operation, entry);
}

void Loop::start_poll(Operation& operation, int fd, uint32_t events) {
  if (!begin(operation, true)) return;
  io_uring_sqe* entry = ring_->next_entry(*this);
  io_uring_prep_poll_add(entry, fd, events);
  give(operation, entry);
}

void Loop::start_timeout(Operation& operation, uint64_t timeout_us) {
  if (!begin(operation, true)) return;
  operation.result_ = -ETIME;
  set_timer(operation, now_us_ + timeout_us);
}

void Loop::cancel(Operation& operation) {
  if (!operation.in_flight_) return;
  if (operation.in_heap()) {
    timers_->remove(operation);
    answer(operation, -ECANCELED);
    return;
  }
  if (!operation.in_kernel_) return;  // it completed, and completed() is about to be called
  io_uring_sqe* entry = ring_->next_entry(*this);
  io_uring_prep_cancel(entry, static_cast<Operation*>(&operation), 0);
  io_uring_sqe_set_data(entry, nullptr);
}

void Loop::set_timer(TimerEntry& entry, uint64_t deadline_us) {
  if (stopping_) {
    entry.stopped(queue_);
    return;
  }
  timers_->push(entry, deadline_us);
}

void Loop::clear_timer(TimerEntry& entry) {
  if (entry.in_heap()) timers_->remove(entry);
}

void Operation::stopped(RunQueue& queue) noexcept {
  result_ = -ECANCELED;
  queue.push(*this);
}

}  // namespace lockstep::io
