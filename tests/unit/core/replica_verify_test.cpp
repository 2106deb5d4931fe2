// Online verify, told as stories; and resyncs that ask before they copy, which compare in the same way.
#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

uint64_t order_verify(Side& side, bool repair = false) {
  OrderGiven order;
  order.kind = OrderKind::Verify;
  order.repair = repair;
  return side.order(order);
}

// alpha is Primary; blocks 5 to 9 hold 7 on both.
void make_written(Pair& pair) {
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5, 5), 7);
  pair.run();
  pair.alpha.flush(1);
  pair.run();
  REQUIRE(pair.beta.stable_disk[9] == 7);
}

void rot(Side& side, uint64_t block, uint32_t value = 666) {
  side.disk[block] = side.stable_disk[block] = value;
}

uint64_t words_with_bits(const Side& side) {
  return static_cast<uint64_t>(
      std::count_if(side.bitmap.begin(), side.bitmap.end(), [](uint64_t word) { return word != 0; }));
}

void require_verified(const Side& side, uint64_t differing, uint64_t left) {
  const PeerStatus peer = side.peer();
  REQUIRE(peer.replication == ReplicationState::Established);
  REQUIRE_FALSE(peer.verify.runs);
  REQUIRE(peer.verify.ended == 1);
  CHECK(peer.verify.complete);
  CHECK(peer.verify.differing_blocks == differing);
  CHECK(peer.verify.left_blocks == left);
}

bool has_note(const Side& side, NoteKind kind) {
  return std::any_of(side.notes.begin(), side.notes.end(), [kind](const Note& note) { return note.kind == kind; });
}

}  // namespace

TEST_CASE("verify of equal copies finds nothing and writes nothing") {
  Pair pair;
  make_written(pair);
  pair.beta.seen.clear();
  CHECK(pair.alpha.answered(order_verify(pair.alpha), Outcome::Done));
  pair.run();
  require_verified(pair.alpha, 0, 0);
  require_verified(pair.beta, 0, 0);
  CHECK(pair.beta.count_seen("write") + pair.beta.count_seen("zeroes") == 0);
  CHECK(pair.beta.count_seen("compare") == kTestBlocks / kBlocksPerComparison);
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
}

TEST_CASE("verify finds each block that differs, in both directions, and marks it durably") {
  Pair pair;
  make_written(pair);
  rot(pair.beta, 6);
  rot(pair.beta, 20000);
  rot(pair.alpha, kTestBlocks - 1);
  order_verify(pair.alpha);
  pair.run();
  require_verified(pair.alpha, 3, 3);
  require_verified(pair.beta, 3, 3);
  for (const uint64_t block : {uint64_t{6}, uint64_t{20000}, kTestBlocks - 1}) {
    CHECK(pair.alpha.replica().is_out_of_sync(0, block));
  }
  CHECK(pair.alpha.peer().out_of_sync_blocks == 3);
  CHECK(words_with_bits(pair.alpha) == 3);
  const auto found = pair.beta.peer().verify.found;
  REQUIRE(found.size() == 3);
  CHECK(found[0].first_block == 6);
  CHECK(found[2].block_count == 1);

  // The bits that it leaves lead to a resync of those blocks, whenever the two meet again.
  pair.lose_link();
  pair.connect();
  CHECK((pair.alpha.disk == pair.beta.disk));
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
}

TEST_CASE("verify with repair copies what differs from the Primary while both stay UpToDate") {
  Pair pair;
  make_written(pair);
  rot(pair.beta, 6);
  rot(pair.beta, 20000);
  pair.beta.seen.clear();
  order_verify(pair.alpha, true);
  pair.run();
  require_verified(pair.alpha, 2, 0);
  require_verified(pair.beta, 2, 0);
  CHECK((pair.alpha.disk == pair.beta.disk));
  CHECK(pair.beta.stable_disk[6] == 7);
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
  CHECK(pair.beta.count_seen("write") + pair.beta.count_seen("zeroes") == 2);
  CHECK_FALSE(has_note(pair.alpha, NoteKind::PeerDropped));
  CHECK(pair.beta.superblock.disk_state == DiskState::UpToDate);
}

TEST_CASE("resync after a verify repairs what it found, beside the application's writes") {
  Pair pair;
  make_written(pair);
  rot(pair.beta, 6);
  order_verify(pair.alpha);
  pair.run();
  OrderGiven resync;
  resync.kind = OrderKind::Resync;
  resync.every_peer = false;
  CHECK(pair.alpha.answered(pair.alpha.order(resync), Outcome::Done));
  pair.alpha.write(2, blocks(7), 8);
  pair.run();
  CHECK(pair.alpha.replies.at(2) == 0);
  CHECK((pair.alpha.disk == pair.beta.disk));
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
  CHECK_FALSE(has_note(pair.alpha, NoteKind::PeerDropped));
}

