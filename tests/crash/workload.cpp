#include "tests/crash/workload.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <utility>

#include "io/loop.h"
#include "io/task.h"
#include "replicator/driver.h"
#include "replicator/link_listener.h"
#include "replicator/metadata_setup.h"
#include "tests/crash/recovery.h"

namespace lockstep::crash {
namespace {

using namespace repl;  // NOLINT(google-build-using-namespace): this is a driver of theirs

std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

class Recorder final : public io::DiskObserver {
 public:
  Recorder(Trace& trace, const std::string& folder) : trace_(trace), folder_(folder) {}

  void disk_request_started(const void* operation, const io::DiskRequest& request) noexcept override {
    TraceEvent event;
    event.kind = TraceEvent::Kind::Started;
    place(request.file->path(), event);
    event.operation = operation;
    event.request = request;
    event.bytes.assign(request.bytes.begin(), request.bytes.end());
    event.request.file = nullptr;
    places_[operation] = {event.node, event.metadata};
    trace_.events.push_back(std::move(event));
    trace_.events.back().request.bytes = trace_.events.back().bytes;
  }
  void disk_request_ended(const void* operation, int error_errno) noexcept override {
    TraceEvent event;
    event.kind = TraceEvent::Kind::Ended;
    std::tie(event.node, event.metadata) = places_.at(operation);
    event.operation = operation;
    event.error_errno = error_errno;
    trace_.events.push_back(std::move(event));
  }

 private:
  void place(const std::string& path, TraceEvent& event) const {
    event.node = path.find("/beta.") != std::string::npos ? 1 : 0;
    event.metadata = path.ends_with(".meta");
  }
  Trace& trace_;
  const std::string folder_;
  std::unordered_map<const void*, std::pair<int, bool>> places_;
};

class Node final : public DriverOwner, public io::BlockRequestOwner {
 public:
  Node(io::Loop& loop_of_both, const std::string& folder, const std::string& name, const std::string& peer)
      : loop(loop_of_both) {
    auto disk = LocalDisk::open(loop, folder + "/" + name + ".img", kDeviceBytes);
    require(disk.ok(), "cannot open the disk");
    disk_ = std::move(*disk);
    auto metadata = MetadataStore::open(loop, folder + "/" + name + ".meta", {"pgdata", name, {peer}, kDeviceBytes});
    require(metadata.ok(), "cannot open the metadata");
    metadata_ = std::move(*metadata);
    options_.identity = {"pgdata", name, kDeviceBytes};
    options_.peer_timeout_ms = 60'000;
    options_.client_slots = 16;
    options_.apply_slots = 16;
    options_.link.first_retry_ms = 1;
    options_.link.last_retry_ms = 5;
    options_.peers.push_back({peer, io::Address{}});
  }
  void start(const io::Address& peer_address) {
    options_.peers[0].address = peer_address;
    driver = std::make_unique<Driver>(loop, options_, std::move(disk_), std::move(metadata_),
                                      static_cast<DriverOwner&>(*this));
  }
  void export_opened() override {}
  void export_closed() override {}
  void state_changed() override {}
  uint32_t export_clients() const override { return 0; }
  void completed(io::BlockRequest& request) noexcept override { *reinterpret_cast<bool*>(request.owner_tag) = true; }

  bool is_primary() const { return driver->status().role == Role::Primary; }
  bool is_established() const { return driver->peer_status(0).replication == ReplicationState::Established; }
  DiskState disk_state() const { return driver->status().disk_state; }

