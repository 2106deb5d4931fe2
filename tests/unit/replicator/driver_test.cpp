// The driver with real disks, metadata and links: one node alone, and two nodes in one process.
#include "replicator/driver.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <random>

#include "io/file_setup.h"
#include "replicator/link_listener.h"
#include "tests/unit/replicator/fixtures.h"

using namespace lockstep;
using namespace lockstep::repl;
using namespace lockstep::tests;

namespace {

constexpr uint64_t kDeviceBytes = 256 * kMiB;

class Node final : public DriverOwner, public io::BlockRequestOwner {
 public:
  Node(io::Loop& loop_of_all, const Folder& folder, const std::string& name, const std::vector<std::string>& peers)
      : loop(loop_of_all), disk_path(folder / (name + ".img")), metadata_path(folder / (name + ".meta")) {
    if (!std::filesystem::exists(disk_path)) {
      std::ofstream(disk_path).put('\0');
      std::filesystem::resize_file(disk_path, kDeviceBytes);
      MetadataParameters parameters = example_parameters();
      parameters.node_name = name;
      parameters.peer_names = peers;
      parameters.size_bytes = kDeviceBytes;
      REQUIRE(create_metadata(metadata_path, parameters));
    }
    auto disk = LocalDisk::open(loop, disk_path, kDeviceBytes);
    REQUIRE(disk);
    auto metadata = MetadataStore::open(loop, metadata_path, {"pgdata", name, peers, kDeviceBytes});
    REQUIRE(metadata);
    DriverOptions options;
    options.identity = {"pgdata", name, kDeviceBytes};
    options.link.first_retry_ms = 2;
    options.link.last_retry_ms = 20;
    for (const std::string& peer : peers) options.peers.push_back({peer, io::Address{}});
    options_ = options;
    disk_ = std::move(*disk);
    metadata_ = std::move(*metadata);
  }

  // A peer's address is known only once its listener is open.
  void start(const io::Address& peer_address) {
    for (auto& peer : options_.peers) peer.address = peer_address;
    driver = std::make_unique<Driver>(loop, options_, std::move(disk_), std::move(metadata_),
                                      static_cast<DriverOwner&>(*this));
  }

  void export_opened() override { open = true; }
  void export_closed() override { open = false; }
  void state_changed() override {}
  uint32_t export_clients() const override { return clients; }
  void completed(io::BlockRequest& request) noexcept override { ++*reinterpret_cast<int*>(request.owner_tag); }

  io::Task<Outcome> order(OrderKind kind, bool fenced = false) {
    OrderGiven given;
    given.kind = kind;
    given.peer_fenced = fenced;
    bool done = false;
    Outcome outcome = Outcome::Busy;
    driver->give_order(given, [&](OrderAnswer answer) {
      outcome = answer.outcome;
      done = true;
    });
    const bool answered = co_await becomes_true(loop, [&] { return done; });
    CHECK(answered);
    co_return outcome;
  }