TEST_CASE("a Secondary's verify is the Primary's work, and the Primary's copy counts") {
  Pair pair;
  make_written(pair);
  rot(pair.alpha, 6);
  CHECK(pair.beta.answered(order_verify(pair.beta, true), Outcome::Done));
  pair.run();
  require_verified(pair.beta, 1, 0);
  CHECK(pair.beta.disk[6] == 666);
}

TEST_CASE("without a Primary verify marks, and repair is refused: nobody says whose copy counts") {
  Pair pair;
  make_written(pair);
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  rot(pair.beta, 6);
  CHECK(pair.alpha.answered(order_verify(pair.alpha, true), Outcome::NoSource));
  CHECK(pair.alpha.answered(order_verify(pair.alpha), Outcome::Done));
  pair.run();
  require_verified(pair.alpha, 1, 1);
}

TEST_CASE("verify is refused unless both copies are UpToDate and Established, and while one runs") {
  Pair pair;
  make_written(pair);
  pair.alpha.holds_reads = true;
  order_verify(pair.alpha);
  pair.run();
  CHECK(pair.alpha.answered(order_verify(pair.alpha), Outcome::VerifyRuns));
  CHECK(pair.beta.answered(order_verify(pair.beta), Outcome::VerifyRuns));
  pair.lose_link();
  pair.alpha.holds_reads = false;
  CHECK(pair.alpha.answered(order_verify(pair.alpha), Outcome::NotConnected));
}

TEST_CASE("verify racing with writes: a write in flight is never a difference") {
  // Held back at each step, the write is before the comparison or behind it, on both sides the same.
  for (int held = 0; held < 4; ++held) {
    INFO(held);
    Pair pair;
    make_written(pair);
    pair.alpha.holds_writes = held == 0;
    pair.beta.holds_writes = held == 1;
    pair.alpha.holds_reads = held == 2;
    pair.beta.holds_reads = held == 3;
    pair.alpha.write(0, blocks(6), 8);
    order_verify(pair.alpha);
    pair.run();
    pair.alpha.write(1, blocks(7), 9);
    pair.alpha.request(2, ClientOperation::Trim, blocks(8));
    pair.run();
    pair.alpha.holds_writes = pair.beta.holds_writes = pair.alpha.holds_reads = pair.beta.holds_reads = false;
    pair.run();
    require_verified(pair.alpha, 0, 0);
    CHECK(pair.beta.disk[6] == 8);
    CHECK(pair.beta.disk[7] == 9);
    CHECK((pair.alpha.disk == pair.beta.disk));
  }
}

TEST_CASE("a verify that loses its link is interrupted on both sides, and what it had found is kept") {
  Pair pair;
  make_written(pair);
  rot(pair.beta, 6);
  pair.holds_to_alpha = true;
  order_verify(pair.alpha);
  pair.run();
  CHECK(pair.beta.peer().verify.runs);
  pair.lose_link();
  pair.holds_to_alpha = false;
  CHECK_FALSE(pair.alpha.peer().verify.complete);
  CHECK_FALSE(pair.beta.peer().verify.complete);
  CHECK(pair.beta.peer().verify.ended == 1);
  pair.connect();
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  order_verify(pair.alpha, true);
  pair.run();
  CHECK((pair.alpha.disk == pair.beta.disk));
}

TEST_CASE("a repair that loses its link goes on as a resync of what is left") {
  Pair pair;
  make_written(pair);
  rot(pair.beta, 6);
  rot(pair.beta, 9);
  pair.beta.holds_flushes = true;
  order_verify(pair.alpha, true);
  pair.run();
  pair.lose_link();
  pair.beta.holds_flushes = false;
  CHECK(pair.alpha.peer().out_of_sync_blocks == 2);
  pair.run();
  pair.connect();
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  CHECK((pair.alpha.disk == pair.beta.disk));
}

TEST_CASE("a switchover interrupts a verify, and finds nothing that is not there") {
  Pair pair;
  make_written(pair);
  pair.beta.holds_reads = true;
  order_verify(pair.alpha);
  pair.run();
  OrderGiven over;
  over.kind = OrderKind::Switchover;
  over.every_peer = false;
  const uint64_t ticket = pair.alpha.order(over);
  pair.run();
  pair.beta.holds_reads = false;
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  REQUIRE(pair.beta.is_primary());
  pair.beta.write(0, blocks(6), 8);
  pair.run();
  CHECK(pair.beta.replies.at(0) == 0);
  CHECK_FALSE(pair.alpha.peer().verify.complete);
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
  CHECK_FALSE(has_note(pair.alpha, NoteKind::VerifyDiffers));
}

