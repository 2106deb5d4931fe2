// Serves a disk in memory over NBD until SIGTERM or SIGINT: to try clients by hand, and to measure the front door
// alone. Usage: nbd_memory_server SIZE ADDRESS [ADDRESS…], for example: nbd_memory_server 1G unix:/tmp/m
// tcp:127.0.0.1:0
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "io/address.h"
#include "io/base/units.h"
#include "io/loop.h"
#include "io/process_signals.h"
#include "nbd-server/listener.h"
#include "tests/support/memory_backend.h"

namespace lockstep::tests {
namespace {

io::Task<void> serve_until_signal(io::Loop& loop, nbd::NbdServer& server, io::ProcessSignals& signals) {
  static_cast<void>(co_await signals.next());
  co_await server.stop();
  loop.stop();
}

int serve(int count, char** arguments) {
  const Result<uint64_t> size = parse_size(arguments[1]);
  if (!size.ok()) {
    std::fprintf(stderr, "nbd_memory_server: %s\n", size.error().message.c_str());
    return 2;
  }
  Result<std::unique_ptr<io::Loop>> loop = io::Loop::create();
  if (!loop.ok()) {
    std::fprintf(stderr, "nbd_memory_server: %s\n", loop.error().message.c_str());
    return 1;
  }
  Result<std::unique_ptr<io::ProcessSignals>> signals = io::ProcessSignals::create(**loop, {SIGTERM, SIGINT});
  if (!signals.ok()) {
    std::fprintf(stderr, "nbd_memory_server: %s\n", signals.error().message.c_str());
    return 1;
  }
  io::BlockGeometry geometry;
  geometry.size_bytes = round_up(*size, geometry.minimum_block_bytes);
  MemoryBackend backend(**loop, geometry);
  nbd::ExportTable exports(**loop);
  exports.add("memory", "a disk in memory").open(backend);
  nbd::NbdServer server(**loop, exports);
  for (int i = 2; i < count; ++i) {
    const Result<io::Address> address = io::parse_address(arguments[i]);
    const Status listening = address.ok() ? server.listen(*address) : Status(address.error());
    if (!listening.ok()) {
      std::fprintf(stderr, "nbd_memory_server: %s\n", listening.error().message.c_str());
      std::exit(1);
    }
  }
  for (const io::Address& address : server.addresses()) std::printf("%s\n", io::format_address(address).c_str());
  std::fflush(stdout);
  (*loop)->spawn(serve_until_signal(**loop, server, **signals));
  (*loop)->run();
  return 0;
}

}  // namespace
}  // namespace lockstep::tests

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: nbd_memory_server SIZE ADDRESS [ADDRESS...]\n");
    return 2;
  }
  return lockstep::tests::serve(count, arguments);
}
