// Scenarios that were real bugs of replicated block stores, and that no other story here tells. docs/testing.md lists
// all of them.
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {

TEST_CASE("promote in every disk state: only UpToDate says yes") {
  const auto tried = [](DiskState durable) {
    Pair pair;
    pair.make_mirrored();
    pair.beta.crash();
    pair.alpha.crash();
    pair.beta.superblock.disk_state = durable;
    // As if alpha were known to hold older data, so that UpToDate is not doubted at the start.
    pair.beta.superblock.peers[0].bitmap_generation = {9, 9};
    pair.beta.superblock.unanswered_since = Generation{};  // and something were written
    pair.beta.start();
    pair.run();
    OrderGiven promote;
    promote.kind = OrderKind::Promote;
    promote.peer_fenced = true;
    const uint64_t ticket = pair.beta.order(promote);
    pair.run();
    CHECK(pair.beta.is_primary() == (durable == DiskState::UpToDate));
    CHECK(pair.beta.export_open == (durable == DiskState::UpToDate));
    return pair.beta.answers.at(ticket).outcome;
  };
  CHECK(tried(DiskState::UpToDate) == Outcome::Done);
  CHECK(tried(DiskState::Consistent) == Outcome::NotUpToDate);
  CHECK(tried(DiskState::Outdated) == Outcome::NotUpToDate);
  CHECK(tried(DiskState::Inconsistent) == Outcome::NotUpToDate);

  Pair pair;
  pair.make_mirrored();
  SECTION("Diskless") {
    pair.beta.order(OrderKind::Detach);
  }
  SECTION("Failed") {
    pair.beta.next_flush_errno = EIO;
    pair.alpha.write(0, blocks(5), 1);
    pair.run();
    pair.alpha.flush(1);
  }
  pair.run();
  pair.alpha.crash();
  pair.run();
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  CHECK(pair.beta.answered(pair.beta.order(promote), Outcome::NoDisk));
}

TEST_CASE("an error of one leg of a write is not overwritten by the other's success, whichever ends first") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.alpha.write(0, blocks(100), 1);
  pair.run();
  pair.alpha.holds_reads = true;  // so that the resync stays where it is, and the peer cannot serve
  pair.connect();
  REQUIRE(pair.beta.peer().replication == ReplicationState::SyncTarget);
  const bool peer_first = GENERATE(true, false);
  (peer_first ? pair.alpha.holds_writes : pair.beta.holds_writes) = true;
  pair.alpha.next_io_errno = EIO;
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  pair.alpha.holds_writes = pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == EIO);
  CHECK(pair.alpha.is_up_to_date());
}

TEST_CASE("a resync that has nothing to copy ends no sooner than the writes beside it are under its promise") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.crash();
  pair.run();
  // Nothing was hot: a resync of no block, with the crashed Primary as target.
  std::fill(pair.alpha.activity_log.begin(), pair.alpha.activity_log.end(), kNoExtent);
  pair.alpha.start();
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  pair.beta.order(promote);
  pair.run();
  pair.frames_left = GENERATE(range(0, 24));
  pair.connect();
  pair.beta.write(0, blocks(5), 7);
  pair.run();
  pair.frames_left = UINT64_MAX;
  for (int i = 0; i < 5; ++i) {
    pair.connect();
    pair.pass(1'100'000);
  }
  CHECK(pair.beta.replies.at(0) == 0);
  CHECK(pair.alpha.disk[5] == 7);
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
  CHECK(pair.beta.peer().out_of_sync_blocks == 0);
  CHECK(pair.alpha.superblock.current == pair.beta.superblock.current);
}

TEST_CASE("trims, zeroes and writes of the same blocks during a resync leave both disks alike") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  for (uint32_t slot = 0; slot < 8; ++slot) {
    pair.alpha.write(slot, blocks(slot * 512, 256), slot + 1);
    pair.run();
  }
  const auto frames = GENERATE(range<uint64_t>(10, 50, 3));
  pair.frames_left = frames;
  pair.connect();
  pair.alpha.request(0, ClientOperation::Trim, blocks(100, 64));
  pair.alpha.write(1, blocks(110, 8), 21);
  pair.alpha.request(2, ClientOperation::WriteZeroes, blocks(112, 2));
  pair.alpha.write(3, blocks(1024 + 250, 12), 22);
  pair.alpha.request(4, ClientOperation::Trim, blocks(1024 + 255, 3));
  pair.run();
  pair.frames_left = UINT64_MAX;
  for (int i = 0; i < 5; ++i) {
    pair.connect();
    pair.pass(1'100'000);
  }
  for (uint32_t slot = 0; slot <= 4; ++slot) CHECK(pair.alpha.replies.at(slot) == 0);
  CHECK(pair.alpha.disk == pair.beta.disk);
  CHECK(pair.beta.disk[111] == 21);
  CHECK(pair.beta.disk[112] == 0);
  CHECK(pair.beta.disk[1024 + 256] == 0);
  CHECK(pair.beta.is_up_to_date());
}

}  // namespace lockstep::repl
