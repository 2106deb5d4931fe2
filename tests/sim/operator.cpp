#include "tests/sim/operator.h"

#include <algorithm>
#include <utility>

#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

Operator::Operator(World& world) : world_(world), disturbs_(world.random.chance(0.5)) {}

void Operator::start() {
  world_.every(25'000, [this] {
    turn();
    return true;
  });
}

void Operator::give(int id, OrderGiven order) {
  order.ticket = ++ticket_;
  pending_ = true;
  pending_node_ = id;
  world_.trace("operator: order %d to node %d", static_cast<int>(order.kind), id);
  world_.node(id).order(order);
}

void Operator::answered(int id, uint64_t ticket, Outcome outcome) {
  world_.trace("node %d answers order %llu: %d", id, static_cast<unsigned long long>(ticket),
               static_cast<int>(outcome));
  if (ticket != ticket_) return;
  pending_ = false;
  if (std::exchange(changes_protocol_, false) && outcome == Outcome::Done) world_.checker.protocol_changed(id);
}

void Operator::node_crashed(int id) {
  if (id == pending_node_) pending_ = changes_protocol_ = false;
}

void Operator::put_disks_right() {
  for (int id = 0; id < world_.node_count(); ++id) {
    if (world_.node(id).lacks_disk() && world_.random.chance(0.1)) put_disk_right(id);
  }
}

// The disk is attached again; or an empty one, where another node has everything; or the node is restarted with the
// disk put right.
void Operator::put_disk_right(int id) {
  Node& node = world_.node(id);
  if (!node.responds()) return;
  if (node.may_attach() && world_.random.chance(0.7)) {
    bool somebody_suffices = false;
    for (int other = 0; other < world_.node_count(); ++other) {
      somebody_suffices = somebody_suffices || (other != id && world_.checker.suffices_alone(other));
    }
    // The daemon goes on with the size that it has.
    const bool may_replace = somebody_suffices && world_.growth.sizes_agree();
    if (may_replace && world_.random.chance(0.3)) {
      node.replace_disk();
      world_.checker.disk_replaced(id);
    }
    return node.attach_disk();
  }
  if (!world_.random.chance(0.3)) return;
  world_.trace("operator: restarts node %d", id);
  node.crash(false);
  world_.at(world_.now_us + 20'000, [this, id] {
    if (!world_.node(id).alive()) world_.node(id).boot();
  });
}

// An empty disk was created with the size that the others had then, and they have grown since: they refuse it, and say
// what to correct.
void Operator::recreate_what_is_too_small() {
  for (int id = 0; id < world_.node_count(); ++id) {
    Node& node = world_.node(id);
    const DurableMetadata& durable = node.durable();
    const uint64_t largest = world_.growth.largest_size_bytes();
    if (!node.responds() || !world_.checker.is_replaced(id) || durable.size_bytes == largest ||
        durable.superblock.prepared_size_bytes == largest || durable.superblock.disk_state != DiskState::Inconsistent) {
      continue;
    }
    node.crash(false);
    node.replace_disk();
    world_.at(world_.now_us + 20'000, [this, id] {
      if (!world_.node(id).alive()) world_.node(id).boot();
    });
  }
}

void Operator::turn() {
  if (stands_back_) return;
  put_disks_right();
  if (world_.is_healing()) recreate_what_is_too_small();
  if (pending_) return;
  if (world_.is_healing() && (vouch_for_the_newest() || repair())) return;
  int primaries = 0;
  for (int id = 0; id < world_.node_count(); ++id) {
    if (world_.node(id).alive() && world_.node(id).status().role == Role::Primary) ++primaries;
  }
  if (world_.policy == LossPolicy::Arbiter && primaries > 0 && fail_over()) return;
  if (world_.policy == LossPolicy::Suspend && primaries == 1 && resume_alone()) return;
  if (primaries > 1 && world_.policy != LossPolicy::Arbiter) return world_.fail("two nodes are Primary");
  if (primaries == 0) return promote_somebody();
  if (demote_who_lost_data()) return;
  if (disturbs_ && !world_.is_healing() && world_.random.chance(0.08)) disturb();
}

