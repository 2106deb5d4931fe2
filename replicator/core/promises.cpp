// What a client's request waits for besides this node's own disk: which peers were asked, which of them did what was
// promised, and whether that is enough. Nobody else decides it.
#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

// With as many as there are peers it is `all`.
bool Replica::State::some_are_enough() const {
  return options.sync.kind != SyncChoice::All && options.sync.count < peer_count();
}

// Without a disk here the peers' are the only copies, and a resync's source that is no Primary has no clients.
bool Replica::State::waits_for_some() const {
  return some_are_enough() && role == Role::Primary && served.is_zero();
}

// Some: a target is no copy yet, so its promise is worth nothing. Fewer in sync than are wanted are all waited for.
bool Replica::State::enough(const Promise& promise) const {
  if (!waits_for_some()) return (promise.asked & ~promise.kept) == 0;
  if ((promise.asked & ~promise.kept & unrecorded_peers()) != 0) return false;
  const uint32_t wanted = options.sync.count;
  uint32_t missing = 0;  // of those in sync that were looked at
  uint32_t kept = 0;
  for (uint8_t place = 0; place < peer_count(); ++place) {
    const PeerIndex index = options.sync_order[place];
    if ((promise.asked & mask_of(index)) == 0 || !is_connected(peers[index]) ||
        peers[index].replication != ReplicationState::Established || !is_disk(peers[index].disk_state)) {
      continue;
    }
    const bool has_kept = (promise.kept & mask_of(index)) != 0;
    if (has_kept) ++kept;
    if (!has_kept) ++missing;
    if (options.sync.kind == SyncChoice::First && kept + missing == wanted) break;
  }
  return missing == 0 || (options.sync.kind == SyncChoice::Any && kept >= wanted) ||
         LOCKSTEP_MUTANT("sync-set-not-waited-for");
}

bool Replica::State::promise_kept(const ClientSlot& client) const {
  return client.local_done && (enough(client.promise) || LOCKSTEP_MUTANT("answered-before-peer"));
}

void Replica::State::reached(PeerIndex index, const TransferEntry& entry, Milestone milestone) {
  if (entry.client_slot == TransferEntry::kNoClient) return;
  ClientSlot& client = clients[entry.client_slot];
  if (client.milestones[index] != milestone) return;
  client.promise.kept |= mask_of(index);
  complete_write_if_done(entry.client_slot);
}

// Whatever a request waits for may be there now.
void Replica::State::settle_promises() {
  for (uint32_t slot = 0; slot < clients.size(); ++slot) complete_write_if_done(slot);
  finish_flush_cycle_if_done();
}

}  // namespace lockstep::repl
