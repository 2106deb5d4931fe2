// Who is let in: read-only exports, one host at a time, and limits that a crowd of bad clients runs into.
#include <libnbd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "nbd-server/wire.h"
#include "tests/unit/nbd_server/libnbd_client.h"

namespace lockstep::nbd {
namespace {

// An export whose offer is asked for as by clients of other hosts; one real client is attached.
ExportOffer offer_to(ServerThread& server, const std::string& host) {
  ExportOffer offer;
  server.call([&] { offer = server.exported().offer_to({client_host(host), false, false, {}}); });
  return offer;
}

}  // namespace

TEST_CASE("a read-only export is read, and nothing else") {
  ServerThread server;
  server.call([&] {
    ExportOptions options;
    options.read_only = true;
    server.exported().set_options(options);
  });
  Client client = connected(server);
  CHECK(nbd_is_read_only(client.get()) == 1);
  std::vector<uint8_t> bytes(4096);
  ok(nbd_pread(client.get(), bytes.data(), bytes.size(), 0, 0));
  ok(nbd_flush(client.get(), 0));
  for (const int result : {nbd_pwrite(client.get(), bytes.data(), bytes.size(), 0, 0),
                           nbd_zero(client.get(), 4096, 0, 0), nbd_trim(client.get(), 4096, 0, 0)}) {
    CHECK(result == -1);
    CHECK(nbd_get_errno() == EPERM);
  }
}

TEST_CASE("while one host has a client, another is refused, until the first has gone") {
  ServerThread server;
  CHECK_FALSE(offer_to(server, "10.0.0.5").refused);
  {
    Client client = connected(server, true, true);  // over TCP from this host
    CHECK_FALSE(offer_to(server, "127.0.0.1").refused);
    CHECK_FALSE(offer_to(server, "local").refused);
    CHECK_FALSE(offer_to(server, "::1").refused);
    const ExportOffer offer = offer_to(server, "10.0.0.5");
    CHECK(offer.refused);
    CHECK(offer.refusal.find("in use by a client on its own host") != std::string::npos);
    // The same host by another socket is the same host.
    Client second = connected(server);
    ok(nbd_flush(second.get(), 0));

    server.call([&] {
      ExportOptions options;
      options.shared = true;
      server.exported().set_options(options);
    });
    CHECK_FALSE(offer_to(server, "10.0.0.5").refused);
    server.call([&] { server.exported().set_options({}); });
    CHECK(offer_to(server, "10.0.0.5").refused);
  }
  REQUIRE(server.eventually([&] { return server.exported().client_count() == 0; }));
  CHECK_FALSE(offer_to(server, "10.0.0.5").refused);
}

TEST_CASE("ten thousand half-open connections, and a good client gets in") {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  constexpr size_t kConnections = 10000;
  // Both ends are in this process.
  if (limit.rlim_max < 2 * kConnections) {
    WARN("too few descriptors are allowed here for this test");
    return;
  }
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ServerThread server;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  server.socket_path().copy(address.sun_path, sizeof(address.sun_path) - 1);
  std::vector<int> half_open;
  for (size_t i = 0; i < kConnections; ++i) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) break;
    half_open.push_back(fd);
  }
  CHECK(half_open.size() == kConnections);
  {
    // The socket's backlog may still be full of the others; libnbd does not wait for room in it. Each call is a turn of
    // the server's loop.
    Client good;
    int result = -1;
    for (size_t attempt = 0; attempt < kConnections && result != 0; ++attempt) {
      server.call([] {});
      good = new_client();
      ok(nbd_set_export_name(good.get(), "pgdata"));
      result = nbd_connect_unix(good.get(), server.socket_path().c_str());
    }
    ok(result);
    ok(nbd_flush(good.get(), 0));
  }
  server.call([&] { CHECK(server.server().connection_count() <= ServerOptions{}.handshakes_per_listener + 1); });
  for (const int fd : half_open) ::close(fd);
}

TEST_CASE("one client cannot hold all memory: another is served beside it") {
  ServerThreadOptions options;
  options.arena_bytes = 16 * kMiB;
  ServerThread server(options);
  RawClient reader(server.socket_path());
  reader.enter();
  // Asks for more than there is, and takes nothing of it.
  for (uint64_t cookie = 0; cookie < 40; ++cookie) reader.send_request(0, 0, cookie, 0, 1 * kMiB);
  Client good = connected(server);
  std::vector<uint8_t> bytes(64 * kKiB);
  ok(nbd_pwrite(good.get(), bytes.data(), bytes.size(), 0, 0));
  ok(nbd_pread(good.get(), bytes.data(), bytes.size(), 0, 0));
}

TEST_CASE("who keeps memory and does not go on is let go when others wait for it") {
  ServerThreadOptions options;
  options.arena_bytes = 16 * kMiB;
  options.server.session.pressed_stall_limit_ms = 50;
  ServerThread server(options);
  std::vector<std::unique_ptr<RawClient>> greedy;
  for (int i = 0; i < 4; ++i) {
    greedy.push_back(std::make_unique<RawClient>(server.socket_path()));
    greedy.back()->enter();
    greedy.back()->send_request(0, 1, 1, 0, 8 * kMiB);
  }
  Client good = connected(server);
  std::vector<uint8_t> bytes(8 * kMiB);
  ok(nbd_pwrite(good.get(), bytes.data(), bytes.size(), 0, 0));
}

TEST_CASE("clients in their handshake are told of the shutdown") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.send({0, 0, 0, 3});
  std::thread ending([&] { server.end(); });
  std::vector<uint8_t> reply;
  for (;;) {  // until the stop has begun
    client.send_option(99);
    reply = client.receive(kOptionReplyHeaderBytes);
    const auto header = decode_option_reply_header(reply);
    if (!header) break;
    client.receive(header->length_bytes);
    if (header->type != OptionReplyType::ErrUnsup) break;
  }
  const auto header = decode_option_reply_header(reply);
  REQUIRE(header.has_value());
  CHECK(header->type == OptionReplyType::ErrShutdown);
  CHECK(client.at_end());
  ending.join();
}

}  // namespace lockstep::nbd