  // The process may end before an order or a request is answered: what they fill in outlives whoever waits.
  io::Task<Outcome> order(OrderGiven given) {
    const auto answer = std::make_shared<std::optional<Outcome>>();
    driver->give_order(given, [answer](OrderAnswer told) { *answer = told.outcome; });
    bool goes_on = true;
    while (goes_on && !answer->has_value()) goes_on = co_await loop.sleep_us(200);
    co_return answer->value_or(Outcome::Stopping);
  }
  io::Task<Outcome> order(OrderKind kind) {
    OrderGiven given;
    given.kind = kind;
    const Outcome outcome = co_await order(given);
    co_return outcome;
  }
  // 0, the errno, or ECANCELED when the process ended first.
  io::Task<int> request(io::BlockOperation operation, uint64_t offset, uint64_t length, io::BufferRef buffer,
                        bool fua) {
    requests_.push_back(std::make_unique<Request>());
    Request& own = *requests_.back();
    own.request.operation = operation;
    own.request.offset_bytes = offset;
    own.request.length_bytes = length;
    own.request.buffer = std::move(buffer);
    own.request.fua = fua;
    own.request.owner = this;
    own.request.owner_tag = reinterpret_cast<uint64_t>(&own.done);
    bool goes_on = true;
    bool taken = driver->submit(own.request);
    while (goes_on && !taken) {
      goes_on = co_await loop.sleep_us(100);
      if (goes_on) taken = driver->submit(own.request);
    }
    while (goes_on && !own.done) goes_on = co_await loop.sleep_us(50);
    if (!own.done) co_return ECANCELED;
    own.request.buffer.reset();
    co_return own.request.error_errno;
  }

  io::Loop& loop;

 private:
  struct Request {
    io::BlockRequest request;
    bool done = false;
  };
  std::vector<std::unique_ptr<Request>> requests_;  // outlive the driver

 public:
  std::unique_ptr<Driver> driver;

 private:
  DriverOptions options_;
  std::unique_ptr<io::File> disk_;
  std::unique_ptr<MetadataStore> metadata_;
};

// From a start of both nodes to the end of both processes, whatever they are doing.
class Session {
 public:
  Session(Trace& trace, const WorkloadOptions& options, int number, Acknowledged& acknowledged)
      : trace_(trace),
        options_(options),
        random_(options.seed * 1000 + static_cast<uint64_t>(number)),
        acknowledged_(acknowledged),
        recorder_(trace, options.folder) {
    io::LoopOptions loop_options;
    loop_options.ring_entries = 64;
    loop_options.buffer_arena_bytes = 8 * kMiB;
    loop_options.disk_observer = &recorder_;
    auto loop = io::Loop::create(loop_options);
    require(loop.ok(), "cannot make a loop");
    loop_ = std::move(*loop);
    alpha_ = std::make_unique<Node>(*loop_, options.folder, "alpha", "beta");
    beta_ = std::make_unique<Node>(*loop_, options.folder, "beta", "alpha");
    beta_->start(io::Address{});
    io::Address any;
    any.host = "127.0.0.1";
    auto listener = LinkListener::open(*loop_, any, beta_->driver->identity(), beta_->driver->links(),
                                       beta_->driver->link_options());
    require(listener.ok(), "cannot listen");
    listener_ = std::move(*listener);
    alpha_->start(listener_->bound_address());
    require(alpha_->driver->start().ok() && beta_->driver->start().ok(), "cannot start the drivers");
  }

  void run() {
    loop_->spawn(life());
    loop_->run();
    if (!failure_.empty()) throw std::runtime_error(failure_);
  }