// Its clients get errors until it gives up the role, as status says.
bool Operator::demote_who_lost_data() {
  for (int id = 0; id < world_.node_count(); ++id) {
    if (!world_.node(id).responds() || !world_.node(id).status().data_lost || !world_.random.chance(0.3)) continue;
    OrderGiven order;
    order.kind = OrderKind::Demote;
    give(id, order);
    return true;
  }
  return false;
}

// A disk that was rolled back or replaced gets its data only from one that is known to be the newest. Where the other
// node has restarted since, and so does not know, an operator vouches for it by its generation. So for one of two of
// which a failed flush left no whole copy.
bool Operator::vouch_for_the_newest() {
  const auto has_primary = [this] {
    for (int id = 0; id < world_.node_count(); ++id) {
      if (world_.node(id).alive() && world_.node(id).status().role == Role::Primary) return true;
    }
    return false;
  };
  if (has_primary()) return false;  // it will be the source of all others
  for (int id = 0; id < world_.node_count(); ++id) {
    const Node& node = world_.node(id);
    if (!node.responds() || node.status().role == Role::Primary || !world_.checker.has_all_flushed(id)) continue;
    const DiskState state = node.status().disk_state;
    const bool is_any_other = state == DiskState::Inconsistent && world_.checker.no_whole_copy_is_left();
    bool is_refused = false;
    bool is_beside_spoilt = false;  // it went on, and its disk is no copy any more
    for (int other = 0; other < world_.node_count(); ++other) {
      const Rule rule = other == id ? Rule::EqualClean : node.peer(other).decision.rule;
      is_beside_spoilt = is_beside_spoilt || (rule == Rule::InconsistentWouldBeSource &&
                                              (world_.checker.is_gone(other) || world_.checker.is_replaced(other)));
      is_refused = is_refused || is_beside_spoilt || rule == Rule::PeerRolledBack || rule == Rule::SelfMayBeStale ||
                   (is_any_other && (rule == Rule::BothInconsistent || rule == Rule::InconsistentWouldBeSource));
    }
    // An arbiter that has no record yet, because never all were there, lets nobody be promoted plainly.
    const bool is_whole = state == DiskState::UpToDate && is_beside_spoilt;
    if (state != DiskState::Consistent && state != DiskState::Outdated && !is_any_other && !is_whole) continue;
    // What is on that one is asked for first.
    const auto any_whole = {DiskState::UpToDate, DiskState::Consistent, DiskState::Outdated};
    if (is_any_other && calls_itself_whole_besides(id, any_whole)) continue;
    if (state == DiskState::Outdated && calls_itself_whole_besides(id, {DiskState::UpToDate})) continue;
    if (!is_refused || newer_is_left(id) || another_is_counted(id) || !world_.random.chance(0.3)) continue;
    OrderGiven order;
    order.kind = OrderKind::Disconnect;
    give(id, order);
    world_.at(world_.now_us + 20'000, [this, id, vouches_for_any = is_any_other || is_beside_spoilt, has_primary] {
      if (!world_.node(id).responds() || has_primary()) return;  // vouched for another one a moment before
      if (newer_is_left(id) || another_is_counted(id)) return;
      OrderGiven promote;
      promote.kind = OrderKind::Promote;
      promote.give_generation = true;
      promote.generation = world_.node(id).status().generation;
      if (vouches_for_any) world_.checker.forced(id);
      give(id, promote);
    });
    return true;
  }
  return false;
}

bool Operator::calls_itself_whole_besides(int than, std::initializer_list<DiskState> states) const {
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == than || !world_.node(other).responds() || !world_.checker.has_all_flushed(other)) continue;
    if (std::find(states.begin(), states.end(), world_.node(other).status().disk_state) != states.end()) return true;
  }
  return false;
}