  // 0 or the errno.
  io::Task<int> request(io::BlockOperation operation, uint64_t offset, uint64_t length, io::BufferRef buffer,
                        bool fua = false) {
    int done = 0;
    io::BlockRequest request;
    request.operation = operation;
    request.offset_bytes = offset;
    request.length_bytes = length;
    request.buffer = std::move(buffer);
    request.fua = fua;
    request.owner = this;
    request.owner_tag = reinterpret_cast<uint64_t>(&done);
    while (!driver->submit(request)) co_await driver->admission().wait();
    CHECK(done == 0);  // never from inside submit()
    while (done == 0) co_await loop.sleep_us(100);
    CHECK(done == 1);
    co_return request.error_errno;
  }
  io::Task<int> write(uint64_t offset, std::vector<uint8_t> bytes) {
    io::BufferRef buffer = loop.buffers().allocate(bytes.size());
    CHECK(buffer);
    std::copy(bytes.begin(), bytes.end(), buffer.data());
    const int error = co_await request(io::BlockOperation::Write, offset, bytes.size(), buffer);
    co_return error;
  }
  io::Task<std::vector<uint8_t>> read(uint64_t offset, size_t length) {
    const io::BufferRef buffer = loop.buffers().allocate(length);
    CHECK(buffer);
    const int error = co_await request(io::BlockOperation::Read, offset, length, buffer);
    CHECK(error == 0);
    std::vector<uint8_t> bytes(buffer.bytes().begin(), buffer.bytes().end());
    co_return bytes;
  }
  std::vector<uint8_t> on_disk(uint64_t offset, size_t length) const {
    std::vector<uint8_t> bytes(length);
    const int fd = ::open(disk_path.c_str(), O_RDONLY | O_CLOEXEC);
    CHECK(::pread(fd, bytes.data(), length, static_cast<off_t>(offset)) == static_cast<ssize_t>(length));
    ::close(fd);
    return bytes;
  }
  io::Task<void> stop() {
    const Outcome outcome = co_await order(OrderKind::Shutdown);
    CHECK(outcome == Outcome::Done);
    co_await driver->quiet();
  }

  io::Loop& loop;
  const std::string disk_path;
  const std::string metadata_path;
  std::unique_ptr<Driver> driver;
  bool open = false;
  uint32_t clients = 0;

