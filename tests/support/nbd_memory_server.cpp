// Serves a disk in memory over NBD until SIGTERM or SIGINT: to try clients by hand, and to measure the front door
// alone. Usage: nbd_memory_server SIZE [OPTION…] ADDRESS [ADDRESS…], for example:
//   nbd_memory_server 1G unix:/tmp/m tcp:127.0.0.1:0
// Options: --tls on|require, --tls-certificates FOLDER, --tls-psk-file FILE, --tls-verify-peer, --tls-allow NAME,
// --read-only, --shared. TLS holds for unix sockets as for TCP.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

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

struct Arguments {
  std::vector<std::string> addresses;
  nbd::TlsMode tls_mode = nbd::TlsMode::Off;
  io::TlsFiles tls;
  nbd::ExportOptions exported;
};

// From the third on.
Arguments read_arguments(int count, char** arguments) {
  Arguments read;
  for (int i = 2; i < count; ++i) {
    const std::string word = arguments[i];
    const auto value = [&]() -> std::string { return i + 1 < count ? arguments[++i] : ""; };
    if (word == "--tls") {
      read.tls_mode = value() == "require" ? nbd::TlsMode::Require : nbd::TlsMode::On;
    } else if (word == "--tls-certificates") {
      read.tls.certificates = value();
    } else if (word == "--tls-psk-file") {
      read.tls.psk_file = value();
    } else if (word == "--tls-verify-peer") {
      read.tls.verify_peer = true;
    } else if (word == "--tls-allow") {
      read.exported.allowed_names.push_back(value());
    } else if (word == "--read-only") {
      read.exported.read_only = true;
    } else if (word == "--shared") {
      read.exported.shared = true;
    } else {
      read.addresses.push_back(word);
    }
  }
  return read;
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
  const Arguments read = read_arguments(count, arguments);
  nbd::TlsTerms tls;
  if (read.tls_mode != nbd::TlsMode::Off) {
    auto credentials = io::TlsCredentials::load(io::TlsRole::Server, read.tls);
    if (!credentials.ok()) {
      std::fprintf(stderr, "nbd_memory_server: %s\n", credentials.error().message.c_str());
      return 1;
    }
    tls = {read.tls_mode, *credentials};
  }
  nbd::Export& exported = exports.add("memory", "a disk in memory");
  exported.set_options(read.exported);
  exported.open(backend);
  nbd::NbdServer server(**loop, exports);
  for (const std::string& text : read.addresses) {
    const Result<io::Address> address = io::parse_address(text);
    const Status listening = address.ok() ? server.listen(*address, tls) : Status(address.error());
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
    std::fprintf(stderr, "usage: nbd_memory_server SIZE [OPTION...] ADDRESS [ADDRESS...]\n");
    return 2;
  }
  return lockstep::tests::serve(count, arguments);
}