 private:
  Node& primary() { return beta_->is_primary() ? *beta_ : *alpha_; }
  Node& secondary() { return beta_->is_primary() ? *alpha_ : *beta_; }
  bool both_established() const { return alpha_->is_established() && beta_->is_established(); }
  bool synced() const {
    return both_established() && alpha_->disk_state() == DiskState::UpToDate &&
           beta_->disk_state() == DiskState::UpToDate;
  }
  void say(const std::string& what) {
    trace_.story.push_back("event " + std::to_string(trace_.events.size()) + ": " + what);
  }
  template <typename Condition>
  io::Task<void> until(Condition condition, const char* what) {
    for (int i = 0; i < 100'000 && !condition() && !loop_->stopping(); ++i) co_await loop_->sleep_us(200);
    if (!condition() && failure_.empty()) failure_ = std::string("it never comes that ") + what;
  }

  io::Task<void> life() {
    co_await until([this] { return synced(); }, "both nodes are in sync");
    ++trace_.resyncs;
    Node& chosen = random_() % 2 == 0 ? *alpha_ : *beta_;
    const Outcome promoted = co_await chosen.order(OrderKind::Promote);
    say(std::string("promoted ") + (&chosen == alpha_.get() ? "alpha" : "beta"));
    if (promoted != Outcome::Done) failure_ = "a promotion failed";
    for (int i = 0; i < options_.operations && failure_.empty(); ++i) {
      const uint64_t draw = random_() % 100;
      if (draw < 78) {
        start_write();
      } else if (draw < 88) {
        loop_->spawn(flush());
      } else if (draw < 91) {
        start_trim();
      } else if (draw < 97) {
        co_await loop_->sleep_us(random_() % 3000);
      } else {
        co_await one_order();
      }
      if (random_() % 4 == 0) co_await loop_->sleep_us(random_() % 400);
    }
    say("both processes end");
    // Nobody is told: what is in flight on the disks ends, the rest does not.
    listener_->close();
    loop_->stop();
  }

  // Hot extents are few enough to stay in the log and many enough to push others out of it.
  ByteRange draw_range() {
    const uint64_t extent = random_() % 2 != 0 ? random_() % 6 : random_() % (kDeviceBytes / kExtentBytes);
    const uint64_t length = (1 + random_() % 16) * kSectorBytes;
    const uint64_t sector = random_() % 64 + (random_() % 8 == 0 ? 8192 - 80 : 0);
    return {extent * kExtentBytes + sector * kSectorBytes, length};
  }
  bool draw_free_range(ByteRange& range) {
    range = draw_range();
    return std::none_of(in_flight_.begin(), in_flight_.end(),
                        [&](const ByteRange& other) { return other.overlaps(range); });
  }

  // In flight from here on: what is spawned runs later, and overlapping requests of a client have no order.
  void start_write() {
    ByteRange range;
    if (!draw_free_range(range)) return;
    in_flight_.push_back(range);
    loop_->spawn(write(range, random_() % 12 == 0));
  }
  io::Task<void> write(ByteRange range, bool fua) {
    io::BufferRef buffer = loop_->buffers().allocate(range.length_bytes);
    if (!buffer) {
      std::erase(in_flight_, range);
      co_return;
    }
    const uint64_t number = ++trace_.writes;
    for (uint64_t at = 0; at < range.length_bytes; at += kSectorBytes) {
      std::memset(buffer.data() + at, static_cast<int>(number), kSectorBytes);
      std::memcpy(buffer.data() + at, &number, sizeof(number));
    }
    const int error = co_await primary().request(io::BlockOperation::Write, range.offset_bytes, range.length_bytes,
                                                 std::move(buffer), fua);
    std::erase(in_flight_, range);
    if (error != 0) co_return;
    for (uint64_t at = 0; at < range.length_bytes; at += kSectorBytes) {
      acknowledged_[(range.offset_bytes + at) / kSectorBytes] = number;
    }
  }
  void start_trim() {
    ByteRange range;
    if (!draw_free_range(range)) return;
    in_flight_.push_back(range);
    loop_->spawn(trim(range));
  }
  io::Task<void> trim(ByteRange range) {
    // What it reads as is zero, which has no place among the numbers of writes.
    for (uint64_t at = 0; at < range.length_bytes; at += kSectorBytes) {
      acknowledged_.erase((range.offset_bytes + at) / kSectorBytes);
    }
    const auto operation = random_() % 2 == 0 ? io::BlockOperation::Trim : io::BlockOperation::WriteZeroes;
    co_await primary().request(operation, range.offset_bytes, range.length_bytes, {}, false);
    std::erase(in_flight_, range);
  }
  io::Task<void> flush() {
    Acknowledged before = acknowledged_;
    const bool established_before = both_established();
    const uint64_t changes_before = changes_;
    Node& node = primary();
    const int error = co_await node.request(io::BlockOperation::Flush, 0, 0, {}, false);
    if (error != 0) co_return;
    ++trace_.flushes;
    TraceEvent event;
    event.kind = TraceEvent::Kind::FlushAnswered;
    event.node = &node == alpha_.get() ? 0 : 1;
    event.everywhere = established_before && both_established() && changes_before == changes_;
    event.acknowledged = std::move(before);
    // A trim that was asked for meanwhile takes its sectors out, also where something was written again since.
    std::erase_if(event.acknowledged, [this](const auto& entry) {
      const auto now = acknowledged_.find(entry.first);
      return now == acknowledged_.end() || now->second != entry.second;
    });
    trace_.events.push_back(std::move(event));
  }

  io::Task<void> one_order() {
    ++changes_;
    co_await until([this] { return in_flight_.empty(); }, "all writes are answered");
    switch (random_() % 6) {
      case 0: {
        say("the Secondary is disconnected, and connected again after some writes");
        const Outcome apart = co_await secondary().order(OrderKind::Disconnect);
        if (apart != Outcome::Done) failure_ = "a disconnect failed";
        // Many, flushed now and then: extents must leave the activity log while their bits are needed.
        const uint64_t alone = random_() % 2 == 0 ? 12 : 70;
        for (uint64_t i = 0; i < alone; ++i) {
          start_write();
          if (i % 12 == 11) co_await flush();
          co_await loop_->sleep_us(random_() % 300);
        }
        co_await until([this] { return in_flight_.empty(); }, "writes alone are answered");
        const Outcome together = co_await secondary().order(OrderKind::Connect);
        if (together != Outcome::Done) failure_ = "a connect failed";
        if (random_() % 3 != 0) co_await until([this] { return synced(); }, "the resync ends");
        ++trace_.resyncs;
        co_return;
      }
      case 1: {
        if (!synced()) co_return;
        OrderGiven given;
        given.kind = OrderKind::Switchover;
        given.every_peer = false;
        const Outcome changed = co_await primary().order(given);
        say(std::string("switchover: ") + (changed == Outcome::Done ? "done" : "not done"));
        co_return;
      }
      case 2: {
        if (!synced()) co_return;
        say("the Secondary is invalidated");
        co_await secondary().order(OrderKind::Invalidate);
        co_await until([this] { return synced(); }, "the full resync ends");
        ++trace_.resyncs;
        co_return;
      }
      case 3: {
        Node& node = primary();
        const Outcome demoted = co_await node.order(OrderKind::Demote);
        say("demoted and promoted again");
        if (demoted != Outcome::Done) failure_ = "a demotion failed";
        co_await until([this] { return synced(); }, "both are in sync after a demotion");
        const Outcome promoted = co_await node.order(OrderKind::Promote);
        if (promoted != Outcome::Done) failure_ = "a second promotion failed";
        co_return;
      }
      case 4: {
        // Long enough that writes are made durable because their flushes are expected.
        say("commits, one after the other");
        for (int i = 0; i < 10; ++i) {
          start_write();
          co_await until([this] { return in_flight_.empty(); }, "a commit's write is answered");
          co_await flush();
        }
        co_return;
      }
      default: {
        say("flushed, and quiet for a moment");
        co_await flush();
        co_await loop_->sleep_ms(3);
        co_return;
      }
    }
  }

  Trace& trace_;
  const WorkloadOptions& options_;
  std::mt19937_64 random_;
  Acknowledged& acknowledged_;
  Recorder recorder_;
  std::unique_ptr<io::Loop> loop_;
  std::unique_ptr<Node> alpha_, beta_;
  std::unique_ptr<LinkListener> listener_;
  std::vector<ByteRange> in_flight_;
  uint64_t changes_ = 0;  // orders so far
  std::string failure_;
};

}  // namespace

Trace record_workload(const WorkloadOptions& options) {
  Trace trace;
  for (const auto& [name, peer] : {std::pair<std::string, std::string>{"alpha", "beta"}, {"beta", "alpha"}}) {
    const std::string disk = options.folder + "/" + name + ".img";
    std::ofstream(disk).put('\0');
    std::filesystem::resize_file(disk, kDeviceBytes);
    MetadataParameters parameters;
    parameters.resource_name = "pgdata";
    parameters.node_name = name;
    parameters.peer_names = {peer};
    parameters.size_bytes = kDeviceBytes;
    parameters.activity_log_slots = kActivityLogSlots;
    require(create_metadata(options.folder + "/" + name + ".meta", parameters).ok(), "cannot create metadata");
    trace.first_metadata.push_back(read_file(options.folder + "/" + name + ".meta"));
  }
  Acknowledged acknowledged;
  for (int session = 0; session < options.sessions; ++session) {
    Session(trace, options, session, acknowledged).run();
    ++trace.sessions;
    TraceEvent event;
    event.kind = TraceEvent::Kind::Session;
    trace.events.push_back(std::move(event));
  }
  return trace;
}

}  // namespace lockstep::crash
