// libnbd, a real client, against the server.
#include <libnbd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nbd-server/wire.h"
#include "tests/unit/nbd_server/libnbd_client.h"
#include "tests/unit/nbd_server/server_thread.h"

namespace lockstep::nbd {
namespace {

// NBD_NULL_COMPLETION is C only.
constexpr nbd_completion_callback kNoCallback{};

struct Names {
  std::vector<std::string> names;
  static int add(void* opaque, const char* name, const char* /*description*/) {
    static_cast<Names*>(opaque)->names.emplace_back(name);
    return 0;
  }
};

}  // namespace

TEST_CASE("every command, over each kind of socket and reply") {
  const bool structured = GENERATE(false, true);
  const bool tcp = GENERATE(false, true);
  CAPTURE(structured, tcp);
  ServerThread server;
  {
    Client client = connected(server, structured, tcp);
    CHECK(nbd_get_size(client.get()) == static_cast<int64_t>(16 * kMiB));
    CHECK(nbd_can_flush(client.get()) == 1);
    CHECK(nbd_can_fua(client.get()) == 1);
    CHECK(nbd_can_trim(client.get()) == 1);
    CHECK(nbd_can_zero(client.get()) == 1);
    CHECK(nbd_can_multi_conn(client.get()) == 1);
    CHECK(nbd_can_df(client.get()) == (structured ? 1 : 0));
    CHECK(nbd_is_read_only(client.get()) == 0);
    CHECK(nbd_get_structured_replies_negotiated(client.get()) == (structured ? 1 : 0));
    CHECK(nbd_get_block_size(client.get(), LIBNBD_SIZE_MINIMUM) == 512);
    CHECK(nbd_get_block_size(client.get(), LIBNBD_SIZE_PREFERRED) == 4096);
    CHECK(nbd_get_block_size(client.get(), LIBNBD_SIZE_MAXIMUM) == static_cast<int64_t>(8 * kMiB));

    const auto written = pattern(64 * kKiB, 1);
    std::vector<uint8_t> read(written.size());
    ok(nbd_pwrite(client.get(), written.data(), written.size(), 512, 0));
    ok(nbd_pread(client.get(), read.data(), read.size(), 512, 0));
    CHECK(read == written);

    ok(nbd_pwrite(client.get(), written.data(), 512, 0, LIBNBD_CMD_FLAG_FUA));
    ok(nbd_flush(client.get(), 0));
    ok(nbd_trim(client.get(), 4096, 8192, LIBNBD_CMD_FLAG_FUA));
    ok(nbd_zero(client.get(), 4096, 16384, LIBNBD_CMD_FLAG_NO_HOLE));
    ok(nbd_pread(client.get(), read.data(), 4096, 16384, structured ? LIBNBD_CMD_FLAG_DF : 0));
    CHECK(std::all_of(read.begin(), read.begin() + 4096, [](uint8_t byte) { return byte == 0; }));
    ok(nbd_shutdown(client.get(), 0));
  }
  REQUIRE(server.eventually([&] { return server.exported().client_count() == 0; }));
  server.call([&] {
    CHECK(server.backend().fua_requests() == 2);
    CHECK(server.backend().flushes() == 1);
    CHECK(server.backend().trims() == 1);
    CHECK(server.backend().kept_zeroes() == 1);
    const ExportStatistics& statistics = server.exported().statistics();
    CHECK(statistics.reads == 2);
    CHECK(statistics.writes == 4);
    CHECK(statistics.flushes == 1);
    CHECK(statistics.read_bytes == 64 * kKiB + 4096);
    CHECK(statistics.written_bytes == 64 * kKiB + 512);
    CHECK(server.loop().buffers().used_bytes() == 0);
  });
}

TEST_CASE("payloads of 32 MiB") {
  const bool structured = GENERATE(false, true);
  ServerThreadOptions options;
  options.size_bytes = options.arena_bytes = 64 * kMiB;
  ServerThread server(options);
  Client client = connected(server, structured);
  CHECK(nbd_get_block_size(client.get(), LIBNBD_SIZE_MAXIMUM) == static_cast<int64_t>(32 * kMiB));
  const auto written = pattern(32 * kMiB, 2);
  std::vector<uint8_t> read(written.size());
  ok(nbd_pwrite(client.get(), written.data(), written.size(), 32 * kMiB, 0));
  ok(nbd_pread(client.get(), read.data(), read.size(), 32 * kMiB, 0));
  CHECK((read == written));
}

TEST_CASE("six hundred requests of one connection in flight, answered in reverse") {
  const bool structured = GENERATE(false, true);
  ServerThread server;
  Client client = connected(server, structured);
  server.call([&] {
    server.backend().hold(true);
    server.backend().set_reverse(true);
  });
  constexpr size_t kRequests = 600;
  const size_t piece = 8 * kKiB;
  const auto written = pattern(kRequests * piece, 3);
  std::vector<int64_t> cookies;
  for (size_t i = 0; i < kRequests; ++i) {
    const int64_t cookie = nbd_aio_pwrite(client.get(), written.data() + i * piece, piece, i * piece, kNoCallback, 0);
    ok(cookie);
    cookies.push_back(cookie);
  }
  bool all_there = false;
  for (int i = 0; i < 10000 && !all_there; ++i) {
    ok(nbd_poll(client.get(), 0));
    server.call([&] { all_there = server.backend().waiting() == kRequests; });
  }
  REQUIRE(all_there);
  server.call([&] { server.backend().hold(false); });
  size_t done = 0;
  while (done < cookies.size()) {
    ok(nbd_poll(client.get(), 10000));
    int64_t cookie = 0;
    while ((cookie = nbd_aio_peek_command_completed(client.get())) > 0) {
      REQUIRE(nbd_aio_command_completed(client.get(), static_cast<uint64_t>(cookie)) == 1);
      ++done;
    }
  }
  std::vector<uint8_t> read(written.size());
  ok(nbd_pread(client.get(), read.data(), read.size(), 0, 0));
  CHECK((read == written));
}

TEST_CASE("what one connection wrote and flushed, another reads") {
  ServerThread server;
  Client first = connected(server);
  Client second = connected(server, false, true);
  const auto written = pattern(4096, 4);
  ok(nbd_pwrite(first.get(), written.data(), written.size(), 4096, 0));
  ok(nbd_flush(second.get(), 0));
  std::vector<uint8_t> read(written.size());
  ok(nbd_pread(second.get(), read.data(), read.size(), 4096, 0));
  CHECK(read == written);
  server.call([&] { CHECK(server.exported().client_count() == 2); });
}

TEST_CASE("more requests than the slots of backend, session and pool") {
  ServerThreadOptions options;
  options.arena_bytes = 4 * kMiB;
  options.server.session.requests_in_flight = 8;
  ServerThread server(options);
  server.call([&] { server.backend().set_slots(3); });
  std::vector<Client> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(connected(server, i % 2 == 0));
  const auto written = pattern(512 * kKiB, 5);
  std::vector<std::vector<uint8_t>> read(4, std::vector<uint8_t>(written.size()));
  std::vector<size_t> open_requests(4, 0);
  for (size_t round = 0; round < 20; ++round) {
    for (size_t i = 0; i < clients.size(); ++i) {
      const size_t bytes = round % 2 == 0 ? written.size() : 4096;
      ok(nbd_aio_pwrite(clients[i].get(), written.data(), bytes, i * kMiB, kNoCallback, 0));
      ok(nbd_aio_pread(clients[i].get(), read[i].data(), bytes, i * kMiB, kNoCallback, 0));
      open_requests[i] += 2;
    }
  }
  bool all_done = false;
  while (!all_done) {
    all_done = true;
    for (size_t i = 0; i < clients.size(); ++i) {
      if (open_requests[i] == 0) continue;
      all_done = false;
      ok(nbd_poll(clients[i].get(), 1));
      int64_t cookie = 0;
      while ((cookie = nbd_aio_peek_command_completed(clients[i].get())) > 0) {
        REQUIRE(nbd_aio_command_completed(clients[i].get(), static_cast<uint64_t>(cookie)) == 1);
        --open_requests[i];
      }
    }
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    ok(nbd_pread(clients[i].get(), read[i].data(), read[i].size(), i * kMiB, 0));
    CHECK((read[i] == written));
  }
  server.call([&] { CHECK(server.backend().refused_submits() > 0); });
}

// The backend has answered the first, and says so, before the session has begun to wait with the second.
TEST_CASE("a request that the backend had no room for is tried again although nothing else is under way") {
  ServerThread server;
  server.call([&] { server.backend().set_slots(1); });
  RawClient client(server.socket_path());
  client.enter();
  constexpr size_t kFlushes = 8;
  std::vector<uint8_t> bytes(kFlushes * kRequestBytes);
  for (size_t i = 0; i < kFlushes; ++i) {
    const auto request = std::span(bytes).subspan(i * kRequestBytes).first<kRequestBytes>();
    encode_compact({0, static_cast<uint16_t>(Command::Flush), i, 0, 0}, request);
  }
  client.send(bytes);
  for (size_t i = 0; i < kFlushes; ++i) CHECK(client.receive_simple() == std::pair<uint64_t, uint32_t>(i, 0));
  server.call([&] { CHECK(server.backend().refused_submits() > 0); });
}

TEST_CASE("LIST names the exports") {
  ServerThread server;
  Client client = new_client();
  ok(nbd_set_opt_mode(client.get(), true));
  ok(nbd_connect_unix(client.get(), server.socket_path().c_str()));
  Names names;
  nbd_list_callback callback{};
  callback.callback = Names::add;
  callback.user_data = &names;
  CHECK(nbd_opt_list(client.get(), callback) == 2);
  CHECK(names.names == std::vector<std::string>{"pgdata", "standby"});
  ok(nbd_opt_abort(client.get()));
}

TEST_CASE("exports that are unknown or refused, and then one that is open, on one connection") {
  ServerThread server;
  Client client = new_client();
  ok(nbd_set_opt_mode(client.get(), true));
  ok(nbd_connect_unix(client.get(), server.socket_path().c_str()));
  ok(nbd_set_export_name(client.get(), "nowhere"));
  CHECK(nbd_opt_go(client.get()) == -1);
  CHECK(nbd_get_errno() == ENOENT);
  ok(nbd_set_export_name(client.get(), "standby"));
  CHECK(nbd_opt_info(client.get()) == -1);
  CHECK(nbd_opt_go(client.get()) == -1);  // which errno that is depends on libnbd's version
  ok(nbd_set_export_name(client.get(), ""));
  ok(nbd_opt_info(client.get()));
  ok(nbd_opt_go(client.get()));
  CHECK(nbd_get_size(client.get()) == static_cast<int64_t>(16 * kMiB));
  ok(nbd_shutdown(client.get(), 0));
}

TEST_CASE("a backend's errors reach the client as the protocol's") {
  const bool structured = GENERATE(false, true);
  const auto [fails_with, seen] =
      GENERATE(table<int, int>({{EIO, EIO}, {EDQUOT, ENOSPC}, {ENOTSUP, EIO}, {EROFS, EPERM}, {ENODEV, EIO}}));
  ServerThread server;
  Client client = connected(server, structured);
  server.call([&server, code = fails_with] { server.backend().fail_with(code); });
  std::vector<uint8_t> bytes(4096);
  CHECK(nbd_pwrite(client.get(), bytes.data(), bytes.size(), 0, 0) == -1);
  CHECK(nbd_get_errno() == seen);
  CHECK(nbd_pread(client.get(), bytes.data(), bytes.size(), 0, 0) == -1);
  CHECK(nbd_get_errno() == seen);
  CHECK(nbd_flush(client.get(), 0) == -1);
  server.call([&] { server.backend().fail_with(0); });
  ok(nbd_pread(client.get(), bytes.data(), bytes.size(), 0, 0));
  server.call([&] {
    CHECK(server.exported().statistics().reads == 1);
    CHECK(server.exported().statistics().writes == 0);
  });
}

TEST_CASE("requests that do not fit the export fail, and the session goes on") {
  const bool structured = GENERATE(false, true);
  ServerThreadOptions options;
  options.minimum_block_bytes = 4096;
  ServerThread server(options);
  Client client = connected(server, structured);
  CHECK(nbd_get_block_size(client.get(), LIBNBD_SIZE_MINIMUM) == 4096);
  std::vector<uint8_t> bytes(9 * kMiB);
  const auto fails = [&](int result, int with_errno) {
    CHECK(result == -1);
    CHECK(nbd_get_errno() == with_errno);
  };
  fails(nbd_pwrite(client.get(), bytes.data(), 512, 0, 0), EINVAL);
  fails(nbd_pread(client.get(), bytes.data(), 4096, 512, 0), EINVAL);
  fails(nbd_pwrite(client.get(), bytes.data(), 4096, 16 * kMiB, 0), ENOSPC);
  fails(nbd_pread(client.get(), bytes.data(), 8192, 16 * kMiB - 4096, 0), EINVAL);
  fails(nbd_zero(client.get(), 8192, 16 * kMiB - 4096, 0), ENOSPC);
  fails(nbd_trim(client.get(), 8192, 16 * kMiB - 4096, 0), EINVAL);
  fails(nbd_pwrite(client.get(), bytes.data(), bytes.size(), 0, 0), EINVAL);
  fails(nbd_cache(client.get(), 4096, 16 * kMiB, 0), EINVAL);
  fails(nbd_zero(client.get(), 4096, 0, LIBNBD_CMD_FLAG_FAST_ZERO), ENOTSUP);
  ok(nbd_cache(client.get(), 4096, 0, 0));
  ok(nbd_pwrite(client.get(), bytes.data(), 4096, 16 * kMiB - 4096, 0));
  server.call([&] { CHECK(server.exported().statistics().writes == 1); });
}

TEST_CASE("closing an export finishes what is in flight, refuses what comes, and ends the sessions") {
  ServerThread server;
  Client client = connected(server);
  Client idle = connected(server);
  server.call([&] { server.backend().hold(true); });
  const auto written = pattern(4096, 6);
  const int64_t in_flight = nbd_aio_pwrite(client.get(), written.data(), written.size(), 0, kNoCallback, 0);
  ok(in_flight);
  REQUIRE(server.eventually([&] { return server.backend().waiting() == 1; }));

  server.start_closing();
  CHECK(nbd_flush(client.get(), 0) == -1);
  CHECK(nbd_get_errno() == ESHUTDOWN);
  CHECK(nbd_pwrite(client.get(), written.data(), written.size(), 8192, 0) == -1);
  CHECK(nbd_get_errno() == ESHUTDOWN);
  CHECK_FALSE(server.closed());
  CHECK(nbd_aio_command_completed(client.get(), static_cast<uint64_t>(in_flight)) == 0);

  server.call([&] { server.backend().hold(false); });
  int completed = 0;
  while (completed == 0) {
    ok(nbd_poll(client.get(), 10000));
    completed = nbd_aio_command_completed(client.get(), static_cast<uint64_t>(in_flight));
  }
  CHECK(completed == 1);
  CHECK(server.eventually([&] { return server.exported().client_count() == 0; }));
  CHECK(server.closed());
  CHECK(nbd_flush(client.get(), 0) == -1);

  Client late = new_client();
  ok(nbd_set_export_name(late.get(), "pgdata"));
  CHECK(nbd_connect_unix(late.get(), server.socket_path().c_str()) == -1);
  CHECK(std::string(nbd_get_error()).find("policy") != std::string::npos);

  server.call([&] { server.exported().open(server.backend()); });
  Client again = connected(server);
  std::vector<uint8_t> read(4096);
  ok(nbd_pread(again.get(), read.data(), read.size(), 0, 0));
  CHECK(read == written);
}

TEST_CASE("closing an export does not wait for a session that waits for the backend") {
  ServerThread server;
  Client client = connected(server);
  server.call([&] {
    server.backend().hold(true);
    server.backend().set_slots(1);
  });
  std::vector<uint8_t> bytes(4096);
  std::vector<int64_t> cookies;
  for (int i = 0; i < 3; ++i) {
    cookies.push_back(nbd_aio_pwrite(client.get(), bytes.data(), bytes.size(), 0, kNoCallback, 0));
  }
  REQUIRE(server.eventually([&] { return server.backend().refused_submits() > 0; }));
  server.start_closing();
  const auto outcome = [&](size_t i) {
    for (;;) {
      const int completed = nbd_aio_command_completed(client.get(), static_cast<uint64_t>(cookies[i]));
      if (completed == -1) return nbd_get_errno();
      if (completed == 1) return 0;
      REQUIRE(nbd_poll(client.get(), 10000) >= 0);
    }
  };
  CHECK(outcome(1) == ESHUTDOWN);
  CHECK(outcome(2) == ESHUTDOWN);
  server.call([&] { server.backend().hold(false); });
  CHECK(outcome(0) == 0);
  CHECK(server.eventually([&] { return server.exported().client_count() == 0; }));
}

TEST_CASE("the server stops under load") {
  ServerThread server;
  std::vector<Client> clients;
  std::vector<uint8_t> bytes(128 * kKiB);
  for (int i = 0; i < 5; ++i) {
    clients.push_back(connected(server, i % 2 == 0, i % 3 == 0));
    for (int k = 0; k < 30; ++k) {
      ok(nbd_aio_pwrite(clients.back().get(), bytes.data(), bytes.size(), 0, kNoCallback, 0));
      ok(nbd_aio_pread(clients.back().get(), bytes.data(), bytes.size(), 0, kNoCallback, 0));
    }
  }
  server.end();
  for (const Client& client : clients) CHECK(nbd_flush(client.get(), 0) == -1);
}

}  // namespace lockstep::nbd