TEST_CASE("an error while a verify reads is never a difference") {
  Pair pair;
  make_written(pair);
  pair.alpha.holds_reads = true;
  order_verify(pair.alpha);
  pair.run();
  pair.alpha.next_io_errno = 5;
  pair.alpha.holds_reads = false;
  pair.run();
  CHECK_FALSE(has_note(pair.alpha, NoteKind::VerifyDiffers));
  CHECK_FALSE(pair.alpha.peer().verify.complete);
}

TEST_CASE("a full resync of equal content compares and copies nothing") {
  Pair pair;
  make_written(pair);
  pair.beta.order(OrderKind::Invalidate);
  pair.beta.seen.clear();
  pair.run();
  pair.connect();
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  CHECK(pair.beta.is_up_to_date());
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
  CHECK(pair.beta.count_seen("write") + pair.beta.count_seen("zeroes") == 0);
  CHECK(pair.beta.count_seen("compare") == kTestBlocks / kBlocksPerComparison);
}

TEST_CASE("a full resync copies the blocks that differ, and those alone") {
  Pair pair;
  make_written(pair);
  rot(pair.beta, 6);
  rot(pair.beta, 9);
  pair.beta.order(OrderKind::Invalidate);
  pair.beta.seen.clear();
  pair.run();
  pair.connect();
  CHECK(pair.beta.is_up_to_date());
  CHECK((pair.alpha.disk == pair.beta.disk));
  CHECK(pair.beta.count_seen("write") + pair.beta.count_seen("zeroes") == 2);
}

TEST_CASE("where everything differs, a resync soon stops asking") {
  Pair pair;
  make_written(pair);
  for (uint64_t block = 0; block < kTestBlocks; ++block) rot(pair.beta, block);
  pair.beta.order(OrderKind::Invalidate);
  pair.beta.seen.clear();
  pair.run();
  pair.connect();
  CHECK(pair.beta.is_up_to_date());
  CHECK((pair.alpha.disk == pair.beta.disk));
  CHECK(pair.beta.count_seen("compare") < 40);
}

TEST_CASE("the crashed Primary's hot extents are compared before they are copied") {
  Pair pair;
  make_written(pair);
  pair.alpha.crash();
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  pair.beta.order(promote);
  pair.run();
  pair.beta.write(0, blocks(6), 8);
  pair.run();
  pair.alpha.start();
  pair.alpha.seen.clear();
  pair.run();
  pair.connect();
  CHECK(pair.alpha.is_up_to_date());
  CHECK((pair.alpha.disk == pair.beta.disk));
  CHECK(pair.alpha.count_seen("write") == 1);
  CHECK(pair.alpha.count_seen("compare") > 0);
}

TEST_CASE("what was found equal is cleared only when it is stable at the target") {
  Pair pair;
  make_written(pair);
  pair.beta.order(OrderKind::Invalidate);
  pair.run();
  pair.beta.holds_flushes = true;
  pair.connect();
  CHECK(pair.beta.count_seen("compare") > 0);
  CHECK(pair.alpha.peer().out_of_sync_blocks == kTestBlocks);
  pair.beta.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
}

TEST_CASE("a write behind a comparison is out of sync again when the link is lost before it is stable") {
  Pair pair;
  make_written(pair);
  pair.beta.order(OrderKind::Invalidate);
  pair.run();
  pair.beta.holds_flushes = true;
  pair.connect();
  pair.holds_to_beta = true;  // the barrier behind the comparisons arrived; the write does not
  pair.alpha.write(0, blocks(6), 8);
  pair.run();
  pair.beta.holds_flushes = false;
  pair.run();
  pair.lose_link();
  pair.holds_to_beta = false;
  CHECK(pair.alpha.replica().is_out_of_sync(0, 6));
  pair.run();
  pair.connect();
  CHECK((pair.alpha.disk == pair.beta.disk));
  CHECK(pair.beta.disk[6] == 8);
}

TEST_CASE("a node that has not heard of the new Primary compares with it, and breaks no rule") {
  Pair pair;
  make_written(pair);
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  pair.alpha.holds_persists = true;  // what it is Primary by, and tells
  pair.alpha.order(OrderKind::Promote);
  pair.run();
  REQUIRE(pair.beta.peer().role == Role::Secondary);
  CHECK(pair.beta.answered(order_verify(pair.beta), Outcome::Done));
  pair.run();
  CHECK_FALSE(has_note(pair.alpha, NoteKind::RuleBroken));
  pair.alpha.holds_persists = false;
  pair.run();
  for (int i = 0; i < 3; ++i) pair.connect();
  CHECK(pair.alpha.is_primary());
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  CHECK_FALSE(pair.beta.peer().verify.runs);
}

}  // namespace lockstep::repl
