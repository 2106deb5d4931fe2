// Requests that are not aligned to the disk's blocks, from clients that know no block sizes.
#include <libnbd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "tests/unit/nbd_server/libnbd_client.h"

namespace lockstep::nbd {
namespace {

ServerThreadOptions large_blocks() {
  ServerThreadOptions options;
  options.size_bytes = 1 * kMiB;
  options.minimum_block_bytes = 4096;
  return options;
}

Client simple_minded(const ServerThread& server) {
  Client client = new_client();
  ok(nbd_set_export_name(client.get(), "pgdata"));
  ok(nbd_set_request_block_size(client.get(), false));
  ok(nbd_connect_unix(client.get(), server.socket_path().c_str()));
  return client;
}

}  // namespace

TEST_CASE("unaligned requests do what they say, whatever their range") {
  ServerThread server(large_blocks());
  Client client = simple_minded(server);
  std::vector<uint8_t> expected(1 * kMiB);
  std::mt19937_64 random(8);
  for (int i = 0; i < 400; ++i) {
    const size_t offset = random() % expected.size();
    const size_t length = std::min<size_t>(expected.size() - offset, 1 + random() % (i % 10 == 0 ? 300000 : 20000));
    const auto begin = expected.begin() + static_cast<ptrdiff_t>(offset);
    const auto end = begin + static_cast<ptrdiff_t>(length);
    const uint32_t fua = random() % 2 == 0 ? LIBNBD_CMD_FLAG_FUA : 0;
    switch (random() % 3) {
      case 0: {
        const auto bytes = pattern(length, random());
        ok(nbd_pwrite(client.get(), bytes.data(), length, offset, fua));
        std::copy(bytes.begin(), bytes.end(), begin);
        break;
      }
      case 1:
        ok(nbd_zero(client.get(), length, offset, fua));
        std::fill(begin, end, uint8_t{0});
        break;
      default: {
        std::vector<uint8_t> bytes(length);
        ok(nbd_pread(client.get(), bytes.data(), length, offset, 0));
        REQUIRE(std::equal(begin, end, bytes.begin()));
        break;
      }
    }
  }
  server.call([&] {
    CHECK(server.backend().bytes() == expected);
    CHECK(server.exported().in_flight() == 0);
  });
}

TEST_CASE("an unaligned TRIM leaves what is outside of it alone") {
  ServerThread server(large_blocks());
  Client client = simple_minded(server);
  const auto bytes = pattern(32768, 3);
  ok(nbd_pwrite(client.get(), bytes.data(), bytes.size(), 0, 0));
  ok(nbd_trim(client.get(), 100, 100, 0));
  ok(nbd_trim(client.get(), 10000, 4000, LIBNBD_CMD_FLAG_FUA));
  std::vector<uint8_t> read(bytes.size());
  ok(nbd_pread(client.get(), read.data(), read.size(), 0, 0));
  CHECK(std::memcmp(read.data(), bytes.data(), 4096) == 0);
  CHECK(std::memcmp(read.data() + 12288, bytes.data() + 12288, bytes.size() - 12288) == 0);
  CHECK(std::all_of(read.begin() + 4096, read.begin() + 12288, [](uint8_t byte) { return byte == 0; }));
}

TEST_CASE("neighbours in one block do not overwrite each other, from several connections") {
  ServerThread server(large_blocks());
  constexpr size_t kClients = 4;
  constexpr size_t kShare = 1024;  // of each block
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (size_t number = 0; number < kClients; ++number) {
    threads.emplace_back([&server, &failed, number] {
      nbd_handle* client = nbd_create();
      nbd_set_export_name(client, "pgdata");
      nbd_set_strict_mode(client, kNoClientChecks);
      nbd_set_request_block_size(client, number == 0);  // one client writes whole blocks elsewhere
      nbd_connect_unix(client, server.socket_path().c_str());
      for (int round = 1; round <= 50; ++round) {
        for (size_t block = 0; block < 4; ++block) {
          std::vector<uint8_t> bytes(number == 0 ? 4096 : kShare, static_cast<uint8_t>(round));
          const uint64_t offset = number == 0 ? (block + 4) * 4096 : block * 4096 + number * kShare;
          if (nbd_pwrite(client, bytes.data(), bytes.size(), offset, 0) != 0) ++failed;
        }
      }
      nbd_close(client);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 0);
  server.call([&] {
    for (size_t block = 0; block < 4; ++block) {
      for (size_t number = 1; number < kClients; ++number) {
        CHECK(server.backend().bytes()[block * 4096 + number * kShare] == 50);
        CHECK(server.backend().bytes()[block * 4096 + number * kShare + kShare - 1] == 50);
      }
      CHECK(server.backend().bytes()[block * 4096] == 0);
    }
  });
}

TEST_CASE("an unaligned write waits for the write of its block that began before, and holds up those that come later") {
  ServerThread server(large_blocks());
  server.call([&] { server.backend().hold(true); });
  RawClient aligned(server.socket_path());
  aligned.enter();
  RawClient misfit(server.socket_path());
  misfit.enter();
  aligned.send_request(0, 1, 1, 0, 4096);
  aligned.send(std::vector<uint8_t>(4096, 1));
  REQUIRE(server.eventually([&] { return server.backend().waiting() == 1; }));
  misfit.send_request(0, 1, 2, 100, 100);
  misfit.send(std::vector<uint8_t>(100, 2));
  // A second write of that block: it must not get between the reading and the writing back.
  REQUIRE(server.eventually([&] { return server.exported().in_flight() == 2; }));
  aligned.send_request(0, 1, 3, 0, 4096);
  aligned.send(std::vector<uint8_t>(4096, 3));
  aligned.send_request(0, 3, 4, 0, 0);
  server.call([&] { CHECK(server.backend().waiting() == 1); });
  server.call([&] { server.backend().hold(false); });
  CHECK(aligned.receive_simple().first == 1);
  CHECK(misfit.receive_simple() == std::pair<uint64_t, uint32_t>(2, 0));
  CHECK(aligned.receive_simple().first == 3);
  CHECK(aligned.receive_simple().first == 4);
  server.call([&] {
    CHECK(server.backend().bytes()[0] == 3);
    CHECK(server.backend().bytes()[150] == 3);
  });
}

TEST_CASE("an unaligned write that fails is drained and answered") {
  ServerThread server(large_blocks());
  Client client = simple_minded(server);
  server.call([&] { server.backend().fail_with(EIO); });
  const auto bytes = pattern(300000, 3);
  CHECK(nbd_pwrite(client.get(), bytes.data(), bytes.size(), 100, 0) == -1);
  CHECK(nbd_get_errno() == EIO);
  CHECK(nbd_zero(client.get(), 5000, 100, 0) == -1);
  server.call([&] { server.backend().fail_with(0); });
  ok(nbd_pwrite(client.get(), bytes.data(), bytes.size(), 100, 0));
}

TEST_CASE("a client that leaves in the middle of an unaligned write leaves nothing behind") {
  ServerThread server(large_blocks());
  {
    RawClient client(server.socket_path());
    client.enter();
    client.send_request(0, 1, 1, 100, 200000);
    client.send(std::vector<uint8_t>(100000, 1));
  }
  CHECK(server.eventually([&] {
    return server.server().connection_count() == 0 && server.loop().buffers().used_bytes() == 0 &&
           server.exported().in_flight() == 0;
  }));
}

TEST_CASE("a client that asked for block sizes is held to them") {
  ServerThread server(large_blocks());
  Client client = connected(server);
  std::vector<uint8_t> bytes(512);
  CHECK(nbd_pread(client.get(), bytes.data(), 512, 0, 0) == -1);
  CHECK(nbd_get_errno() == EINVAL);
  CHECK(nbd_pwrite(client.get(), bytes.data(), 512, 0, 0) == -1);
  CHECK(nbd_get_errno() == EINVAL);
}

}  // namespace lockstep::nbd
