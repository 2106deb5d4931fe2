// Extended headers, by raw socket: each reply is checked byte by byte.
#include <array>
#include <catch2/catch.hpp>
#include <vector>

#include "io/base/bytes.h"
#include "tests/unit/nbd_server/server_thread.h"

namespace lockstep::nbd {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint16_t kWriteZeroes = 6;
constexpr uint16_t kBlockStatus = 7;

class ExtendedClient : public RawClient {
 public:
  explicit ExtendedClient(ServerThread& server, bool contexts = false) : RawClient(server.socket_path()) {
    receive(kGreetingBytes);
    send({0, 0, 0, 3});
    send_option(11);
    REQUIRE(receive(kOptionReplyHeaderBytes).size() == kOptionReplyHeaderBytes);
    if (contexts) {
      Bytes data{0, 0, 0, 0, 0, 0, 0, 2};
      for (const std::string name : {"base:allocation", "lockstep:dirty"}) {
        data.insert(data.end(), {0, 0, 0, static_cast<uint8_t>(name.size())});
        data.insert(data.end(), name.begin(), name.end());
      }
      send_option(10, data);
      while (reply_type() != OptionReplyType::Ack) {
      }
    }
    send_option(7, {0, 0, 0, 0, 0, 1, 0, 3});
    while (reply_type() != OptionReplyType::Ack) {
    }
  }

  void ask(uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset, uint64_t length,
           const Bytes& payload = {}) {
    Bytes bytes;
    add_request(bytes, flags, command, cookie, offset, length, payload);
    send(bytes);
  }
  static void add_request(Bytes& to, uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset,
                          uint64_t length, const Bytes& payload = {}) {
    const size_t at = to.size();
    to.resize(at + kExtendedRequestBytes);
    encode_extended({flags, command, cookie, offset, length}, std::span(to).subspan(at).first<kExtendedRequestBytes>());
    to.insert(to.end(), payload.begin(), payload.end());
  }
  ChunkHeader chunk(Bytes& payload) {
    const auto header = decode_extended_chunk(receive(kExtendedChunkHeaderBytes));
    REQUIRE(header.has_value());
    REQUIRE(header->length_bytes <= 64 * kMiB);
    payload = receive(header->length_bytes);
    return *header;
  }
  // The error of a reply of one chunk; 0 for success.
  uint32_t outcome(uint64_t cookie) {
    Bytes payload;
    const ChunkHeader header = chunk(payload);
    CHECK(header.cookie == cookie);
    CHECK(header.flags == kChunkDone);
    if (header.type == ChunkType::None) return 0;
    CHECK(header.type == ChunkType::Error);
    return BigReader(payload).u32();
  }

 private:
  OptionReplyType reply_type() {
    const auto header = decode_option_reply_header(receive(kOptionReplyHeaderBytes));
    REQUIRE(header.has_value());
    receive(header->length_bytes);
    return header->type;
  }
};

}  // namespace

TEST_CASE("extended: write, read, flush") {
  ServerThread server;
  ExtendedClient client(server);
  client.ask(command_flag::kPayloadLength | command_flag::kFua, 1, 1, 4096, 512, Bytes(512, 9));
  CHECK(client.outcome(1) == 0);
  client.ask(0, 3, 2, 0, 0);
  CHECK(client.outcome(2) == 0);
  client.ask(0, 0, 3, 4096, 512);
  Bytes payload;
  const ChunkHeader header = client.chunk(payload);
  CHECK(header.type == ChunkType::OffsetData);
  CHECK(header.offset_bytes == 4096);
  REQUIRE(payload.size() == 8 + 512);
  CHECK(BigReader(payload).u64() == 4096);
  CHECK(payload.back() == 9);
}

TEST_CASE("extended: long and short payloads, one behind the other, and reads between them") {
  ServerThread server;
  ExtendedClient client(server);
  const std::array<size_t, 7> lengths{64 * kKiB, 64 * kKiB, 512, 16 * kKiB, 256 * kKiB, 17 * kKiB, 512};
  uint64_t cookie = 0;
  uint64_t offset = 0;
  Bytes all;
  for (size_t round = 0; round < 5; ++round) {
    for (const size_t length : lengths) {
      ++cookie;
      Bytes payload(length);
      for (size_t i = 0; i < length; ++i) payload[i] = static_cast<uint8_t>(i * 31 + cookie * 7 + (i >> 8));
      ExtendedClient::add_request(all, command_flag::kPayloadLength, 1, cookie, offset, length, payload);
      offset += length;
    }
    ExtendedClient::add_request(all, 0, 3, ++cookie, 0, 0);
  }
  client.send(all);
  std::vector<bool> answered(cookie + 1);
  for (uint64_t i = 0; i < cookie; ++i) {
    Bytes payload;
    const ChunkHeader header = client.chunk(payload);
    CHECK(header.type == ChunkType::None);
    REQUIRE(header.cookie <= cookie);
    CHECK_FALSE(answered[header.cookie]);
    answered[header.cookie] = true;
  }
  cookie = offset = 0;
  for (size_t round = 0; round < 5; ++round, ++cookie) {
    for (const size_t length : lengths) {
      ++cookie;
      client.ask(0, 0, 1000 + cookie, offset, length);
      Bytes payload;
      REQUIRE(client.chunk(payload).cookie == 1000 + cookie);
      REQUIRE(payload.size() == 8 + length);
      size_t wrong = 0;
      for (size_t i = 0; i < length; ++i)
        wrong += payload[8 + i] != static_cast<uint8_t>(i * 31 + cookie * 7 + (i >> 8));
      CHECK(wrong == 0);
      offset += length;
    }
  }
}