// A third node, which may be down still, was Primary without this one, and its disk is the one that it had: it will be
// the source of both.
bool Operator::newer_is_left(int than) const {
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == than || world_.checker.is_replaced(other) || !world_.checker.has_all_flushed(other)) continue;
    const Node& node = world_.node(other);
    const SuperblockImage& superblock = node.durable().superblock;
    const bool left_behind = !superblock.peers[node.peer_index(than)].bitmap_generation.is_zero();
    if (left_behind && superblock.disk_state == DiskState::UpToDate) return true;
  }
  return false;
}

// … of which the arbiter says that it has everything: it is promoted, and needs nobody's word.
bool Operator::another_is_counted(int than) const {
  for (int other = 0; other < world_.node_count() && world_.policy == LossPolicy::Arbiter; ++other) {
    const bool is_there = other != than && world_.node(other).responds() && world_.arbiter.counts(other);
    if (!is_there || !world_.checker.has_all_flushed(other)) continue;
    const DiskState state = world_.node(other).status().disk_state;
    if (state == DiskState::UpToDate || state == DiskState::Consistent) return true;
  }
  return false;
}

// Takes back what an operator did that keeps nodes apart.
bool Operator::repair() {
  // From any node on: a resync that its peer's operator paused stays paused whatever this one orders.
  const int nodes = world_.node_count();
  const int start = static_cast<int>(world_.random.below(static_cast<uint64_t>(nodes)));
  for (int step = 0; step < nodes; ++step) {
    const int id = (start + step) % nodes;
    if (!world_.node(id).responds()) continue;
    for (int other = 0; other < world_.node_count(); ++other) {
      if (other == id) continue;
      const PeerStatus peer = world_.node(id).peer(other);
      OrderGiven order;
      order.every_peer = false;
      order.peer = world_.node(id).peer_index(other);
      if (peer.connection == ConnectionState::StandAlone) {
        order.kind = OrderKind::Connect;
      } else if (peer.resync_held || peer.replication == ReplicationState::PausedSyncS ||
                 peer.replication == ReplicationState::PausedSyncT) {
        order.kind = OrderKind::ResumeResync;
      } else {
        continue;
      }
      give(id, order);
      return true;
    }
  }
  return false;
}

// Another node has begun to write without it, or was about to: that node has recorded so, and to promote this one
// would make a split brain.
bool Operator::is_left_behind(int id) const {
  if (world_.checker.is_behind(id)) return true;
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == id) continue;
    const Node& node = world_.node(other);
    const SuperblockImage& superblock = node.durable().superblock;
    if (!superblock.peers[node.peer_index(id)].bitmap_generation.is_zero()) return true;
    // Its disk was replaced since, and filled by one that was left behind.
    const Generation& held = world_.node(id).durable().superblock.current;
    const auto& history = superblock.history;
    if (held != superblock.current && std::find(history.begin(), history.end(), held) != history.end()) return true;
  }
  return false;
}

void Operator::promote_somebody() {
  const int id = static_cast<int>(world_.random.below(static_cast<uint64_t>(world_.node_count())));
  if (!world_.node(id).responds() || !world_.random.chance(0.3)) return;
  OrderGiven order;
  order.kind = OrderKind::Promote;
  bool others_absent = false;  // and all of those are down
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == id || world_.node(id).peer(other).connection == ConnectionState::Connected) continue;
    others_absent = true;
    order.peer_fenced = true;
  }
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == id || !world_.node(other).alive()) continue;
    if (world_.node(id).peer(other).connection != ConnectionState::Connected) order.peer_fenced = false;
  }
  if (world_.policy == LossPolicy::Arbiter) order.peer_fenced = false;  // it is asked instead
  if (others_absent && order.peer_fenced && (is_left_behind(id) || world_.is_healing())) return;
  // A second operator, who asks another node at the same moment.
  const int second = static_cast<int>(world_.random.below(static_cast<uint64_t>(world_.node_count())));
  if (second != id && !others_absent && world_.node(second).responds() && world_.random.chance(0.3)) {
    world_.node(second).order(order);
  }
  give(id, order);
}