 private:
  DriverOptions options_;
  std::unique_ptr<io::File> disk_;
  std::unique_ptr<MetadataStore> metadata_;
};

std::vector<uint8_t> random_bytes(size_t length, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(length);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// alpha dials beta.
struct TwoNodes {
  TwoNodes() {
    beta.start(io::Address{});
    io::Address any;
    any.host = "127.0.0.1";
    auto opened =
        LinkListener::open(*loop, any, beta.driver->identity(), beta.driver->links(), beta.driver->link_options());
    REQUIRE(opened);
    listener = std::move(*opened);
    alpha.start(listener->bound_address());
    REQUIRE(alpha.driver->start());
    REQUIRE(beta.driver->start());
  }
  bool synced() const {
    const PeerStatus peer = alpha.driver->peer_status(0);
    const PeerStatus other = beta.driver->peer_status(0);
    return peer.replication == ReplicationState::Established && other.replication == ReplicationState::Established &&
           peer.disk_state == DiskState::UpToDate && other.disk_state == DiskState::UpToDate;
  }

  const Folder folder;
  std::unique_ptr<io::Loop> loop = make_loop();
  Node alpha{*loop, folder, "alpha", {"beta"}};
  Node beta{*loop, folder, "beta", {"alpha"}};
  std::unique_ptr<LinkListener> listener;
};

io::Task<void> alone(Node& node) {
  const int too_early = co_await node.write(0, random_bytes(4096, 1));
  CHECK(too_early == ESHUTDOWN);
  const Outcome promoted = co_await node.order(OrderKind::Promote);
  CHECK(promoted == Outcome::Done);
  CHECK(node.open);
  const std::vector<uint8_t> bytes = random_bytes(1 << 20, 2);
  const int written = co_await node.write(8192, bytes);
  CHECK(written == 0);
  const std::vector<uint8_t> read = co_await node.read(8192, bytes.size());
  CHECK(read == bytes);
  const int flushed = co_await node.request(io::BlockOperation::Flush, 0, 0, {});
  CHECK(flushed == 0);
  CHECK(node.on_disk(8192, bytes.size()) == bytes);
  // Longer than the core takes at once.
  const int trimmed = co_await node.request(io::BlockOperation::Trim, 0, 200 * kMiB, {}, true);
  CHECK(trimmed == 0);
  CHECK(node.on_disk(8192, bytes.size()) == std::vector<uint8_t>(bytes.size()));
  node.clients = 1;
  const Outcome in_use = co_await node.order(OrderKind::Demote);
  CHECK(in_use == Outcome::ClientsAttached);
  node.clients = 0;
  const Outcome demoted = co_await node.order(OrderKind::Demote);
  CHECK(demoted == Outcome::Done);
  CHECK_FALSE(node.open);
  co_await node.stop();
}

io::Task<void> write_one(Node& node, uint64_t offset, std::vector<uint8_t> bytes, int& left, bool fua) {
  io::BufferRef buffer = node.loop.buffers().allocate(bytes.size());
  CHECK(buffer);
  std::copy(bytes.begin(), bytes.end(), buffer.data());
  const int error = co_await node.request(io::BlockOperation::Write, offset, bytes.size(), buffer, fua);
  CHECK(error == 0);
  --left;
}

io::Task<void> replicated(TwoNodes& nodes) {
  const bool synced = co_await becomes_true(*nodes.loop, [&] { return nodes.synced(); });
  CO_REQUIRE(synced);
  const Outcome promoted = co_await nodes.alpha.order(OrderKind::Promote);
  CO_REQUIRE(promoted == Outcome::Done);
  const Outcome second = co_await nodes.beta.order(OrderKind::Promote);
  CHECK(second == Outcome::PeerIsPrimary);

  // More requests than there are slots, some over the same blocks, of all lengths, some with FUA.
  std::mt19937_64 random(7);
  int left = 0;
  for (int i = 0; i < 600; ++i) {
    const size_t length = (1 + random() % 16) * 512;
    const uint64_t offset = random() % 4096 * 512;
    ++left;
    nodes.loop->spawn(write_one(nodes.alpha, offset, random_bytes(length, random()), left, i % 50 == 0));
    if (i % 10 == 0) co_await nodes.loop->sleep_us(50);
  }
  const bool done = co_await becomes_true(*nodes.loop, [&] { return left == 0; });
  CO_REQUIRE(done);
  const int zeroed = co_await nodes.alpha.request(io::BlockOperation::WriteZeroes, 512, 100 * 1024, {});
  CHECK(zeroed == 0);
  const int large = co_await nodes.alpha.write(64 * kMiB, random_bytes(4 << 20, 8));
  CHECK(large == 0);
  std::array<io::BlockExtent, 8> allocated{};
  CHECK(nodes.alpha.driver->extents(io::BlockMap::Allocation, 60 * kMiB, 12 * kMiB, allocated) > 0);
  CHECK((allocated[0].flags == 0 || allocated[0].length_bytes == 4 * kMiB));
  const int flushed = co_await nodes.alpha.request(io::BlockOperation::Flush, 0, 0, {});
  CHECK(flushed == 0);
  for (const uint64_t offset : {uint64_t{0}, 64 * kMiB}) {
    const std::vector<uint8_t> ours = nodes.alpha.on_disk(offset, 4 << 20);
    CHECK(ours == nodes.beta.on_disk(offset, 4 << 20));
    const std::vector<uint8_t> served = co_await nodes.alpha.read(offset, 4 << 20);
    CHECK(ours == served);
  }

  // What beta misses while it is disconnected is copied afterwards, and zeroes travel as such.
  const Outcome apart = co_await nodes.beta.order(OrderKind::Disconnect);
  CHECK(apart == Outcome::Done);
  const bool degraded = co_await becomes_true(*nodes.loop, [&] { return nodes.alpha.driver->status().degraded; });
  CO_REQUIRE(degraded);
  const int missed = co_await nodes.alpha.write(100 * kMiB, random_bytes(3 << 20, 9));
  CHECK(missed == 0);
  const int trimmed = co_await nodes.alpha.request(io::BlockOperation::Trim, 64 * kMiB, 1 << 20, {});
  CHECK(trimmed == 0);
  CHECK(nodes.alpha.on_disk(100 * kMiB, 4096) != nodes.beta.on_disk(100 * kMiB, 4096));
  // A backup tool asks the same.
  std::array<io::BlockExtent, 8> extents{};
  CHECK(nodes.alpha.driver->has_map(io::BlockMap::Dirty));
  CHECK(nodes.alpha.driver->extents(io::BlockMap::Dirty, 64 * kMiB, 64 * kMiB, extents) == 4);
  CHECK((extents[0].length_bytes == 1 * kMiB && extents[0].flags == io::extent_flag::kDirty));
  CHECK((extents[1].length_bytes == 35 * kMiB && extents[1].flags == 0));
  CHECK((extents[2].length_bytes == 3 * kMiB && extents[2].flags == io::extent_flag::kDirty));
  CHECK((extents[3].length_bytes == 25 * kMiB && extents[3].flags == 0));
  CHECK(nodes.alpha.driver->extents(io::BlockMap::Dirty, 64 * kMiB + 512, 4096, std::span(extents).first(1)) == 1);
  CHECK(extents[0].length_bytes == 4096);
  const Outcome together = co_await nodes.beta.order(OrderKind::Connect);
  CHECK(together == Outcome::Done);
  const bool again = co_await becomes_true(*nodes.loop, [&] { return nodes.synced(); });
  CO_REQUIRE(again);
  for (const uint64_t offset : {64 * kMiB, 100 * kMiB}) {
    CHECK(nodes.alpha.on_disk(offset, 4 << 20) == nodes.beta.on_disk(offset, 4 << 20));
  }
  CHECK(nodes.alpha.driver->peer_status(0).out_of_sync_blocks == 0);

  co_await nodes.beta.stop();
  const bool alone = co_await becomes_true(*nodes.loop, [&] { return nodes.alpha.driver->status().degraded; });
  CHECK(alone);
  co_await nodes.alpha.stop();
  CHECK(nodes.loop->buffers().used_bytes() == 0);
  nodes.listener->close();
}

// The descriptors of a path's file in this process now take no byte, or give none.
void break_file(const std::string& path) {
  const int full = ::open("/dev/full", O_RDWR | O_CLOEXEC);
  REQUIRE(full >= 0);
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(entry.path(), ignored) == std::filesystem::canonical(path)) {
      found.push_back(std::stoi(entry.path().filename().string()));
    }
  }
  REQUIRE(found.size() == 1);
  REQUIRE(::dup2(full, found[0]) == found[0]);
  ::close(full);
}

