#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

namespace {
constexpr uint64_t kDeviceBytes = 30 * kExtentBytes;  // more extents than the activity log has slots
constexpr uint64_t kFaultsEndUs = 3'000'000;
constexpr uint64_t kConvergedByUs = 60'000'000;
}  // namespace

ReplicaOptions World::replica_options() {
  ReplicaOptions options;
  options.size_bytes = kDeviceBytes;
  options.peer_count = 1;
  options.peer_timeout_us = 200'000;
  options.client_slots = 32;
  options.apply_slots = 64;
  options.resync_slots = 8;
  options.resync_chunk_bytes = kMiB;
  options.transfer_log_entries = 64;
  options.activity_log_slots = 18;
  options.flush_interval_us = 300'000;
  return options;
}

World::World(const RunOptions& options)
    : random(options.seed * 0x9E3779B97F4A7C15 + 1),
      ledger(kDeviceBytes / kUnitBytes),
      network(*this),
      options_(options) {
  for (int id = 0; id < 2; ++id) nodes_[static_cast<size_t>(id)] = std::make_unique<Node>(*this, id, replica_options());
  draw_faults();
}

void World::draw_faults() {
  faults_.crashes = random.chance(0.5);
  faults_.power_losses = random.chance(0.5);
  faults_.cuts = random.chance(0.5);
  faults_.silences = random.chance(0.4);
  faults_.stalls = random.chance(0.4);
  faults_.freezes = random.chance(0.3);
  faults_.partitions = random.chance(0.4);
  faults_.orders = random.chance(0.5);
  const uint64_t spots = random.between(3, 40);
  for (uint64_t spot = 0; spot < spots; ++spot) hot_spots_.push_back(random.below(kDeviceBytes / kBlockBytes));
  small_write_chance_ = random.chance(0.3) ? 0.9 : 0.4;
  application_interval_us_ = random.between(500, 8000);
}

void World::at(uint64_t time_us, std::function<void()> what) {
  queue_.push({std::max(time_us, now_us), ++scheduled_, std::move(what)});
}

void World::every(uint64_t period_us, std::function<bool()> what) {
  at(now_us + period_us, [this, period_us, what = std::move(what)] {
    if (what()) every(period_us, what);
  });
}

void World::node_event(int id, uint64_t delay_us, EventBody body) {
  const uint64_t boot = node(id).boots();
  at(now_us + delay_us, [this, id, boot, body = std::move(body)] {
    thawed(id, [this, id, boot, body] {
      if (node(id).alive() && node(id).boots() == boot) node(id).feed(body);
    });
  });
}

void World::thawed(int id, std::function<void()> what) {
  if (node(id).is_frozen()) {
    at(node(id).frozen_until_us() + 1, [this, id, what = std::move(what)] { thawed(id, what); });
  } else {
    what();
  }
}

void World::fail(const std::string& violation) {
  if (!result_.ok) return;
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
  for (int id = 0; id < 2; ++id) {
    text += " node " + std::to_string(id) + ": ";
    if (!node(id).alive()) {
      text += "down";
      continue;
    }
    const ReplicaStatus status = node(id).replica().status();
    const PeerStatus peer = node(id).peer();
    text += std::string(to_string(status.role)) + " " + std::string(to_string(status.disk_state)) + " " +
            std::string(to_string(peer.connection)) + " " + std::string(to_string(peer.replication)) + " out-of-sync " +
            std::to_string(peer.out_of_sync_blocks) + " in-flight " + std::to_string(status.in_flight) + " rule " +
            std::string(to_string(peer.decision.rule));
  }
  return text;
}

RunResult World::run() {
  for (int id = 0; id < 2; ++id) node(id).boot();
  every(10'000, [this] {
    network.try_connect();
    return true;
  });
  every(25'000, [this] {
    operator_turn();
    return true;
  });
  at(1'000, [this] { application_turn(); });
  every(40'000, [this] {
    check_everything_lost_power();
    return true;
  });
  const uint64_t fault_interval = random.between(50'000, 500'000);
  every(fault_interval, [this] {
    if (!healing_) one_fault();
    return !healing_;
  });
  at(kFaultsEndUs, [this] {
    trace("faults end");
    healing_ = true;
    network.partitioned = false;
    for (int id = 0; id < 2; ++id) {
      if (!node(id).alive()) {
        node(id).boot();
      }
    }
  });
  at(kFaultsEndUs + 500'000, [this] { application_runs_ = false; });

  bool converged = false;
  while (result_.ok && !queue_.empty() && !converged) {
    Timed next = queue_.top();
    queue_.pop();
    now_us = next.time_us;
    next.what();
    if (!application_runs_ && quiet()) converged = true;
    if (now_us > kConvergedByUs) fail("the nodes did not come together in time");
  }
  if (result_.ok) check_converged();
  result_.writes = ledger.write_count();
  result_.simulated_us = now_us;
  return result_;
}

