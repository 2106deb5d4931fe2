// A whole session over a socket, and the entry of TLS: the input is what the client sends, at once, after its flags.
// Bit 0 of the first byte: TLS is offered; bit 1, too: the client begins with STARTTLS, and the rest goes to GnuTLS.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/base/check.h"
#include "io/base/units.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/tls.h"
#include "nbd-server/session.h"
#include "tests/support/memory_backend.h"

namespace lockstep::nbd {
namespace {

std::shared_ptr<const io::TlsCredentials> credentials() {
  static const std::shared_ptr<const io::TlsCredentials> loaded = [] {
    std::string path = "/tmp/fuzz-keys-XXXXXX";
    const int fd = ::mkstemp(path.data());
    LOCKSTEP_CHECK(fd >= 0);
    FILE* file = ::fdopen(fd, "w");
    std::fputs("alice:000102030405060708090a0b0c0d0e0f\n", file);
    std::fclose(file);
    auto result = io::TlsCredentials::load(io::TlsRole::Server, {"", path, false});
    std::remove(path.c_str());
    LOCKSTEP_CHECK(result.ok());
    return *result;
  }();
  return loaded;
}

struct Run {
  io::Loop& loop;
  std::unique_ptr<Session> session;
  std::unique_ptr<io::Stream> client;
  std::vector<uint8_t> start;  // sent first; the rest when it has been answered
  size_t answer_bytes = 0;
  std::vector<uint8_t> bytes;
  size_t received_bytes = 0;
  bool closed = false;
  io::Signal received{loop};
  int left = 3;
};

void one_ended(Run& run) {
  if (--run.left == 0) run.loop.stop();
}

io::Task<void> serve(Run& run) {
  static_cast<void>(co_await run.session->serve());
  one_ended(run);
}

io::Task<void> send(Run& run) {
  const std::span<const uint8_t> start(run.start);
  static_cast<void>(co_await run.client->write_all(start));
  while (run.received_bytes < run.answer_bytes && !run.closed) static_cast<void>(co_await run.received.wait());
  const std::span<const uint8_t> bytes(run.bytes);
  static_cast<void>(co_await run.client->write_all(bytes));
  run.client->shutdown_writing();
  one_ended(run);
}

io::Task<void> receive(Run& run) {
  std::array<uint8_t, 4096> bytes;
  for (;;) {
    const Result<size_t> got = co_await run.client->read_some(bytes);
    if (!got.ok()) break;
    run.received_bytes += *got;
    run.received.notify_all();
  }
  run.closed = true;
  run.received.notify_all();
  one_ended(run);
}

void run(std::span<const uint8_t> input) {
  if (input.empty()) return;
  io::LoopOptions options;
  options.ring_entries = 16;
  options.buffer_arena_bytes = 1 * kMiB;
  options.plain_ring = true;
  auto loop = io::Loop::create(options);
  LOCKSTEP_CHECK(loop.ok());
  {
    io::BlockGeometry geometry;
    geometry.size_bytes = 256 * kKiB;
    geometry.minimum_block_bytes = 4096;
    tests::MemoryBackend backend(**loop, geometry);
    ExportTable exports(**loop);
    exports.add("a").open(backend);
    SessionServices services(**loop, exports, {});
    auto streams = io::make_stream_pair(**loop);
    LOCKSTEP_CHECK(streams.ok());
    TlsTerms tls;
    if ((input[0] & 1) != 0) tls = {TlsMode::On, credentials()};
    Run run{**loop,
            std::make_unique<Session>(services, std::move(streams->first), tls, true),
            std::move(streams->second),
            {0, 0, 0, 3}};
    if ((input[0] & 3) == 3) {
      run.start.resize(4 + kOptionHeaderBytes);
      encode(OptionHeader{5, 0}, std::span(run.start).last<kOptionHeaderBytes>());
      run.answer_bytes = kGreetingBytes + kOptionReplyHeaderBytes;
    }
    run.bytes.assign(input.begin() + 1, input.end());
    (*loop)->spawn(serve(run));
    (*loop)->spawn(send(run));
    (*loop)->spawn(receive(run));
    (*loop)->run();
    LOCKSTEP_CHECK((*loop)->buffers().used_bytes() == 0);
  }
}

}  // namespace
}  // namespace lockstep::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::nbd::run({data, size});
  return 0;
}
