// What the stories of disks that fail, are served for and are replaced ask of a Pair.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {

inline DiskState disk_of(const Side& side) {
  return side.replica().status().disk_state;
}

inline bool noted(const Side& side, NoteKind kind) {
  return std::any_of(side.notes.begin(), side.notes.end(), [kind](const Note& note) { return note.kind == kind; });
}

// Until the link is up and nothing moves.
inline void settle(Pair& pair) {
  for (int i = 0; i < 5; ++i) {
    pair.connect();
    pair.pass(1'100'000);
  }
}

// Both disks alike, both sides sure of it, and nothing left to be done.
inline void check_mirrored(Pair& pair) {
  CHECK(pair.alpha.disk == pair.beta.disk);
  CHECK(pair.alpha.is_up_to_date());
  CHECK(pair.beta.is_up_to_date());
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  CHECK(pair.beta.peer().replication == ReplicationState::Established);
  CHECK(pair.alpha.superblock.current == pair.beta.superblock.current);
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
  CHECK(pair.beta.peer().out_of_sync_blocks == 0);
  CHECK_FALSE(pair.alpha.superblock.peers[0].bitmap_in_memory);
  CHECK_FALSE(pair.beta.superblock.peers[0].bitmap_in_memory);
}

}  // namespace lockstep::repl
