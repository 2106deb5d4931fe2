// What the core itself costs: a Primary and a Secondary, joined by nothing but arrays. No I/O, no copies of data, no
// system calls; disks and metadata are done as soon as they are asked for. Prints the median of several runs.
//
// The time is that of both nodes' steps together with this program's own work, which is little: an upper bound.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <vector>

#include "replicator/core/replica.h"

namespace {

using namespace lockstep;        // NOLINT(google-build-using-namespace): a program of one file
using namespace lockstep::repl;  // NOLINT(google-build-using-namespace)

constexpr uint64_t kDeviceBytes = uint64_t{1} << 30;
constexpr uint64_t kHotBlocks = kDeviceBytes / kBlockBytes;  // fewer extents than the activity log has slots
constexpr int kRuns = 9;

class Node {
 public:
  explicit Node(uint8_t number) : options_(options_of(number)), log_(options_.activity_log_slots, kNoExtent) {
    replica_ = std::make_unique<Replica>(options_);
    actions_ = std::make_unique<Actions>(Replica::actions_capacity(options_));
    for (uint32_t slot = options_.apply_slots; slot > 0; --slot) free_applies_.push_back(slot - 1);
    const std::vector<uint64_t> clean(kWordsPerBitmapPage, 0);
    for (uint32_t page = 0; page < replica_->bitmap_pages(); ++page) replica_->load_bitmap_page(0, page, clean);
    DurableState durable;
    durable.activity_log = log_;
    replica_->start(durable, {number + 1U, 7}, now_us_, *actions_);
  }

  void join(Node& other) { other_ = &other; }
  void begin() { carry_out(); }

  void feed(EventBody body) {
    replica_->step(Event{now_us_, std::move(body)}, *actions_);
    carry_out();
    turn_is_open_ = true;
  }

  // Everything that is at hand, and the turn's end. False when nothing was.
  bool turn() {
    if (inbox_.empty() && !turn_is_open_) return false;
    while (!inbox_.empty()) {
      EventBody body = std::move(inbox_.front());
      inbox_.pop_front();
      if (auto* message = std::get_if<MessageArrived>(&body); message != nullptr && is_stream_frame(message->message)) {
        message->apply_slot = free_applies_.back();
        free_applies_.pop_back();
      }
      feed(std::move(body));
    }
    turn_is_open_ = false;
    replica_->step(Event{now_us_, TurnEnded{}}, *actions_);
    carry_out();
    return true;
  }

  void pass(uint64_t time_us) {
    now_us_ += time_us;
    feed(Ticked{});
  }
  const Replica& replica() const { return *replica_; }
  uint64_t replies() const { return replies_; }

 private:
  static ReplicaOptions options_of(uint8_t number) {
    ReplicaOptions options;
    options.size_bytes = kDeviceBytes;
    options.peer_count = 1;
    options.node_order = number;
    return options;
  }

  void carry_out() {
    for (const Action& action : *actions_) {
      std::visit([this](const auto& one) { execute(one); }, action);
    }
    actions_->clear();
  }
  // Metadata is durable at once: nothing ever has to wait for it.
  void persist() { inbox_.push_back(PersistCompleted{++persisted_, 0}); }
  void execute(const PersistSuperblock&) { persist(); }
  void execute(const PersistActivityLog&) { persist(); }
  void execute(const PersistBitmapPages&) { persist(); }
  void execute(const PersistActivityLogEmpty&) { persist(); }
  void execute(const PersistSize&) { persist(); }
  void execute(const SubmitWrite& write) { inbox_.push_back(LocalIoCompleted{write.slot, 0, false}); }
  void execute(const SubmitZeroes& zeroes) { inbox_.push_back(LocalIoCompleted{zeroes.slot, 0, false}); }
  void execute(const SubmitRead& read) { inbox_.push_back(LocalIoCompleted{read.slot, 0, false}); }
  void execute(const SubmitFlush& flush) { inbox_.push_back(LocalIoCompleted{flush.slot, 0, false}); }
  void execute(const Send& send) { other_->inbox_.push_back(MessageArrived{0, 1, send.message, 0}); }
  void execute(const ReleaseApply& release) { free_applies_.push_back(release.slot); }
  void execute(const Reply& reply) {
    if (reply.error_errno != 0) std::exit(1);
    ++replies_;
  }
  void execute(const Connect&) { inbox_.push_back(LinkEstablished{0, 1}); }
  template <typename Other>
  void execute(const Other&) {}

