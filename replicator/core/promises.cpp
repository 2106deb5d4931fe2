// What a client's request waits for besides this node's own disk: which peers were asked, which of them did what was
// promised, and whether that is enough. Nobody else decides it.
#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

bool Replica::State::enough(const Promise& promise) const {
  return (promise.asked & ~promise.kept) == 0;
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