// The same file on every node: each takes it over, or finds it when it starts.
void Operator::change_protocol() {
  world_.protocol = static_cast<Protocol>(world_.random.below(3));
  OrderGiven order;
  order.kind = OrderKind::SetProtocol;
  order.protocol = world_.protocol;
  world_.draw_node_protocols(world_.random);
  order.ticket = UINT64_MAX;  // nobody waits for the Secondaries
  int primary = -1;
  for (int id = 0; id < world_.node_count(); ++id) {
    if (!world_.node(id).responds()) continue;
    if (world_.node(id).status().role == Role::Primary) {
      primary = id;
    } else {
      order.peer_protocols = world_.node(id).peer_protocols();
      world_.node(id).order(order);
    }
  }
  if (primary < 0) return;
  changes_protocol_ = true;
  order.peer_protocols = world_.node(primary).peer_protocols();
  give(primary, order);
}

// As a cluster manager does that sees less than the arbiter: whoever cannot reach the Primary is promoted.
bool Operator::fail_over() {
  if (!world_.random.chance(0.2)) return false;
  for (int id = 0; id < world_.node_count(); ++id) {
    if (!world_.node(id).responds() || world_.node(id).status().role == Role::Primary) continue;
    bool reaches_primary = false;
    for (int other = 0; other < world_.node_count(); ++other) {
      if (other == id || world_.node(id).peer(other).connection != ConnectionState::Connected) continue;
      if (world_.node_count() == 2 || world_.node(id).peer(other).role == Role::Primary) reaches_primary = true;
    }
    if (reaches_primary) continue;
    OrderGiven order;
    order.kind = OrderKind::Promote;
    give(id, order);
    return true;
  }
  return false;
}

// Only while those that it waits for are down: so the word is true.
bool Operator::resume_alone() {
  int suspended = -1;
  for (int id = 0; id < world_.node_count(); ++id) {
    const Node& node = world_.node(id);
    if (!node.responds() || node.status().role != Role::Primary) continue;
    if (node.status().suspension == Suspension::PeerLoss) suspended = id;
  }
  if (suspended < 0) return false;
  for (int id = 0; id < world_.node_count(); ++id) {
    if (id != suspended && world_.node(id).alive() && world_.node(suspended).peer(id).awaited) return false;
  }
  if (!world_.random.chance(0.2)) return false;
  OrderGiven order;
  order.kind = OrderKind::Resume;
  order.alone = true;
  give(suspended, order);
  return true;
}

void Operator::disturb() {
  Random& random = world_.random;
  const int id = static_cast<int>(random.below(static_cast<uint64_t>(world_.node_count())));
  Node& node = world_.node(id);
  if (!node.responds()) return;
  OrderGiven order;
  order.peer = static_cast<PeerIndex>(random.below(static_cast<uint64_t>(node.peer_count())));
  if (world_.changes_protocols() && random.chance(0.3)) return change_protocol();
  if (world_.faults.has_disk_errors() && random.chance(0.2)) {
    order.kind = OrderKind::Detach;
    return give(id, order);
  }
  switch (random.below(6)) {
    case 0:
      order.kind = OrderKind::Switchover;
      order.to_self = node.status().role != Role::Primary;
      return give(id, order);
    case 1:
      order.kind = OrderKind::Demote;
      return give(id, order);
    case 2:
      order.kind = OrderKind::Disconnect;
      world_.at(world_.now_us + random.between(1'000, 500'000), [this, id] {
        OrderGiven connect;
        connect.kind = OrderKind::Connect;
        if (world_.node(id).responds()) world_.node(id).order(connect);
      });
      return give(id, order);
    case 3:
      order.kind = random.chance(0.5) ? OrderKind::PauseResync : OrderKind::ResumeResync;
      return give(id, order);
    case 4:
      order.kind = OrderKind::Verify;
      order.repair = random.chance(0.5);
      order.every_peer = random.chance(0.5);
      return give(id, order);
    default:
      if (node.status().role == Role::Primary) return;
      order.kind = OrderKind::Invalidate;
      world_.checker.invalidated(id);
      return give(id, order);
  }
}

}  // namespace lockstep::sim