bool World::quiet() const {
  for (int id = 0; id < 2; ++id) {
    if (!node(id).alive() || node(id).is_frozen() || node(id).application_in_flight() > 0) return false;
    const ReplicaStatus status = node(id).replica().status();
    const PeerStatus peer = node(id).peer();
    if (status.disk_state != DiskState::UpToDate || peer.disk_state != DiskState::UpToDate ||
        peer.replication != ReplicationState::Established || peer.sent != peer.flushed) {
      return false;
    }
  }
  return !order_pending_;
}

void World::one_fault() {
  const int id = static_cast<int>(random.below(2));
  Node& victim = node(id);
  switch (random.below(8)) {
    case 0:
    case 1:
      if (victim.alive() && (faults_.crashes || faults_.power_losses)) {
        const bool power = faults_.power_losses && (!faults_.crashes || random.chance(0.5));
        victim.crash(power);
        if (power && node(1 - id).alive() && random.chance(0.4)) node(1 - id).crash(true);
        for (int each = 0; each < 2; ++each) {
          if (node(each).alive()) continue;
          at(now_us + random.between(10'000, 800'000), [this, each] {
            if (!node(each).alive()) node(each).boot();
          });
        }
      }
      return;
    case 2:
      if (faults_.cuts) {
        trace("the link is cut");
        network.cut();
      }
      return;
    case 3:
      if (faults_.silences) {
        trace("the link from node %d falls silent", id);
        network.fall_silent(id);
      }
      return;
    case 4:
      if (faults_.stalls) {
        trace("the link stalls");
        network.stall(now_us + random.between(1'000, 400'000));
      }
      return;
    case 5:
      if (faults_.freezes && victim.alive() && !victim.is_frozen()) {
        const uint64_t until = now_us + random.between(1'000, 600'000);
        trace("node %d freezes until %llu", id, static_cast<unsigned long long>(until));
        victim.freeze(until);
      }
      return;
    case 6:
      if (faults_.partitions && !network.partitioned) {
        trace("partition");
        network.partitioned = true;
        network.fall_silent(0);
        network.fall_silent(1);
        at(now_us + random.between(10'000, 900'000), [this] { network.partitioned = false; });
      }
      return;
    default:
      return;
  }
}

// An operator who never lies: a peer is called fenced only when it is down, and a node that is known to lack
// acknowledged writes is not asked to be Primary.
void World::operator_turn() {
  if (order_pending_) return;
  const auto give = [this](int id, OrderGiven order) {
    order.ticket = ++order_ticket_;
    order_pending_ = true;
    trace("operator: order %d to node %d", static_cast<int>(order.kind), id);
    node(id).order(order);
  };
  for (int id = 0; id < 2 && healing_; ++id) {
    if (!node(id).alive() || node(id).is_frozen() || node(id).peer().connection != ConnectionState::StandAlone)
      continue;
    OrderGiven connect;
    connect.kind = OrderKind::Connect;
    return give(id, connect);
  }
  for (int id = 0; id < 2 && healing_; ++id) {
    if (!node(id).alive() || node(id).is_frozen() || node(id).peer().replication != ReplicationState::PausedSyncS)
      continue;
    OrderGiven resume;
    resume.kind = OrderKind::ResumeResync;
    return give(id, resume);
  }
  int primaries = 0;
  for (int id = 0; id < 2; ++id) {
    if (node(id).alive() && node(id).replica().status().role == Role::Primary) ++primaries;
  }
  if (primaries == 2) return fail("both nodes are Primary");
  if (primaries == 0) {
    const int id = static_cast<int>(random.below(2));
    if (!node(id).alive() || node(id).is_frozen() || !random.chance(0.3)) return;
    OrderGiven order;
    order.kind = OrderKind::Promote;
    const bool peer_down = !node(1 - id).alive();
    order.peer_fenced = peer_down;
    if (peer_down && (behind_[static_cast<size_t>(id)] || healing_)) return;
    return give(id, order);
  }
  if (!faults_.orders || healing_ || !random.chance(0.08)) return;
  const int id = static_cast<int>(random.below(2));
  if (!node(id).alive() || node(id).is_frozen()) return;
  OrderGiven order;
  switch (random.below(5)) {
    case 0:
      order.kind = OrderKind::Switchover;
      order.to_self = node(id).replica().status().role != Role::Primary;
      return give(id, order);
    case 1:
      order.kind = OrderKind::Demote;
      return give(id, order);
    case 2: {
      order.kind = OrderKind::Disconnect;
      at(now_us + random.between(1'000, 500'000), [this, id] {
        OrderGiven connect;
        connect.kind = OrderKind::Connect;
        connect.ticket = ++order_ticket_;
        if (node(id).alive() && !node(id).is_frozen()) node(id).order(connect);
      });
      return give(id, order);
    }
    case 3:
      order.kind = random.chance(0.5) ? OrderKind::PauseResync : OrderKind::ResumeResync;
      return give(id, order);
    default: {
      order.kind = OrderKind::Invalidate;
      if (node(id).replica().status().role == Role::Primary) return;
      return give(id, order);
    }
  }
}