  ReplicaOptions options_;
  std::vector<uint32_t> log_;
  std::unique_ptr<Replica> replica_;
  std::unique_ptr<Actions> actions_;
  std::deque<EventBody> inbox_;
  std::vector<uint32_t> free_applies_;
  Node* other_ = nullptr;
  uint64_t now_us_ = 1'000'000;
  uint64_t replies_ = 0;
  PersistId persisted_ = 0;
  bool turn_is_open_ = false;
};

void settle(Node& first, Node& second) {
  while (true) {
    const bool first_moved = first.turn();
    const bool second_moved = second.turn();
    if (!first_moved && !second_moved) return;
  }
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// ns a request of both nodes; `depth` are in flight at a time.
double measure(Node& primary, Node& secondary, uint32_t depth, uint64_t count, uint32_t flush_every) {
  uint64_t state = 88172645463325252ULL;
  const auto began = std::chrono::steady_clock::now();
  uint64_t given = 0;
  while (given < count) {
    for (uint32_t slot = 0; slot < depth; ++slot, ++given) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      ClientRequestArrived request;
      request.slot = slot;
      const bool flushes = flush_every != 0 && given % flush_every == 0;
      request.operation = flushes ? ClientOperation::Flush : ClientOperation::Write;
      // Each slot in its own part: overlapping writes would wait for each other.
      const uint64_t part = kHotBlocks / depth;
      if (!flushes) request.range = {(slot * part + state % part) * kBlockBytes, kBlockBytes};
      primary.feed(request);
    }
    settle(primary, secondary);
    primary.pass(depth * 10);
    secondary.pass(depth * 10);
    settle(primary, secondary);
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - began;
  return took.count() / static_cast<double>(given);
}

}  // namespace

int main() {
  Node alpha(0);
  Node beta(1);
  alpha.join(beta);
  beta.join(alpha);
  alpha.begin();
  beta.begin();
  settle(alpha, beta);
  OrderGiven promote;
  promote.ticket = 1;
  alpha.feed(promote);
  settle(alpha, beta);
  const bool ready = alpha.replica().status().role == Role::Primary &&
                     alpha.replica().peer_status(0).replication == ReplicationState::Established;
  if (!ready) {
    std::fprintf(stderr, "core_time: the two nodes did not come together\n");
    return 1;
  }
  measure(alpha, beta, 32, 200'000, 64);  // the extents become hot
  for (const auto& [depth, flush_every] : {std::pair<uint32_t, uint32_t>{1, 0}, {32, 0}, {128, 0}, {32, 8}}) {
    std::vector<double> runs;
    const uint64_t before = alpha.replies();
    constexpr uint64_t kRequests = 400'000;
    for (int run = 0; run < kRuns; ++run) runs.push_back(measure(alpha, beta, depth, kRequests, flush_every));
    if (alpha.replies() - before < kRuns * kRequests) {
      std::fprintf(stderr, "core_time: not every request was answered\n");
      return 1;
    }
    std::printf("depth %3u, %s: %6.0f ns a request for both nodes' cores (%.0f to %.0f)\n", depth,
                flush_every == 0 ? "writes of 4 KiB        " : "one flush in 8 requests", median(runs),
                *std::min_element(runs.begin(), runs.end()), *std::max_element(runs.begin(), runs.end()));
  }
  return 0;
}
