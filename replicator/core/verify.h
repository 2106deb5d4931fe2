// What a node knows of an online verify with one peer, and of the last one that ended.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>

#include "replicator/core/types.h"

namespace lockstep::repl {

struct BlockRun {
  uint64_t first_block = 0;
  uint64_t block_count = 0;
};

// The runs of blocks that differ: all are counted, the first ones are listed.
struct FoundDifferences {
  static constexpr size_t kListed = 64;
  std::array<BlockRun, kListed> runs{};
  uint32_t run_count = 0;  // listed
  uint64_t blocks = 0;     // all
  uint64_t listed_blocks = 0;

  void add(uint64_t block) {
    ++blocks;
    if (run_count > 0 && listed_blocks + 1 == blocks) {
      BlockRun& last = runs[run_count - 1];
      if (last.first_block + last.block_count == block) {
        ++last.block_count;
        ++listed_blocks;
        return;
      }
    }
    if (run_count == kListed || listed_blocks + 1 != blocks) return;
    runs[run_count++] = {block, 1};
    ++listed_blocks;
  }
};

struct Verify {
  bool runs = false;
  bool is_source = false;  // this node's copy counts, and it asks
  bool repair = false;
  bool comparing = false;  // the source: not yet through
  uint64_t run = 0;        // tells a read of an earlier one
  uint64_t blocks_total = 0;
  uint64_t blocks_left = 0;  // as the source said last
  FoundDifferences found;
  bool marked = false;  // bits were set that are not asked to be durable yet
  PersistId persist = 0;

  // Of the last that ended.
  uint64_t ended = 0;  // how many
  bool complete = false;
  uint64_t left_blocks = 0;  // of what differs, what is still out of sync

  void start(bool source, bool with_repair) {
    runs = true;
    is_source = source;
    repair = with_repair;
    ++run;
    blocks_total = blocks_left = 0;
    found = FoundDifferences{};
    complete = false;
  }
  void end(bool completely, uint64_t left) {
    runs = is_source = comparing = false;
    complete = completely;
    left_blocks = left;
    ++ended;
  }
};

// Whether a resync sends digests before it copies. Where the target turns out to hold other data, that is a read and a
// round trip for nothing, so after some ranges of which nearly all differs, most are copied unasked.
struct Asking {
  static constexpr uint32_t kMissesInARow = 8;
  static constexpr uint32_t kUnasked = 64;
  bool wanted = false;
  uint32_t misses = 0;
  uint32_t unasked = 0;  // ranges to be copied before the next question

  bool next_is_a_question(bool one_is_open) {
    if (!wanted || (misses >= kMissesInARow && one_is_open)) return false;
    if (unasked == 0) return true;
    --unasked;
    return false;
  }
  void answered(uint64_t differing, uint64_t count) {
    if (static_cast<uint64_t>(std::popcount(differing)) * 4 < count * 3) {
      misses = 0;
    } else if (++misses >= kMissesInARow) {
      unasked = kUnasked;
    }
  }
};

}  // namespace lockstep::repl
