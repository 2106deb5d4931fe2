#include <algorithm>

#include "replicator/core/generation_rules.h"
#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

// What a crash left: a Primary's hot extents become dirty bits for every peer, durably, before the log is emptied
// and before anything else. Each persist leaves a state from which the same start reaches the same end.
void Replica::State::start(const DurableState& durable) {
  recover(durable);
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    peers[index].connection = ConnectionState::Connecting;
    peers[index].absent_since_us = now_us;
    act(Connect{index});
  }
  last_flush_us = now_us;
  changed();
}

void Replica::State::recover(const DurableState& durable) {
  superblock = durable.superblock;
  position = StreamPosition{};
  durable_life = superblock.life;
  const bool crashed = superblock.primary;
  const bool undone = undo_unanswered(superblock);

  bool found_hot = false;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    DirtyBitmap& bitmap = peers[index].bitmap;
    if (superblock.peers[index].bitmap_in_memory) bitmap.set_all();
    if (!durable.activity_log_valid) {
      bitmap.set_all();
      found_hot = true;
      continue;
    }
    for (const uint32_t extent : durable.activity_log) {
      const uint64_t first = uint64_t{extent} * kBlocksPerExtent;
      if (extent == kNoExtent || first >= bitmap.block_count() || LOCKSTEP_MUTANT("hot-extents-forgotten")) continue;
      bitmap.set_blocks(first, std::min(kBlocksPerExtent, bitmap.block_count() - first));
      found_hot = true;
    }
  }
  if (found_hot && LOCKSTEP_MUTANT("log-emptied-before-bits")) act(PersistActivityLogEmpty{++asked_persist});
  bool kept_in_memory = false;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    persist_bitmap(index, false);
    kept_in_memory |= std::exchange(superblock.peers[index].bitmap_in_memory, false);
  }
  if (crashed && !found_hot) LOCKSTEP_MARK("crashed as Primary with a cold log");
  if (!crashed && found_hot) LOCKSTEP_MARK("hot extents of an earlier recovery");
  if (crashed) {
    superblock.primary = false;
    for (PeerIndex index = 0; index < peer_count() && !LOCKSTEP_MUTANT("crash-as-primary-forgotten"); ++index) {
      superblock.peers[index].crashed_primary = true;
      superblock.peers[index].ahead_term = superblock.term;
    }
  }
  if (crashed || undone || kept_in_memory) persist_superblock();
  if (found_hot) act(PersistActivityLogEmpty{++asked_persist});
  if (crashed || found_hot) {
    note(NoteKind::CrashRecovered, 0, peer_count() > 0 ? peers[0].bitmap.dirty_blocks() : 0);
  }

  disk_state = superblock.disk_state;
  // Alone, or when every peer is known to hold older data, our data is the newest. Otherwise it may have been
  // overtaken while we were away: only the peers can tell.
  if (peer_count() == 0) {
    disk_state = DiskState::UpToDate;
  } else if (disk_state == DiskState::UpToDate) {
    const bool peers_are_behind = all_known_behind(superblock, peer_count());
    if (!peers_are_behind && !LOCKSTEP_MUTANT("restarted-node-is-up-to-date")) disk_state = DiskState::Consistent;
  }
}

}  // namespace lockstep::repl
