#include "io/stream.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <random>
#include <string>
#include <vector>

#include "io/listener.h"
#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

using Pair = std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>;

Pair make_pair_of(Loop& loop) {
  Result<Pair> pair = make_stream_pair(loop);
  REQUIRE(pair.ok());
  return std::move(pair).value();
}

std::vector<uint8_t> random_bytes(size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

struct Outcome {
  bool ended = false;
  bool ok = false;
  ErrorKind kind = ErrorKind::Invalid;
  int system_errno = 0;
  std::string message;
};

void take(Outcome& outcome, const Status& status) {
  outcome.ended = true;
  outcome.ok = status.ok();
  if (status.ok()) return;
  outcome.kind = status.error().kind;
  outcome.system_errno = status.error().system_errno;
  outcome.message = status.error().message;
}

Task<void> read_exactly(Stream& stream, std::span<uint8_t> into, Outcome& outcome) {
  Status status = co_await stream.read_exact(into);
  take(outcome, status);
}

Task<void> write_in_pieces(Stream& stream, const std::vector<uint8_t>& bytes, size_t pieces, Outcome& outcome) {
  std::vector<iovec> all;
  size_t at = 0;
  for (size_t i = 0; i < pieces; ++i) {
    const size_t end = i + 1 == pieces ? bytes.size() : std::min(bytes.size(), at + (i * 7919) % 20'000);
    all.push_back({const_cast<uint8_t*>(bytes.data()) + at, end - at});
    at = end;
  }
  const std::span<const iovec> span(all);
  Status status = co_await stream.write_all(span);
  take(outcome, status);
}

Task<void> write_bytes(Stream& stream, std::vector<uint8_t> bytes, Outcome& outcome) {
  const std::span<const uint8_t> span(bytes);
  Status status = co_await stream.write_all(span);
  take(outcome, status);
}

// So many bytes at a time, and up to `room` behind them.
Task<void> read_with_more(Stream& stream, std::vector<size_t> lengths, size_t room, std::vector<uint8_t>& received,
                          std::vector<size_t>& beyond, Outcome& outcome) {
  Status status;
  for (const size_t length : lengths) {
    std::vector<uint8_t> into(length);
    std::vector<uint8_t> then(room);
    const Result<size_t> more = co_await stream.read_exact(into, then);
    if (!more.ok()) {
      status = more.error();
      break;
    }
    received.insert(received.end(), into.begin(), into.end());
    received.insert(received.end(), then.begin(), then.begin() + static_cast<std::ptrdiff_t>(*more));
    beyond.push_back(*more);
  }
  take(outcome, status);
}

Task<void> sleep_then(Loop& loop, uint64_t time_ms) {
  co_await loop.sleep_ms(time_ms);
}

Task<void> sleep_then_shutdown(Loop& loop, Stream& stream) {
  co_await loop.sleep_ms(1);
  stream.shutdown();
}

Task<void> sleep_then_close(Loop& loop, Stream& stream) {
  co_await loop.sleep_ms(1);
  stream.close();
}

Task<void> stop_when(Loop& loop, std::vector<const Outcome*> outcomes) {
  while (true) {
    bool all = true;
    for (const Outcome* outcome : outcomes) all = all && outcome->ended;
    if (all) break;
    co_await loop.sleep_ms(1);
  }
  loop.stop();
}

struct Connected {
  std::unique_ptr<Stream> stream;
  Outcome outcome;
};

Task<void> connect_to(Loop& loop, Address address, uint64_t timeout_ms, Connected& connected) {
  Result<std::unique_ptr<Stream>> stream = co_await connect_stream(loop, address, timeout_ms);
  connected.outcome.ended = true;
  connected.outcome.ok = stream.ok();
  if (stream.ok()) {
    connected.stream = std::move(stream).value();
  } else {
    take(connected.outcome, Status(stream.error()));
  }
}

}  // namespace

TEST_CASE("bytes arrive whole and in order, gathered from many pieces, through partial sends") {
  auto loop = make_loop({256, size_t{1} << 20, GENERATE(false, true)});  // the plain ring's sends end short
  Pair pair = make_pair_of(*loop);
  const std::vector<uint8_t> sent = random_bytes(3'000'000);
  const size_t pieces = GENERATE(1, 5, 64, 65, 300);
  std::vector<uint8_t> received(sent.size());
  Outcome write;
  Outcome read;
  loop->spawn(write_in_pieces(*pair.first, sent, pieces, write));
  loop->spawn(read_exactly(*pair.second, received, read));
  loop->spawn(stop_when(*loop, {&write, &read}));
  loop->run();
  CHECK(write.ok);
  CHECK(read.ok);
  CHECK(received == sent);
}

TEST_CASE("what comes behind the bytes that are read comes with them, as much as there is room for") {
  auto loop = make_loop();
  Pair pair = make_pair_of(*loop);
  const std::vector<uint8_t> sent = random_bytes(100'000);
  Outcome write;
  Outcome read;
  std::vector<uint8_t> received;
  std::vector<size_t> beyond;
  loop->spawn(write_bytes(*pair.first, sent, write));
  loop->spawn(read_with_more(*pair.second, {60'000, 30'000, 9'900}, 50, received, beyond, read));
  loop->spawn(stop_when(*loop, {&write, &read}));
  loop->run();
  CHECK(read.ok);
  CHECK(beyond == std::vector<size_t>{50, 50, 0});
  CHECK(received == sent);
}

TEST_CASE("empty writes and reads end at once") {
  auto loop = make_loop();
  Pair pair = make_pair_of(*loop);
  Outcome write;
  Outcome read;
  loop->spawn(write_bytes(*pair.first, {}, write));
  loop->spawn(read_exactly(*pair.second, {}, read));
  run_to_end(*loop, sleep_then(*loop, 1));
  CHECK(write.ok);
  CHECK(read.ok);
}

TEST_CASE("the end of the stream is Closed, and in the middle of a message it says so") {
  auto loop = make_loop();
  Pair pair = make_pair_of(*loop);
  std::vector<uint8_t> received(8);
  const std::vector<uint8_t> sent = random_bytes(GENERATE(0, 3));
  Outcome write;
  Outcome read;
  loop->spawn(write_bytes(*pair.first, sent, write));
  loop->spawn(read_exactly(*pair.second, received, read));
  loop->spawn(sleep_then_shutdown(*loop, *pair.first));
  loop->spawn(stop_when(*loop, {&read}));
  loop->run();
  CHECK_FALSE(read.ok);
  CHECK(read.kind == ErrorKind::Closed);
  CHECK(read.system_errno == 0);
  CHECK((read.message.find("3 of 8 bytes") != std::string::npos) == (sent.size() == 3));
}

TEST_CASE("shutdown and close end a pending read and a pending write with Closed") {
  auto loop = make_loop();
  Pair pair = make_pair_of(*loop);
  std::vector<uint8_t> received(8);
  const std::vector<uint8_t> sent = random_bytes(30'000'000);  // more than a socket holds
  Outcome write;
  Outcome read;
  loop->spawn(write_bytes(*pair.first, sent, write));
  loop->spawn(read_exactly(*pair.first, received, read));
  if (GENERATE(false, true)) {
    loop->spawn(sleep_then_close(*loop, *pair.first));
  } else {
    loop->spawn(sleep_then_shutdown(*loop, *pair.first));
  }
  loop->spawn(stop_when(*loop, {&write, &read}));
  loop->run();
  CHECK(write.kind == ErrorKind::Closed);
  CHECK(read.kind == ErrorKind::Closed);
  CHECK(pair.first->is_shut_down());
  CHECK_FALSE(pair.second->is_shut_down());
  pair.first->shutdown();
  pair.first->close();
}

TEST_CASE("reads and writes after shutdown are Closed") {
  auto loop = make_loop();
  Pair pair = make_pair_of(*loop);
  pair.first->close();
  std::vector<uint8_t> received(8);
  Outcome write;
  Outcome read;
  loop->spawn(write_bytes(*pair.first, {1, 2, 3}, write));
  loop->spawn(read_exactly(*pair.first, received, read));
  loop->spawn(stop_when(*loop, {&write, &read}));
  loop->run();
  CHECK(write.kind == ErrorKind::Closed);
  CHECK(read.kind == ErrorKind::Closed);
}

TEST_CASE("writing to a peer that is gone is Closed, without a signal") {
  auto loop = make_loop();
  Pair pair = make_pair_of(*loop);
  pair.second.reset();
  const std::vector<uint8_t> sent = random_bytes(100);
  Outcome write;
  loop->spawn(write_bytes(*pair.first, sent, write));
  loop->spawn(stop_when(*loop, {&write}));
  loop->run();
  CHECK(write.kind == ErrorKind::Closed);
  CHECK(write.system_errno == EPIPE);
}

TEST_CASE("a stopping loop ends pending reads and writes with Closed") {
  auto loop = make_loop();
  Pair pair = make_pair_of(*loop);
  std::vector<uint8_t> received(8);
  const std::vector<uint8_t> sent = random_bytes(30'000'000);
  Outcome write;
  Outcome read;
  loop->spawn(write_bytes(*pair.first, sent, write));
  loop->spawn(read_exactly(*pair.first, received, read));
  run_to_end(*loop, sleep_then(*loop, 2));
  CHECK(write.ended);
  CHECK(write.kind == ErrorKind::Closed);
  CHECK(read.kind == ErrorKind::Closed);
  CHECK(read.system_errno == ECANCELED);
}

TEST_CASE("a connection over TCP knows its peer") {
  auto loop = make_loop();
  Result<std::unique_ptr<Listener>> listener = Listener::open(*loop, {AddressFamily::Tcp, "", "127.0.0.1", 0});
  REQUIRE(listener.ok());
  Connected connected;
  loop->spawn(connect_to(*loop, (*listener)->bound_address(), 5000, connected));
  loop->spawn(stop_when(*loop, {&connected.outcome}));
  loop->run();
  INFO(connected.outcome.message);
  REQUIRE(connected.outcome.ok);
  CHECK(connected.stream->peer_host() == "127.0.0.1");
  CHECK(connected.stream->peer_description() == "127.0.0.1:" + std::to_string((*listener)->bound_address().port));
}

TEST_CASE("connecting where nobody listens says so") {
  auto loop = make_loop();
  Result<std::unique_ptr<Listener>> listener = Listener::open(*loop, {AddressFamily::Tcp, "", "127.0.0.1", 0});
  REQUIRE(listener.ok());
  const Address address = (*listener)->bound_address();
  listener->reset();
  Connected tcp;
  Connected socket_file;
  const TempFolder folder;
  loop->spawn(connect_to(*loop, address, 5000, tcp));
  loop->spawn(connect_to(*loop, {AddressFamily::Unix, folder.file("none"), "", 0}, 5000, socket_file));
  loop->spawn(stop_when(*loop, {&tcp.outcome, &socket_file.outcome}));
  loop->run();
  CHECK(tcp.outcome.kind == ErrorKind::Io);
  CHECK(tcp.outcome.system_errno == ECONNREFUSED);
  CHECK(tcp.outcome.message.find(format_address(address)) != std::string::npos);
  CHECK(socket_file.outcome.system_errno == ENOENT);
  CHECK(socket_file.outcome.message.find("nobody listens") != std::string::npos);
}

TEST_CASE("a connect that nobody answers ends after its timeout") {
  auto loop = make_loop();
  ListenerOptions options;
  options.backlog = 0;
  Result<std::unique_ptr<Listener>> listener = Listener::open(*loop, {AddressFamily::Tcp, "", "127.0.0.1", 0}, options);
  REQUIRE(listener.ok());
  // Nothing is accepted: the first connections fill the backlog, and the next gets no answer.
  std::vector<Connected> connected(6);
  std::vector<const Outcome*> outcomes;
  for (Connected& one : connected) {
    loop->spawn(connect_to(*loop, (*listener)->bound_address(), 50, one));
    outcomes.push_back(&one.outcome);
  }
  loop->spawn(stop_when(*loop, outcomes));
  loop->run();
  const Outcome& last = connected.back().outcome;
  INFO(last.message);
  CHECK(last.kind == ErrorKind::TimedOut);
  CHECK(last.message.find("50 ms") != std::string::npos);
}

TEST_CASE("a stopping loop ends a pending connect") {
  auto loop = make_loop();
  ListenerOptions options;
  options.backlog = 0;
  Result<std::unique_ptr<Listener>> listener = Listener::open(*loop, {AddressFamily::Tcp, "", "127.0.0.1", 0}, options);
  REQUIRE(listener.ok());
  std::vector<Connected> connected(6);
  for (Connected& one : connected) {
    loop->spawn(connect_to(*loop, (*listener)->bound_address(), 3'600'000, one));
  }
  run_to_end(*loop, sleep_then(*loop, 5));
  CHECK(connected.back().outcome.ended);
  CHECK(connected.back().outcome.kind == ErrorKind::Closed);
}

TEST_CASE("a host that does not exist is NotFound") {
  auto loop = make_loop();
  Connected connected;
  loop->spawn(connect_to(*loop, {AddressFamily::Tcp, "", "999.999.999.999", 1}, 1000, connected));
  loop->spawn(stop_when(*loop, {&connected.outcome}));
  loop->run();
  CHECK(connected.outcome.kind == ErrorKind::NotFound);
}

}  // namespace lockstep::io
