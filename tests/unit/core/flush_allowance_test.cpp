// When a node flushes by itself: how much it lets pass, and how long.
#include "replicator/core/flush_allowance.h"

#include <catch2/catch.hpp>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

// A disk whose flush takes so long for each write. Writes of 4 KiB until the allowance is used up, and a flush.
struct SlowDisk {
  explicit SlowDisk(uint64_t microseconds_a_write) : us_a_write(microseconds_a_write) {}

  uint64_t flush_when_used_up() {
    uint64_t writes = 0;
    for (; !allowance.is_used_up(); ++writes) allowance.wrote(4 * kKiB);
    flush(writes * us_a_write);
    return writes;
  }
  void flush(uint64_t takes_us) {
    allowance.flush_began(now_us);
    now_us += takes_us;
    allowance.flush_ended(now_us);
  }

  FlushAllowance allowance{48'000, 1'000'000};
  uint64_t us_a_write;
  uint64_t now_us = 1;
};

}  // namespace

TEST_CASE("a disk that flushes quickly is trusted with more, step by step") {
  SlowDisk disk(1);
  CHECK(disk.flush_when_used_up() == 8000);
  CHECK(disk.flush_when_used_up() == 16'000);
  CHECK(disk.flush_when_used_up() == 32'000);
  for (int i = 0; i < 5; ++i) CHECK(disk.flush_when_used_up() == 48'000);
}

TEST_CASE("a flush that took longer than wanted is the last of its size") {
  SlowDisk disk(500);
  CHECK(disk.flush_when_used_up() == 8000);  // 4 s
  for (int i = 0; i < 5; ++i) CHECK(disk.flush_when_used_up() == 2000);
  disk.us_a_write = 1'000'000;
  disk.flush_when_used_up();
  CHECK(disk.flush_when_used_up() == 1000);  // not less, however slow
}

TEST_CASE("a disk that has become quick is trusted with more again") {
  SlowDisk disk(500);
  disk.flush_when_used_up();
  disk.us_a_write = 100;
  CHECK(disk.flush_when_used_up() == 2000);
  CHECK(disk.flush_when_used_up() == 4000);
  CHECK(disk.flush_when_used_up() == 8000);
  CHECK(disk.flush_when_used_up() == 8000);  // took more than half the time
}

TEST_CASE("what a flush of little takes says nothing of much") {
  SlowDisk disk(100);
  for (int i = 0; i < 10; ++i) {
    disk.allowance.wrote(4 * kKiB);
    disk.flush(i % 2 == 0 ? 1 : 3'000'000);
  }
  CHECK(disk.flush_when_used_up() == 8000);
}

TEST_CASE("long writes count for what they are, and 48 MiB of them are flushed, whatever is allowed") {
  const auto writes_of = [](uint64_t payload_bytes, uint64_t most) {
    FlushAllowance allowance(most, 1'000'000);
    uint64_t writes = 0;
    for (; !allowance.is_used_up(); ++writes) allowance.wrote(payload_bytes);
    return writes;
  };
  CHECK(writes_of(16 * kKiB, 48'000) == 4000);
  CHECK(writes_of(32 * kKiB, 48'000) == 1536);
  CHECK(writes_of(kMiB, 48'000) == 48);
  CHECK(writes_of(kMiB, 4800) == 13);  // of 65 each
}

TEST_CASE("long writes tell how quick a disk is, of no more than they are") {
  SlowDisk disk(500);
  disk.flush_when_used_up();
  disk.us_a_write = 1;
  for (int i = 0; i < 10; ++i) {
    while (!disk.allowance.is_used_up()) disk.allowance.wrote(kMiB);
    disk.flush(1);
  }
  CHECK(disk.flush_when_used_up() == 8000);
}

TEST_CASE("a node flushes by itself a second after the last write, and every five seconds while there are some") {
  ReplicaOptions options[] = {test_options(0), test_options(1)};
  for (ReplicaOptions& each : options) each.transfer_log_entries = 4096;  // more than is written here
  Pair pair(options[0], options[1]);
  pair.make_mirrored();
  pair.alpha.seen.clear();
  pair.beta.seen.clear();
  const auto write_for = [&pair](uint64_t time_us) {
    for (const uint64_t end_us = pair.now_us + time_us; pair.now_us < end_us; pair.pass(100'000)) {
      pair.alpha.write(0, blocks(7), 1);
      pair.run();
      REQUIRE(pair.alpha.replies.at(0) == 0);
    }
  };
  write_for(4'000'000);
  CHECK(pair.alpha.count_seen("fdatasync") == 0);
  CHECK(pair.beta.count_seen("fdatasync") == 0);
  write_for(2'000'000);
  CHECK(pair.alpha.count_seen("fdatasync") == 1);
  CHECK(pair.beta.count_seen("fdatasync") == 1);
  pair.pass(700'000);
  CHECK(pair.alpha.count_seen("fdatasync") == 1);
  pair.pass(600'000);
  CHECK(pair.alpha.count_seen("fdatasync") == 2);
  CHECK(pair.beta.count_seen("fdatasync") == 2);
  CHECK(pair.alpha.stable_disk[7] == 1);
  pair.pass(10'000'000);  // there is nothing more to flush
  CHECK(pair.alpha.count_seen("fdatasync") == 2);
}

TEST_CASE("writes go on while a node flushes by itself, because the allowance is used up") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.seen.clear();
  pair.beta.seen.clear();
  pair.alpha.holds_flushes = pair.beta.holds_flushes = true;
  const uint64_t allowed = test_options(0).transfer_log_entries / 8;  // a sixth of three quarters
  for (uint64_t i = 0; i < allowed + 4; ++i) {
    pair.alpha.write(0, blocks(i), 1);
    pair.run();
    REQUIRE(pair.alpha.replies.at(0) == 0);
    pair.alpha.replies.clear();
    REQUIRE(pair.alpha.count_seen("fdatasync") == (i + 1 < allowed ? 0 : 1));
  }
  CHECK(pair.beta.count_seen("fdatasync") == 1);
}

}  // namespace lockstep::repl
