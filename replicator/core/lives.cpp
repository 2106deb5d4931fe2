#include <algorithm>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

// A node that was restored from an older copy of its disk and metadata believes what it was told then: that it has
// every write. Its peers know better, since they have seen it older.
PersistId Replica::State::persist_superblock() {
  if (!has_metadata) return 0;
  ++superblock.life.age;
  wrote_since_life = lives_to_keep = false;
  act(PersistSuperblock{++asked_persist, superblock});
  life_persist = asked_persist;
  life_persist_us = now_us;
  return asked_persist;
}

// While data is written, so that no copy of the disk older than the interval passes for the present one.
void Replica::State::grow_older() {
  if (!wrote_since_life || !disk_usable() || !is_durable(life_persist) || stopping ||
      now_us - life_persist_us < options.life_interval_us) {
    return;
  }
  persist_superblock();
}

void Replica::State::tell_life_when_durable() {
  if (!is_durable(life_persist) || durable_life == superblock.life) return;
  durable_life = superblock.life;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (is_connected(peers[index])) send(index, Lived{durable_life});
  }
}

void Replica::State::lived_arrived(PeerIndex index, const Lived& message) {
  // A disk in the place of the one that was met is another one until a handshake has made them alike, or begins to.
  const bool is_the_one_met = message.life.birth == superblock.peer_lives[index].birth;
  if (is_the_one_met || LOCKSTEP_MUTANT("life-of-another-disk-remembered")) remember_life(index, message.life);
}

void Replica::State::remember_life(PeerIndex index, const Life& life) {
  Life& remembered = superblock.peer_lives[index];
  if (life.birth == remembered.birth && life.age <= remembered.age) return;
  remembered = life;
  lives_to_keep = true;
}

// Soon, and without growing older by it: else two nodes would tell each other of it for ever.
void Replica::State::keep_lives() {
  if (!lives_to_keep || !is_durable(life_persist) || !disk_usable() || stopping) return;
  act(PersistSuperblock{++asked_persist, superblock});
  life_persist = asked_persist;
  lives_to_keep = false;
}

}  // namespace lockstep::repl
