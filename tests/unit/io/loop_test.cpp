#include "io/loop.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <thread>
#include <vector>

#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

class Noted final : public Operation {
 public:
  void completed(int32_t result) noexcept override {
    results.push_back(result);
    if (when_done != nullptr && --*countdown == 0) when_done->stop();
  }
  std::vector<int32_t> results;
  Loop* when_done = nullptr;
  int* countdown = nullptr;
};

class SocketPair {
 public:
  SocketPair() { REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_.data()) == 0); }
  SocketPair(const SocketPair&) = delete;
  SocketPair& operator=(const SocketPair&) = delete;
  ~SocketPair() {
    for (const int end : ends_) close(end);
  }
  int operator[](size_t which) const { return ends_[which]; }

 private:
  std::array<int, 2> ends_{};
};

class StopSoon final : public Operation {
 public:
  explicit StopSoon(Loop& loop) : loop_(loop) { loop.start_timeout(*this, 1000); }
  void completed(int32_t /*result*/) noexcept override { loop_.stop(); }

 private:
  Loop& loop_;
};

class CountingObserver final : public TurnObserver {
 public:
  explicit CountingObserver(Loop& loop) : loop_(loop) {}
  void turn_ended() noexcept override {
    ++calls;
    CHECK(loop_.run_queue().empty());
    if (calls == 1 && work != nullptr) loop_.defer(*work);
  }
  int calls = 0;
  Runnable* work = nullptr;

 private:
  Loop& loop_;
};

class NotedWork final : public Runnable {
 public:
  explicit NotedWork(const CountingObserver& observer) : observer_(observer) {}
  void run() noexcept override { ran_after_calls = observer_.calls; }
  int ran_after_calls = -1;

 private:
  const CountingObserver& observer_;
};

Task<void> nothing() {
  co_return;
}

}  // namespace

TEST_CASE("a completion is queued and never delivered inline") {
  auto loop = make_loop();
  Noted timeout;
  int left = 1;
  timeout.when_done = loop.get();
  timeout.countdown = &left;
  loop->start_timeout(timeout, 0);
  CHECK(timeout.in_flight());
  CHECK(timeout.results.empty());
  loop->run();
  CHECK(timeout.results == std::vector<int32_t>{-ETIME});
  CHECK_FALSE(timeout.in_flight());
}

TEST_CASE("what is started on a stopping loop is answered with ECANCELED, and not inline") {
  auto loop = make_loop();
  const SocketPair sockets;
  std::array<uint8_t, 16> memory{};
  Noted receive;
  Noted timeout;
  loop->stop();
  loop->start_receive(receive, sockets[0], memory);
  loop->start_timeout(timeout, 1'000'000);
  CHECK(receive.results.empty());
  CHECK(receive.in_flight());
  loop->run();
  CHECK(receive.results == std::vector<int32_t>{-ECANCELED});
  CHECK(timeout.results == std::vector<int32_t>{-ECANCELED});
}

