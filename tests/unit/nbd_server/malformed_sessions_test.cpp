// Clients that break the protocol, stop in the middle, or take too much: one behaviour each, by raw socket.
#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "nbd-server/wire.h"
#include "tests/unit/nbd_server/server_thread.h"

namespace lockstep::nbd {
namespace {

constexpr uint16_t kRead = 0;
constexpr uint16_t kWrite = 1;
constexpr uint16_t kDisconnect = 2;
constexpr uint16_t kFlush = 3;

// Nothing of any client is left.
bool idle(ServerThread& server) {
  return server.eventually([&] {
    return server.server().connection_count() == 0 && server.exported().client_count() == 0 &&
           server.loop().buffers().used_bytes() == 0 && server.exported().in_flight() == 0;
  });
}

// The session still answers.
bool flushes(RawClient& client, uint64_t cookie) {
  client.send_request(0, kFlush, cookie, 0, 0);
  return client.receive_simple() == std::pair<uint64_t, uint32_t>(cookie, 0);
}

}  // namespace

TEST_CASE("a client that leaves before its flags") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.close();
  CHECK(idle(server));
}

TEST_CASE("unknown client flags") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.send({0x80, 0, 0, 3});
  CHECK(client.at_end());
}

TEST_CASE("a wrong option magic") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.send({0, 0, 0, 3});
  client.send(std::vector<uint8_t>(16, 0x41));
  CHECK(client.at_end());
}

TEST_CASE("a refused export tells why") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.send({0, 0, 0, 3});
  client.send_option(7, {0, 0, 0, 7, 's', 't', 'a', 'n', 'd', 'b', 'y', 0, 0});
  const auto header = decode_option_reply_header(client.receive(kOptionReplyHeaderBytes));
  REQUIRE(header.has_value());
  CHECK(header->type == OptionReplyType::ErrPolicy);
  const auto text = client.receive(header->length_bytes);
  CHECK(std::string(text.begin(), text.end()) == "this node is Secondary; the Primary is alpha");
}

TEST_CASE("EXPORT_NAME of a refused export ends the connection") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.send({0, 0, 0, 3});
  client.send_option(1, {'s', 't', 'a', 'n', 'd', 'b', 'y'});
  CHECK(client.at_end());
}

TEST_CASE("ABORT is acknowledged before the end") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.send({0, 0, 0, 3});
  client.send_option(2);
  CHECK(client.receive(kOptionReplyHeaderBytes).size() == kOptionReplyHeaderBytes);
  CHECK(client.at_end());
}

TEST_CASE("an option of four gigabytes ends the connection without its data") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.send({0, 0, 0, 3});
  std::vector<uint8_t> header(kOptionHeaderBytes);
  encode(OptionHeader{6, UINT32_MAX}, std::span(header).first<kOptionHeaderBytes>());
  client.send(header);
  CHECK(client.at_end());
}

TEST_CASE("a handshake that takes too long") {
  ServerThreadOptions options;
  options.server.session.handshake_limit_ms = 30;
  ServerThread server(options);
  RawClient client(server.socket_path());
  client.receive(kGreetingBytes);
  client.send({0, 0});
  CHECK(client.at_end());
  CHECK(idle(server));
}

TEST_CASE("a wrong request magic") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter();
  client.send(std::vector<uint8_t>(kRequestBytes, 0x25));
  CHECK(client.at_end());
  CHECK(idle(server));
}

TEST_CASE("an unknown command is answered") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter();
  client.send_request(0, 999, 5, 0, 512);
  CHECK(client.receive_simple() == std::pair<uint64_t, uint32_t>(5, 22));
  CHECK(flushes(client, 6));
}

TEST_CASE("an error carries words in the structured form") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter(true);
  client.send_request(0, kRead, 5, uint64_t{1} << 40, 512);
  const auto header = decode_compact_chunk(client.receive(kChunkHeaderBytes));
  REQUIRE(header.has_value());
  CHECK(header->type == ChunkType::Error);
  CHECK(header->flags == kChunkDone);
  CHECK(header->cookie == 5);
  const auto payload = client.receive(header->length_bytes);
  REQUIRE(payload.size() > 6);
  CHECK(payload[3] == 22);
  CHECK(std::string(payload.begin() + 6, payload.end()).find("past the end") != std::string::npos);
}