TEST_CASE("extended: lengths beyond 4 GiB are lengths, not payloads") {
  ServerThread server;
  ExtendedClient client(server);
  client.ask(0, kWriteZeroes, 1, 0, uint64_t{1} << 40);
  CHECK(client.outcome(1) == 28);
  client.ask(0, 4, 2, 0, UINT64_MAX);
  CHECK(client.outcome(2) == 22);
  client.ask(0, 5, 3, 0, 16 * kMiB);
  CHECK(client.outcome(3) == 0);
  client.ask(0, kWriteZeroes, 4, 0, 16 * kMiB);
  CHECK(client.outcome(4) == 0);
}

TEST_CASE("extended: a payload where none belongs is drained and refused") {
  ServerThread server;
  ExtendedClient client(server);
  for (const uint16_t command : {uint16_t{0}, uint16_t{3}, uint16_t{4}, uint16_t{5}, uint16_t{6}, uint16_t{99}}) {
    client.ask(command_flag::kPayloadLength, command, command, 0, 4096, Bytes(4096, 0x21));
    CHECK(client.outcome(command) == 22);
  }
  client.ask(0, 3, 100, 0, 0);
  CHECK(client.outcome(100) == 0);
}

TEST_CASE("extended: WRITE must carry its payload") {
  ServerThread server;
  ExtendedClient client(server);
  client.ask(0, 1, 1, 0, 512);
  CHECK(client.outcome(1) == 22);
  client.ask(command_flag::kPayloadLength, 1, 2, 0, uint64_t{1} << 33);
  CHECK(client.at_end());
}

TEST_CASE("extended: a compact request ends the session") {
  ServerThread server;
  ExtendedClient client(server);
  client.send_request(0, 3, 1, 0, 0);
  client.send({0, 0, 0, 0});
  CHECK(client.at_end());
}

TEST_CASE("extended: BLOCK_STATUS of all contexts, and of those that a payload names") {
  ServerThread server;
  server.call([&] { server.backend().mark_dirty(0, 512); });
  ExtendedClient client(server, true);
  client.ask(0, kBlockStatus, 1, 0, 16 * kMiB);
  Bytes payload;
  ChunkHeader header = client.chunk(payload);
  CHECK(header.type == ChunkType::BlockStatusExt);
  CHECK(header.flags == 0);
  CHECK(payload == Bytes{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3});
  header = client.chunk(payload);
  CHECK(header.flags == kChunkDone);
  CHECK(payload.size() == 8 + 2 * 16);

  client.ask(command_flag::kPayloadLength, kBlockStatus, 2, 0, 12, {0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2});
  header = client.chunk(payload);
  CHECK(header.flags == kChunkDone);
  CHECK(header.cookie == 2);
  CHECK(payload == Bytes{0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1});

  SECTION("an unknown context") {
    client.ask(command_flag::kPayloadLength, kBlockStatus, 3, 0, 12, {0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9});
    CHECK(client.outcome(3) == 22);
  }
  SECTION("one context twice") {
    client.ask(command_flag::kPayloadLength, kBlockStatus, 3, 0, 16, {0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 1});
    CHECK(client.outcome(3) == 22);
  }
  SECTION("a payload of nothing") {
    client.ask(command_flag::kPayloadLength, kBlockStatus, 3, uint64_t{1} << 50, 0);
    CHECK(client.outcome(3) == 22);
  }
  SECTION("far too many") {
    client.ask(command_flag::kPayloadLength, kBlockStatus, 3, 0, 40000, Bytes(40000));
    CHECK(client.outcome(3) == 22);
  }
  SECTION("a range past the end") {
    client.ask(command_flag::kPayloadLength, kBlockStatus, 3, 0, 12, {1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1});
    CHECK(client.outcome(3) == 22);
  }
  client.ask(0, 3, 4, 0, 0);
  CHECK(client.outcome(4) == 0);
}

TEST_CASE("extended: BLOCK_STATUS without a selection") {
  ServerThread server;
  ExtendedClient client(server);
  client.ask(0, kBlockStatus, 1, 0, 512);
  CHECK(client.outcome(1) == 22);
}

}  // namespace lockstep::nbd