io::Task<void> metadata_fails(TwoNodes& nodes) {
  const bool synced = co_await becomes_true(*nodes.loop, [&] { return nodes.synced(); });
  CO_REQUIRE(synced);
  const Outcome promoted = co_await nodes.alpha.order(OrderKind::Promote);
  CO_REQUIRE(promoted == Outcome::Done);
  const std::vector<uint8_t> before = random_bytes(4096, 1);
  const int written = co_await nodes.alpha.write(0, before);
  CHECK(written == 0);
  break_file(nodes.alpha.metadata_path);
  // Its extent is cold: the write needs a record in the log, which cannot be written. So only the peer gets it.
  const int served = co_await nodes.alpha.write(100 * kMiB, random_bytes(4096, 2));
  CHECK(served == 0);
  CHECK(nodes.alpha.driver->metadata_failed());
  CHECK(nodes.alpha.driver->status().disk_state == DiskState::Failed);
  CHECK(nodes.alpha.on_disk(100 * kMiB, 4096) == std::vector<uint8_t>(4096));
  CHECK(nodes.beta.on_disk(100 * kMiB, 4096) == random_bytes(4096, 2));
  CHECK(nodes.beta.on_disk(0, 4096) == before);
  const int later = co_await nodes.alpha.write(0, random_bytes(4096, 3));
  CHECK(later == 0);
  const std::vector<uint8_t> read = co_await nodes.alpha.read(0, 4096);
  CHECK(read == random_bytes(4096, 3));
  // Longer than what is asked of the peer at once.
  const std::vector<uint8_t> long_bytes = random_bytes(1 * kMiB, 4);
  const int long_written = co_await nodes.alpha.write(10 * kMiB, long_bytes);
  CHECK(long_written == 0);
  const std::vector<uint8_t> long_read = co_await nodes.alpha.read(10 * kMiB - 4096, 1 * kMiB + 8192);
  CHECK(std::equal(long_bytes.begin(), long_bytes.end(), long_read.begin() + 4096));
  const bool told = co_await becomes_true(*nodes.loop, [&] {
    return nodes.beta.driver->peer_status(0).connection != ConnectionState::Connected ||
           nodes.beta.driver->peer_status(0).disk_state == DiskState::Failed;
  });
  CHECK(told);
  nodes.listener->close();
}

