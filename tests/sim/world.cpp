#include "tests/sim/world.h"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

namespace {
constexpr uint64_t kFaultsEndUs = 3'000'000;
constexpr uint64_t kApplicationEndsUs = kFaultsEndUs + 500'000;
constexpr uint64_t kConvergedByUs = 60'000'000;
constexpr uint64_t kMendedWithinUs = 60'000'000;
constexpr uint64_t kVerifiedWithinUs = 30'000'000;

int draw_nodes(const RunOptions& options, Random& random) {
  random.next();  // forced or drawn, the rest of the run is drawn from the same place
  return options.nodes != 0 ? options.nodes : 2;
}
// Drawn besides, so that the rest of a run is the same under each policy.
LossPolicy draw_policy(const RunOptions& options, int nodes) {
  if (options.policy) return *options.policy;
  Random dice(options.seed * 0xD1B54A32D192ED03 + 7);
  const uint64_t drawn = dice.below(10);
  if (nodes > 2) {
    Random apart(options.seed * 0xD1B54A32D192ED03 +
                 23);  // so that a seed without an arbiter stays the run that it was
    if (apart.chance(0.2)) return LossPolicy::Arbiter;
    return drawn < 7 ? LossPolicy::Continue : LossPolicy::Suspend;
  }
  return drawn < 5 ? LossPolicy::Continue : drawn < 7 ? LossPolicy::Suspend : LossPolicy::Arbiter;
}
// The same. With two nodes there is nothing to choose.
SyncSet draw_sync(const RunOptions& options, int nodes) {
  Random dice(options.seed * 0xD1B54A32D192ED03 + 13);
  const SyncChoice drawn = !dice.chance(0.4) ? SyncChoice::All : dice.chance(0.5) ? SyncChoice::First : SyncChoice::Any;
  const SyncChoice choice = options.sync.value_or(drawn);
  if (nodes == 2 || choice == SyncChoice::All) return {};
  return {choice, static_cast<uint8_t>(dice.between(1, static_cast<uint64_t>(nodes) - 2))};
}
bool draw_preference(const RunOptions& options) {
  Random dice(options.seed * 0xD1B54A32D192ED03 + 17);
  return dice.chance(0.5);
}
// The same: a run with handlers before each resync is as it would be without them until the first.
bool draws_handlers(const RunOptions& options) {
  Random dice(options.seed * 0xD1B54A32D192ED03 + 11);
  return dice.chance(0.2);
}
// The same, for the driver's guess that a flush will follow a write.
bool draws_durable_writes(const RunOptions& options) {
  Random dice(options.seed * 0xD1B54A32D192ED03 + 29);
  return dice.chance(0.5);
}
}  // namespace

// Arenas anywhere, some across the border of two extents or of two bitmap pages.
Layout World::draw_layout(Random& random) {
  std::vector<uint64_t> blocks;
  const uint64_t arenas = random.between(3, 40);
  for (uint64_t arena = 0; arena < arenas; ++arena) {
    uint64_t block = random.below(kDeviceBytes / kBlockBytes - kArenaBlocks);
    if (random.chance(0.2)) block = random.between(1, kDeviceBytes / kExtentBytes - 1) * kBlocksPerExtent - 8;
    if (random.chance(0.05)) block = kBlocksPerBitmapPage - 8;
    blocks.push_back(block);
  }
  return Layout(std::move(blocks));
}

ReplicaOptions World::replica_options() {
  ReplicaOptions options;
  options.size_bytes = kDeviceBytes;
  options.peer_count = static_cast<uint8_t>(node_count_ - 1);
  options.on_peer_loss = policy;
  options.sync = sync;
  for (PeerIndex place = 0; place < options.peer_count; ++place) {
    options.sync_order[place] = prefers_last ? static_cast<PeerIndex>(options.peer_count - 1 - place) : place;
  }
  options.peer_timeout_us = 200'000;
  options.client_slots = 32;
  options.apply_slots = 64;
  options.resync_slots = 8;
  options.resync_chunk_bytes = random.chance(0.5) ? kMiB : 4 * kMiB;
  options.bitmap_runs_per_message = 16;
  options.transfer_log_entries = 64;
  options.activity_log_slots = 18;
  options.flush_interval_us = 300'000;
  options.busy_flush_interval_us = 900'000;
  options.queue_limit_bytes = 512 * kKiB;
  options.prepares_resyncs = draws_handlers(options_);
  return options;
}

World::World(const RunOptions& options)
    : options_(options),
      random(options.seed * 0x9E3779B97F4A7C15 + 1),
      layout(draw_layout(random)),
      ledger(layout.unit_count()),
      network(*this, draw_nodes(options, random)),
      policy(draw_policy(options, network.node_count())),
      sync(draw_sync(options, network.node_count())),
      prefers_last(draw_preference(options)),
      arbiter(*this),
      checker(*this),
      orders(*this),
      application(*this),
      growth(*this, options.seed),
      faults(*this),
      rot(*this),
      lie(*this),
      makes_lone_writes_durable_(draws_durable_writes(options)),
      node_count_(network.node_count()) {
  const ReplicaOptions core = replica_options();
  for (int id = 0; id < node_count_; ++id) nodes_.push_back(std::make_unique<Node>(*this, id, core));
  checker.prepare();
  draw_protocols();
}

void World::draw_protocols() {
  constexpr std::array kMoods{Protocol::C, Protocol::C, Protocol::B, Protocol::A};
  protocol = kMoods[random.below(kMoods.size())];
  changes_protocols_ = random.chance(0.25);
  if (options_.protocol) protocol = *options_.protocol;
  if (options_.protocol) changes_protocols_ = false;
  Random dice(options_.seed * 0xD1B54A32D192ED03 + 19);
  has_node_protocols_ = node_count_ > 2 && !options_.protocol && dice.chance(0.3);
  draw_node_protocols(dice);
}