TEST_CASE("a write that is too long is drained and refused") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter();
  client.send_request(0, kWrite, 5, 0, 9 * kMiB);
  client.send(std::vector<uint8_t>(9 * kMiB));
  CHECK(client.receive_simple() == std::pair<uint64_t, uint32_t>(5, 22));
  CHECK(flushes(client, 6));
}

TEST_CASE("a write of unreasonable length ends the connection") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter();
  client.send_request(0, kWrite, 5, 0, UINT32_MAX);
  CHECK(client.at_end());
  CHECK(idle(server));
}

TEST_CASE("requests of no bytes succeed and do nothing") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter();
  for (const uint16_t command : std::initializer_list<uint16_t>{0, 1, 4, 6}) {
    client.send_request(0, command, 7, 0, 0);
    CHECK(client.receive_simple() == std::pair<uint64_t, uint32_t>(7, 0));
  }
  CHECK(flushes(client, 8));
}

TEST_CASE("a client that is killed in the middle of a payload") {
  const uint32_t length = GENERATE(8192U, static_cast<uint32_t>(4 * kMiB));
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter();
  client.send_request(0, kWrite, 5, 0, length);
  client.send(std::vector<uint8_t>(5000, 0xee));
  REQUIRE(server.eventually([&] { return server.loop().buffers().used_bytes() > 0; }));
  client.close();
  CHECK(idle(server));
  server.call([&] { CHECK(server.backend().bytes()[0] == 0); });
}

TEST_CASE("a client that is killed in the middle of a header") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter();
  client.send({0x25, 0x60, 0x95});
  client.close();
  CHECK(idle(server));
}

TEST_CASE("a client that is killed while its requests are in the backend") {
  ServerThread server;
  server.call([&] { server.backend().hold(true); });
  RawClient client(server.socket_path());
  client.enter();
  for (uint64_t i = 0; i < 20; ++i) client.send_request(0, kRead, i, i * 4096, 4096);
  REQUIRE(server.eventually([&] { return server.backend().waiting() == 20; }));
  client.close();
  // The session may not end before the backend has: it owns the memory that is being filled.
  for (int i = 0; i < 20; ++i) {
    server.call([&] { CHECK(server.exported().client_count() == 1); });
  }
  server.call([&] { server.backend().hold(false); });
  CHECK(idle(server));
}

TEST_CASE("a client that is killed while its replies wait for it") {
  ServerThread server;
  RawClient client(server.socket_path());
  client.enter();
  for (uint64_t i = 0; i < 30; ++i) client.send_request(0, kRead, i, 0, kMiB);
  REQUIRE(server.eventually([&] { return server.exported().statistics().reads > 0; }));
  client.close();
  CHECK(idle(server));
}

TEST_CASE("DISC is obeyed once all that came before it is answered") {
  ServerThread server;
  server.call([&] { server.backend().hold(true); });
  RawClient client(server.socket_path());
  client.enter();
  for (uint64_t i = 0; i < 10; ++i) client.send_request(0, kRead, i, 0, 512);
  client.send_request(0, kDisconnect, 99, 0, 0);
  REQUIRE(server.eventually([&] { return server.backend().waiting() == 10; }));
  server.call([&] { server.backend().hold(false); });
  CHECK(client.receive(10 * (kSimpleReplyBytes + 512)).size() == 10 * (kSimpleReplyBytes + 512));
  CHECK(client.at_end());
  CHECK(idle(server));
}

TEST_CASE("a payload that does not come ends the session") {
  ServerThreadOptions options;
  options.server.session.stall_limit_ms = 30;
  ServerThread server(options);
  RawClient client(server.socket_path());
  client.enter();
  client.send_request(0, kWrite, 5, 0, 1 * kMiB);
  client.send(std::vector<uint8_t>(100));
  CHECK(client.at_end());
  CHECK(idle(server));
}

