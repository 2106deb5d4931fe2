// BLOCK_STATUS, reads with holes, CACHE and FAST_ZERO, by libnbd.
#include <libnbd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/nbd_server/libnbd_client.h"

namespace lockstep::nbd {
namespace {

using Extents = std::vector<std::pair<uint32_t, uint32_t>>;  // length, flags

struct Status {
  std::map<std::string, Extents> contexts;
  static int add(void* opaque, const char* context, uint64_t /*offset*/, uint32_t* entries, size_t count,
                 int* /*err*/) {
    Extents& extents = static_cast<Status*>(opaque)->contexts[context];
    for (size_t i = 0; i < count; i += 2) extents.emplace_back(entries[i], entries[i + 1]);
    return 0;
  }
};

Status status_of(nbd_handle* client, uint64_t length, uint64_t offset, uint32_t flags = 0) {
  Status status;
  nbd_extent_callback callback{};
  callback.callback = &Status::add;
  callback.user_data = &status;
  ok(nbd_block_status(client, length, offset, callback, flags));
  return status;
}

Client with_contexts(ServerThread& server, const std::vector<const char*>& contexts, bool block_sizes = true) {
  Client client = new_client();
  ok(nbd_set_export_name(client.get(), "pgdata"));
  for (const char* context : contexts) ok(nbd_add_meta_context(client.get(), context));
  ok(nbd_set_request_block_size(client.get(), block_sizes));
  ok(nbd_connect_unix(client.get(), server.socket_path().c_str()));
  return client;
}

struct Chunks {
  std::vector<std::pair<uint64_t, size_t>> data;
  std::vector<std::pair<uint64_t, size_t>> holes;
  static int add(void* opaque, const void* /*data*/, size_t length, uint64_t offset, unsigned status, int* /*error*/) {
    auto* chunks = static_cast<Chunks*>(opaque);
    (status == LIBNBD_READ_HOLE ? chunks->holes : chunks->data).emplace_back(offset, length);
    return 0;
  }
};

}  // namespace

TEST_CASE("what was written, zeroed and trimmed is told as data and holes") {
  ServerThread server;
  Client client = with_contexts(server, {"base:allocation"});
  CHECK(nbd_can_meta_context(client.get(), "base:allocation") == 1);
  CHECK(nbd_can_meta_context(client.get(), "lockstep:dirty") == 0);
  const auto bytes = pattern(8192, 1);
  ok(nbd_pwrite(client.get(), bytes.data(), 8192, 4096, 0));
  ok(nbd_trim(client.get(), 512, 8192, 0));
  const Status status = status_of(client.get(), 16 * kMiB, 0);
  CHECK(status.contexts.at("base:allocation") ==
        Extents{{4096, 3}, {4096, 0}, {512, 3}, {3584, 0}, {16 * kMiB - 12288, 3}});
  CHECK(status_of(client.get(), 1024, 7680).contexts.at("base:allocation") == Extents{{512, 0}, {512, 3}});
  CHECK(status_of(client.get(), 1024, 7680, LIBNBD_CMD_FLAG_REQ_ONE).contexts.at("base:allocation") ==
        Extents{{512, 0}});
}

TEST_CASE("lockstep:dirty, next to the allocation") {
  ServerThread server;
  server.call([&] { server.backend().mark_dirty(1 * kMiB, 64 * kKiB); });
  Client client = with_contexts(server, {"base:allocation", "lockstep:dirty"});
  const Status status = status_of(client.get(), 4 * kMiB, 0);
  CHECK(status.contexts.at("lockstep:dirty") == Extents{{1 * kMiB, 0}, {64 * kKiB, 1}, {3 * kMiB - 64 * kKiB, 0}});
  CHECK(status.contexts.at("base:allocation") == Extents{{4 * kMiB, 3}});
}

TEST_CASE("a status that is asked for without regard to blocks is cut to what was asked") {
  ServerThread server;
  Client client = with_contexts(server, {"base:allocation"}, false);
  const auto bytes = pattern(512, 1);
  ok(nbd_pwrite(client.get(), bytes.data(), 512, 512, 0));
  CHECK(status_of(client.get(), 1000, 500).contexts.at("base:allocation") == Extents{{12, 3}, {512, 0}, {476, 3}});
}

TEST_CASE("a status of many extents stops short, and goes on where it stopped") {
  ServerThread server;
  Client client = with_contexts(server, {"base:allocation"});
  const auto bytes = pattern(512, 1);
  for (int i = 0; i < 1500; ++i) ok(nbd_pwrite(client.get(), bytes.data(), 512, static_cast<uint64_t>(i) * 1024, 0));
  uint64_t offset = 0;
  int replies = 0;
  int extents = 0;
  while (offset < 4 * kMiB) {
    const Status status = status_of(client.get(), 4 * kMiB - offset, offset);
    for (const auto& [length, flags] : status.contexts.at("base:allocation")) {
      offset += length;
      ++extents;
    }
    ++replies;
  }
  CHECK(offset == 4 * kMiB);
  CHECK(extents == 3000);
  CHECK(replies == 3);
}

TEST_CASE("zeroes travel as holes, data as data, and DF as one") {
  ServerThread server;
  Client client = connected(server);
  const auto written = pattern(64 * kKiB, 2);
  ok(nbd_pwrite(client.get(), written.data(), written.size(), 64 * kKiB, 0));
  std::vector<uint8_t> read(256 * kKiB, 1);
  Chunks chunks;
  nbd_chunk_callback callback{};
  callback.callback = &Chunks::add;
  callback.user_data = &chunks;
  ok(nbd_pread_structured(client.get(), read.data(), read.size(), 0, callback, 0));
  CHECK(chunks.holes == std::vector<std::pair<uint64_t, size_t>>{{0, 64 * kKiB}, {128 * kKiB, 128 * kKiB}});
  CHECK(chunks.data == std::vector<std::pair<uint64_t, size_t>>{{64 * kKiB, 64 * kKiB}});
  CHECK(std::memcmp(read.data() + 64 * kKiB, written.data(), written.size()) == 0);
  CHECK(std::all_of(read.begin() + 128 * kKiB, read.end(), [](uint8_t byte) { return byte == 0; }));

  chunks = {};
  ok(nbd_pread_structured(client.get(), read.data(), read.size(), 0, callback, LIBNBD_CMD_FLAG_DF));
  CHECK(chunks.data.size() == 1);
  CHECK(chunks.holes.empty());
}

TEST_CASE("FAST_ZERO where zeroes are fast, and where they are not") {
  ServerThread server;
  Client client = connected(server);
  CHECK(nbd_can_fast_zero(client.get()) == 1);
  CHECK(nbd_zero(client.get(), 4096, 0, LIBNBD_CMD_FLAG_FAST_ZERO) == -1);
  CHECK(nbd_get_errno() == ENOTSUP);
  server.call([&] { server.backend().set_fast_zeroes(true); });
  ok(nbd_zero(client.get(), 4096, 0, LIBNBD_CMD_FLAG_FAST_ZERO));
}

TEST_CASE("CACHE is a hint that always succeeds in the export") {
  ServerThread server;
  Client client = connected(server);
  CHECK(nbd_can_cache(client.get()) == 1);
  ok(nbd_cache(client.get(), 16 * kMiB, 0, 0));
}

}  // namespace lockstep::nbd