io::Task<void> note_result(Node& node, uint64_t offset, std::vector<int>& results) {
  const int error = co_await node.write(offset, random_bytes(4096, offset));
  results.push_back(error);
}

// The peer is lost, and the generation that says so cannot be made durable: no write may be
// answered as good, since after a crash nothing would tell that this node went on alone.
io::Task<void> generation_fails(TwoNodes& nodes) {
  const bool synced = co_await becomes_true(*nodes.loop, [&] { return nodes.synced(); });
  CO_REQUIRE(synced);
  const Outcome promoted = co_await nodes.alpha.order(OrderKind::Promote);
  CO_REQUIRE(promoted == Outcome::Done);
  const int written = co_await nodes.alpha.write(0, random_bytes(4096, 1));  // makes the extent hot
  CHECK(written == 0);
  break_file(nodes.alpha.metadata_path);
  OrderGiven order;
  order.kind = OrderKind::Disconnect;
  nodes.alpha.driver->give_order(order, [](OrderAnswer) {});
  std::vector<int> results;
  for (uint64_t i = 1; i <= 20; ++i) nodes.loop->spawn(note_result(nodes.alpha, i * 4096, results));
  const bool answered = co_await becomes_true(*nodes.loop, [&] { return results.size() == 20; });
  CHECK(answered);
  CHECK(results == std::vector<int>(20, EIO));
  CHECK(nodes.alpha.driver->status().disk_state == DiskState::Failed);
  nodes.listener->close();
}

io::Task<void> secondary_disk_fails(TwoNodes& nodes) {
  const bool synced = co_await becomes_true(*nodes.loop, [&] { return nodes.synced(); });
  CO_REQUIRE(synced);
  const Outcome promoted = co_await nodes.alpha.order(OrderKind::Promote);
  CO_REQUIRE(promoted == Outcome::Done);
  break_file(nodes.beta.disk_path);
  const std::vector<uint8_t> bytes = random_bytes(4096, 2);
  const int written = co_await nodes.alpha.write(4096, bytes);
  CHECK(written == 0);
  CHECK(nodes.alpha.driver->status().degraded);
  CHECK(nodes.beta.driver->status().disk_state == DiskState::Failed);
  const std::vector<uint8_t> read = co_await nodes.alpha.read(4096, 4096);
  CHECK(read == bytes);
  CHECK(nodes.alpha.driver->peer_status(0).out_of_sync_blocks > 0);
  nodes.listener->close();
}

}  // namespace

TEST_CASE("a node without peers serves its disk") {
  const Folder folder;
  const std::unique_ptr<io::Loop> loop = make_loop();
  Node node(*loop, folder, "alpha", {});
  node.start(io::Address{});
  REQUIRE(node.driver->start());
  run_to_end(*loop, alone(node));
}

TEST_CASE("two nodes hold the same bytes, through writes, zeroes, an absence and its resync") {
  TwoNodes nodes;
  run_to_end(*nodes.loop, replicated(nodes));
}

TEST_CASE("a Primary whose metadata cannot be written answers nothing that it cannot keep") {
  TwoNodes nodes;
  run_to_end(*nodes.loop, metadata_fails(nodes));
}

TEST_CASE("no write is answered alone before the generation that records it is durable") {
  TwoNodes nodes;
  run_to_end(*nodes.loop, generation_fails(nodes));
}

TEST_CASE("a Secondary whose disk fails is left behind, and the client sees no error") {
  TwoNodes nodes;
  run_to_end(*nodes.loop, secondary_disk_fails(nodes));
}