TEST_CASE("replies that nobody takes end the session") {
  ServerThreadOptions options;
  options.server.session.stall_limit_ms = 30;
  ServerThread server(options);
  RawClient client(server.socket_path());
  client.enter();
  for (uint64_t i = 0; i < 30; ++i) client.send_request(0, kRead, i, 0, 4 * kMiB);
  CHECK(idle(server));
}

TEST_CASE("a client with nothing to say may stay longer than a handshake may take") {
  ServerThreadOptions options;
  options.server.session.handshake_limit_ms = 500;
  ServerThread server(options);
  RawClient client(server.socket_path());
  client.enter();
  uint64_t start_ms = 0;
  server.call([&] { start_ms = server.loop().now_ms(); });
  REQUIRE(server.eventually([&] { return server.loop().now_ms() > start_ms + 550; }));
  CHECK(flushes(client, 1));
}

TEST_CASE("more requests than the session has slots for") {
  ServerThreadOptions options;
  options.server.session.requests_in_flight = 4;
  ServerThread server(options);
  server.call([&] { server.backend().hold(true); });
  RawClient client(server.socket_path());
  client.enter();
  for (uint64_t i = 0; i < 50; ++i) client.send_request(0, kRead, i, 0, 512);
  REQUIRE(server.eventually([&] { return server.backend().waiting() == 4; }));
  for (int i = 0; i < 20; ++i) {
    server.call([&] { CHECK(server.backend().waiting() == 4); });
  }
  server.call([&] { server.backend().hold(false); });
  CHECK(client.receive(50 * (kSimpleReplyBytes + 512)).size() == 50 * (kSimpleReplyBytes + 512));
}

TEST_CASE("a full house refuses newcomers, and says so") {
  ServerThread server;
  server.call([&] {
    ExportOptions options;
    options.maximum_clients = 2;
    server.exported().set_options(options);
  });
  RawClient first(server.socket_path());
  first.enter();
  RawClient second(server.socket_path());
  second.enter();
  RawClient third(server.socket_path());
  third.receive(kGreetingBytes);
  third.send({0, 0, 0, 3});
  third.send_option(7, {0, 0, 0, 0, 0, 0});
  const auto header = decode_option_reply_header(third.receive(kOptionReplyHeaderBytes));
  REQUIRE(header.has_value());
  CHECK(header->type == OptionReplyType::ErrPolicy);
  first.close();
  REQUIRE(server.eventually([&] { return server.exported().client_count() == 1; }));
  RawClient fourth(server.socket_path());
  fourth.enter();
  CHECK(flushes(fourth, 1));
}

TEST_CASE("a flood of half-open connections does not keep a good client out") {
  ServerThreadOptions options;
  options.server.handshakes_per_listener = 8;
  ServerThread server(options);
  std::vector<std::unique_ptr<RawClient>> flood;
  for (int i = 0; i < 200; ++i) flood.push_back(std::make_unique<RawClient>(server.socket_path()));
  RawClient good(server.socket_path());
  good.enter();
  CHECK(flushes(good, 1));
  server.call([&] { CHECK(server.server().connection_count() <= 9); });
}

TEST_CASE("the server stops although clients hang in their handshake") {
  ServerThread server;
  RawClient silent(server.socket_path());
  silent.receive(kGreetingBytes);
  RawClient client(server.socket_path());
  client.enter();
  server.end();
  CHECK(silent.at_end());
  CHECK(client.at_end());
}

TEST_CASE("closing does not wait for ever for a client that takes no replies") {
  ServerThreadOptions options;
  options.server.session.closing_reply_limit_ms = 30;
  ServerThread server(options);
  RawClient client(server.socket_path());
  client.enter();
  for (uint64_t i = 0; i < 15; ++i) client.send_request(0, kRead, i, 0, 4 * kMiB);
  REQUIRE(server.eventually([&] { return server.exported().statistics().reads > 0; }));
  server.start_closing();
  CHECK(idle(server));
  CHECK(server.closed());
}

}  // namespace lockstep::nbd