TEST_CASE("stop() ends pending receives, polls and timeouts, and run() returns after their completions") {
  auto loop = make_loop({256, size_t{1} << 20, GENERATE(false, true)});
  const SocketPair sockets;
  std::array<std::array<uint8_t, 16>, 50> memory{};
  std::array<Noted, 50> receives;
  Noted poll;
  Noted timeout;
  for (size_t i = 0; i < receives.size(); ++i) loop->start_receive(receives[i], sockets[i % 2], memory[i]);
  loop->start_poll(poll, sockets[0], POLLIN);
  loop->start_timeout(timeout, 3'600'000'000);
  StopSoon stop(*loop);
  loop->run();
  for (const Noted& receive : receives) CHECK(receive.results == std::vector<int32_t>{-ECANCELED});
  CHECK(poll.results == std::vector<int32_t>{-ECANCELED});
  CHECK(timeout.results == std::vector<int32_t>{-ECANCELED});
  CHECK(loop->operations_in_flight() == 0);
}

TEST_CASE("disk writes in flight at stop() are finished, not dropped") {
  auto loop = make_loop({256, size_t{1} << 20, GENERATE(false, true)});
  const TempFolder folder;
  const int fd = open(folder.file("image").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  constexpr size_t kWrites = 200;
  std::vector<Noted> writes(kWrites);
  const BufferRef buffer = loop->buffers().allocate(4096);
  std::fill(buffer.bytes().begin(), buffer.bytes().end(), uint8_t{0xA5});
  for (size_t i = 0; i < kWrites; ++i) loop->start_write(writes[i], fd, buffer.bytes(), i * 4096, false);
  loop->stop();
  loop->run();
  for (const Noted& write : writes) CHECK(write.results == std::vector<int32_t>{4096});
  CHECK(lseek(fd, 0, SEEK_END) == static_cast<off_t>(kWrites * 4096));
  close(fd);
}

TEST_CASE("what a turn sends goes out before what it writes to a disk") {
  auto loop = make_loop({64, size_t{1} << 20, GENERATE(false, true)});
  // One stream takes both, and tells which was done first. The completions need not: a kernel thread that did the
  // write may post its own before the turn's are posted.
  const SocketPair sockets;
  std::array<uint8_t, 64> written{};
  std::array<uint8_t, 64> sent{};
  written.fill('w');
  sent.fill('s');
  iovec part{sent.data(), sent.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  Noted write;
  Noted send;
  int left = 2;
  for (Noted* each : {&write, &send}) each->when_done = loop.get(), each->countdown = &left;
  loop->start_write(write, sockets[0], written, 0, false);
  loop->start_send(send, sockets[0], &message);
  loop->run();
  CHECK(write.results == std::vector<int32_t>{64});
  CHECK(send.results == std::vector<int32_t>{64});
  std::array<uint8_t, 128> arrived{};
  REQUIRE(recv(sockets[1], arrived.data(), arrived.size(), MSG_WAITALL | MSG_DONTWAIT) == 128);
  CHECK(arrived.front() == 's');
  CHECK(arrived.back() == 'w');
}

TEST_CASE("far more requests than the ring has entries are all done") {
  auto loop = make_loop({8, size_t{1} << 20, GENERATE(false, true)});
  const TempFolder folder;
  const int fd = open(folder.file("image").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  constexpr size_t kRequests = 20'000;  // also more than the completion queue holds
  std::vector<Noted> requests(kRequests);
  int left = kRequests;
  std::array<uint8_t, 64> memory{};
  for (size_t i = 0; i < kRequests; ++i) {
    requests[i].when_done = loop.get();
    requests[i].countdown = &left;
    loop->start_write(requests[i], fd, memory, i * memory.size(), false);
  }
  loop->run();
  size_t complete = 0;
  for (const Noted& request : requests) complete += request.results == std::vector<int32_t>{64} ? 1 : 0;
  CHECK(complete == kRequests);
  close(fd);
}

TEST_CASE("cancel() ends one operation and leaves the others") {
  auto loop = make_loop();
  const SocketPair sockets;
  std::array<uint8_t, 8> first_memory{};
  std::array<uint8_t, 8> second_memory{};
  Noted first;
  Noted second;
  Noted timeout;
  int left = 2;
  for (Noted* one : {&first, &timeout}) {
    one->when_done = loop.get();
    one->countdown = &left;
  }
  loop->start_receive(first, sockets[0], first_memory);
  loop->start_receive(second, sockets[1], second_memory);
  loop->start_timeout(timeout, 3'600'000'000);
  loop->cancel(first);
  loop->cancel(timeout);
  loop->cancel(timeout);  // answered already: nothing happens
  REQUIRE(write(sockets[0], "x", 1) == 1);
  loop->run();
  CHECK(first.results == std::vector<int32_t>{-ECANCELED});
  CHECK(timeout.results == std::vector<int32_t>{-ECANCELED});
  REQUIRE(second.results.size() == 1);
  CHECK((second.results[0] == 1 || second.results[0] == -ECANCELED));  // the stop may have come first
  loop->cancel(first);                                                 // not in flight: nothing happens
}

TEST_CASE("observers are told at the end of a turn, and work that they queue runs in the same turn") {
  auto loop = make_loop();
  CountingObserver observer(*loop);
  NotedWork work(observer);
  observer.work = &work;
  loop->add_turn_observer(observer);
  loop->stop();
  loop->run();
  CHECK(work.ran_after_calls == 1);
  CHECK(observer.calls >= 2);
  loop->remove_turn_observer(observer);
  const int calls = observer.calls;
  loop->run();
  CHECK(observer.calls == calls);
}

TEST_CASE("another thread may ask a loop to stop, and a loop may run on another thread than made it") {
  auto loop = make_loop();
  loop->spawn(nothing());
  std::thread runner([&] { loop->run(); });
  loop->request_stop();
  runner.join();
  CHECK(loop->stopping());
  CHECK(loop->spawned_tasks() == 0);
}

TEST_CASE("a stop that was asked for before run() counts") {
  auto loop = make_loop();
  loop->request_stop();
  loop->run();
  CHECK(loop->stopping());
}

TEST_CASE("a loop that never ran can be destroyed") {
  auto loop = make_loop();
  loop->spawn(nothing());
  loop.reset();
  CHECK(loop == nullptr);
}

}  // namespace lockstep::io