ByteRange World::draw_range() {
  const uint64_t spot = hot_spots_[random.below(hot_spots_.size())];
  uint64_t offset = spot * kBlockBytes + random.below(8) * kUnitBytes;
  uint64_t length = kUnitBytes * (random.chance(small_write_chance_) ? random.between(1, 4) : random.between(1, 64));
  if (random.chance(0.02)) length = kExtentBytes + kUnitBytes * random.below(512);
  offset = std::min(offset, kDeviceBytes - kUnitBytes);
  return {offset, std::min(length, kDeviceBytes - offset)};
}

void World::application_turn() {
  if (!application_runs_) return;
  at(now_us + random.between(1, application_interval_us_ * 2), [this] { application_turn(); });
  for (int id = 0; id < 2; ++id) {
    if (!node(id).export_open() || node(id).is_frozen()) continue;
    const uint64_t burst = random.chance(0.2) ? random.between(1, 12) : 1;
    for (uint64_t i = 0; i < burst; ++i) {
      const uint64_t dice = random.below(100);
      if (dice < 60) {
        node(id).application_write(draw_range(), ClientOperation::Write, random.chance(0.1));
      } else if (dice < 66) {
        node(id).application_write(draw_range(),
                                   random.chance(0.5) ? ClientOperation::Trim : ClientOperation::WriteZeroes,
                                   random.chance(0.1));
      } else if (dice < 85) {
        node(id).application_read(draw_range());
      } else {
        node(id).application_flush();
      }
    }
  }
}

void World::order_answered(int id, uint64_t ticket, Outcome outcome) {
  trace("node %d answers order %llu: %d", id, static_cast<unsigned long long>(ticket), static_cast<int>(outcome));
  order_pending_ = false;
}

void World::noted(int id, const Note& note) {
  const auto self = static_cast<size_t>(id);
  const std::string text = note.text;
  if (note.kind == NoteKind::ResyncFinished) {
    if (text == "target") {
      // It holds what the source holds.
      has_acknowledged_[self] = has_acknowledged_[1 - self];
      behind_[self] = behind_[1 - self];
      ++result_.resyncs;
    }
  } else if (note.kind == NoteKind::HandshakeDecided && text == "equal-clean") {
    has_acknowledged_[0] = has_acknowledged_[1] = has_acknowledged_[0] || has_acknowledged_[1];
    behind_[0] = behind_[1] = behind_[0] && behind_[1];
  } else if (note.kind == NoteKind::SplitBrain) {
    fail("a split brain, though no operator lied: " + text);
  } else if (note.kind == NoteKind::RuleBroken) {
    fail("a peer broke a rule: " + text);
  }
}

void World::sent(int, const Message&) {}

void World::node_crashed(int id, bool power_lost) {
  ++result_.crashes;
  order_pending_ = false;
  if (power_lost) has_acknowledged_[static_cast<size_t>(id)] = false;
}

}  // namespace lockstep::sim
