#include "replicator/core/replica_state.h"

namespace lockstep::repl {

// The order is carried out on a copy, so that what it is refused for is what the order itself would be refused for.
std::optional<OrderAnswered> Replica::rehearse(const OrderGiven& order, uint64_t now_us,
                                               uint32_t export_clients) const {
  State copy(*state_);
  Actions actions(actions_capacity(copy.options));
  copy.actions = &actions;
  copy.now_us = now_us;
  copy.export_clients = export_clients;
  copy.on(order);
  for (const Action& action : actions) {
    const auto* answered = std::get_if<OrderAnswered>(&action);
    if (answered != nullptr && answered->ticket == order.ticket) return *answered;
  }
  return std::nullopt;
}

std::optional<Decision> Replica::expected_decision(PeerIndex index) const {
  const State& state = *state_;
  const Peer& peer = state.peers[index];
  const PeerRecord& record = state.superblock.peers[index];
  if (!peer.ever_decided || state.is_connected(peer) || peer.split_brain || !state.disk_usable()) return std::nullopt;
  if (record.bitmap_generation == kHeldByNobody) return std::nullopt;
  const StateReport own = state.make_report(index);
  StateReport unchanged = peer.peer_report;
  unchanged.current = record.bitmap_generation.is_zero() ? own.current : record.bitmap_generation;
  unchanged.bitmap_generation = unchanged.previous_bitmap_generation = {};
  unchanged.history = own.history;
  unchanged.out_of_sync_blocks = 0;
  unchanged.role = Role::Secondary;
  unchanged.disk_state = DiskState::UpToDate;
  unchanged.size_bytes = own.size_bytes;
  unchanged.life = own.remembered;
  unchanged.remembered = own.life;
  unchanged.unanswered_since = unchanged.sync_base = unchanged.sync_toward = {};
  return decide(own, unchanged);
}

}  // namespace lockstep::repl