void World::draw_node_protocols(Random& dice) {
  if (!has_node_protocols_) return;
  for (std::optional<Protocol>& each : node_protocols) {
    each.reset();
    if (dice.chance(0.5)) each = static_cast<Protocol>(dice.below(3));
  }
}

void World::thawed(int id, uint64_t boot, Task what) {
  Node& target = node(id);
  if (!target.alive() || target.boots() != boot) return;
  if (!target.is_frozen()) return what();
  at(target.frozen_until_us() + 1,
     [this, id, boot, later = std::make_unique<Task>(std::move(what))] { thawed(id, boot, std::move(*later)); });
}

// What the seed has drawn.
void World::trace_choices() {
  std::string protocols;
  for (int id = 0; id < node_count_ && has_node_protocols_; ++id) {
    const std::optional<Protocol>& own = node_protocols[static_cast<size_t>(id)];
    protocols += " " + std::to_string(id) + ":" + (own ? std::string(to_string(*own)) : "-");
  }
  constexpr std::array<const char*, 3> kPolicies{"continue", "suspend", "arbiter"};
  constexpr std::array<const char*, 3> kChoices{"all", "first", "any"};
  trace("protocol %s%s%s, sync %s %d%s, on-peer-loss %s%s", std::string(to_string(protocol)).c_str(), protocols.c_str(),
        changes_protocols_ ? " and changes" : "", kChoices[static_cast<size_t>(sync.kind)], sync.count,
        prefers_last ? " of the last" : "", kPolicies[static_cast<size_t>(policy)],
        makes_lone_writes_durable_ ? ", lone writes are durable" : "");
}

void World::fail(const std::string& violation) {
  if (!result_.ok) return;
  checker.trace_contents();
  result_.ok = false;
  result_.violation = violation + "; at " + std::to_string(now_us) + " us; " + describe();
  trace("VIOLATION: %s", result_.violation.c_str());
}

void World::trace(const char* format, ...) {
  if (!options_.trace) return;
  std::printf("%9llu  ", static_cast<unsigned long long>(now_us));
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}

std::string World::describe() const {
  std::string text;
  for (int id = 0; id < node_count_; ++id) {
    text += " node " + std::to_string(id) + ": ";
    if (!node(id).alive()) {
      text += "down";
      continue;
    }
    const ReplicaStatus status = node(id).status();
    text += std::string(to_string(status.role)) + " " + std::string(to_string(status.disk_state)) + " in-flight " +
            std::to_string(status.in_flight);
    for (int other = 0; other < node_count_; ++other) {
      if (other == id) continue;
      const PeerStatus peer = node(id).peer(other);
      text += " (" + std::to_string(other) + ": " + std::string(to_string(peer.connection)) + " " +
              std::string(to_string(peer.replication)) + " out-of-sync " + std::to_string(peer.out_of_sync_blocks) +
              " rule " + std::string(to_string(peer.decision.rule)) + " sent " + std::to_string(peer.sent) +
              " flushed " + std::to_string(peer.flushed) + ")";
    }
  }
  return text;
}

template <typename F>
void World::run_until(F reached, uint64_t deadline_us, const char* late) {
  bool is_reached = false;
  while (is_going() && !timeline_.empty() && !is_reached) {
    auto [time_us, task] = timeline_.take();
    now_us = time_us;
    task();
    is_reached = reached();
    if (now_us > deadline_us) fail(late);
  }
}

RunResult World::run() {
  trace_choices();
  for (int id = 0; id < node_count_; ++id) node(id).boot();
  every(10'000, [this] {
    network.try_connect();
    return true;
  });
  orders.start();
  application.start(kApplicationEndsUs);
  growth.start();
  checker.start();
  faults.start();
  at(kFaultsEndUs, [this] { heal(); });

  run_until([this] { return now_us > kApplicationEndsUs && is_quiet(); }, kConvergedByUs,
            "the nodes did not come together in time");
  if (is_going()) checker.check_converged();
  if (is_going() && rot.begin()) {
    run_until([this] { return rot.is_over(); }, now_us + kVerifiedWithinUs, "a verify did not end in time");
    if (is_going()) rot.check();
    if (is_going()) checker.check_converged();
  }
  if (is_going() && lie.begin()) {
    run_until([this] { return lie.is_over(); }, now_us + kMendedWithinUs,
              "what a lie had parted did not come together");
    if (is_going()) lie.check();
    if (is_going()) checker.check_converged();
  }
  result_.writes = ledger.write_count();
  result_.promotions = checker.promotions;
  result_.crashes = checker.crashes;
  result_.resyncs = checker.resyncs;
  result_.checks = checker.checks;
  result_.losses = checker.losses;
  result_.simulated_us = now_us;
  return result_;
}

void World::heal() {
  trace("faults end");
  healing_ = true;
  network.heal_all();
  for (int id = 0; id < node_count_; ++id) {
    if (!node(id).alive()) node(id).boot();
    node(id).mend_disk();
  }
}

bool World::is_quiet() const {
  if (orders.is_pending() || !growth.is_over()) return false;
  for (int id = 0; id < node_count_; ++id) {
    if (!node(id).responds() || node(id).application_in_flight() > 0) return false;
    if (node(id).status().disk_state != DiskState::UpToDate) return false;
    for (int other = 0; other < node_count_; ++other) {
      if (other == id) continue;
      const PeerStatus peer = node(id).peer(other);
      if (peer.disk_state != DiskState::UpToDate || peer.replication != ReplicationState::Established ||
          peer.sent != peer.flushed) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace lockstep::sim
