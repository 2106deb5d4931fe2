// Resync, told as stories: what is copied, what must wait for what, and what an interruption leaves.
#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

// alpha wrote `value` to block 5 while beta was away.
void write_alone(Pair& pair, uint32_t value) {
  pair.lose_link();
  pair.run();
  pair.alpha.write(0, blocks(5), value);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
}

void require_in_sync(Pair& pair) {
  REQUIRE(pair.alpha.peer().replication == ReplicationState::Established);
  REQUIRE(pair.beta.peer().replication == ReplicationState::Established);
  REQUIRE(pair.alpha.peer().out_of_sync_blocks == 0);
  REQUIRE(pair.beta.peer().out_of_sync_blocks == 0);
  REQUIRE(pair.alpha.is_up_to_date());
  REQUIRE(pair.beta.is_up_to_date());
  REQUIRE(pair.alpha.superblock.current == pair.beta.superblock.current);
  REQUIRE(pair.alpha.disk == pair.beta.disk);
}

// Up to the point where beta has the copy of block 5 and is about to say that it is stable; what it says is on the
// link.
std::vector<TestFrame> resync_until_stable_there(Pair& pair) {
  pair.beta.holds_flushes = true;
  pair.connect();
  REQUIRE(pair.alpha.peer().replication == ReplicationState::SyncSource);
  REQUIRE(pair.alpha.replica().is_out_of_sync(0, 5));
  pair.holds_to_alpha = true;
  pair.beta.holds_flushes = false;
  pair.run();
  REQUIRE_FALSE(pair.to_alpha.empty());
  return {pair.to_alpha.begin(), pair.to_alpha.end()};
}

}  // namespace

TEST_CASE("a peer that comes back gets what was written meanwhile, and nothing else") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.alpha.write(0, blocks(5, 3), 1);
  pair.alpha.write(1, blocks(9000), 2);
  pair.run();
  pair.beta.seen.clear();
  pair.connect();
  require_in_sync(pair);
  CHECK(pair.beta.disk[9000] == 2);
  CHECK(pair.beta.count_seen("write") == 2);
  CHECK(pair.beta.peer().decision.rule == Rule::SelfIsBehind);
}

TEST_CASE("blocks of zeroes are copied as zeroes") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.lose_link();
  pair.alpha.request(1, ClientOperation::Trim, blocks(5));
  pair.run();
  pair.beta.seen.clear();
  pair.connect();
  require_in_sync(pair);
  CHECK(pair.beta.count_seen("write") == 0);
  CHECK(pair.beta.count_seen("zeroes") == 1);
}

TEST_CASE("a target is Inconsistent, durably, from before the first copy until the end") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.beta.seen.clear();
  pair.alpha.holds_reads = true;
  pair.connect();
  CHECK(pair.beta.superblock.disk_state == DiskState::Inconsistent);
  CHECK(pair.beta.peer().replication == ReplicationState::SyncTarget);
  pair.lose_link();
  pair.run();
  CHECK(pair.beta.answered(pair.beta.order(promote_fenced()), Outcome::NotUpToDate));
  pair.beta.crash();
  pair.beta.start();
  pair.run();
  CHECK(pair.beta.replica().status().disk_state == DiskState::Inconsistent);
  pair.alpha.holds_reads = false;
  pair.run();
  pair.connect();
  require_in_sync(pair);
  CHECK(pair.beta.place_of("persist superblock") < pair.beta.place_of("write"));
}

TEST_CASE("no copy reaches the target's disk before Inconsistent is durable there") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.beta.seen.clear();
  pair.beta.holds_persists = true;
  pair.connect();
  pair.alpha.write(1, blocks(6), 2);  // of the application, in the same stream
  pair.run();
  CHECK(pair.beta.count_seen("write") == 0);
  CHECK(pair.alpha.replies.count(1) == 0);
  pair.beta.holds_persists = false;
  pair.run();
  require_in_sync(pair);
  CHECK(pair.alpha.replies.at(1) == 0);
}

TEST_CASE("the source copies only what its own disk has made stable") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.beta.seen.clear();
  pair.alpha.holds_flushes = true;
  pair.connect();
  CHECK(pair.alpha.peer().replication == ReplicationState::SyncSource);
  CHECK(pair.beta.count_seen("write") == 0);
  pair.alpha.holds_flushes = false;
  pair.run();
  require_in_sync(pair);
}

TEST_CASE("a bitmap that names blocks beyond the device ends the link, and no bit is taken from it") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.beta.holds_persists = true;  // so it does not send its own yet
  pair.connect();
  REQUIRE(pair.alpha.peer().replication == ReplicationState::WFBitMapS);
  const BitmapRun bad =
      GENERATE(BitmapRun{kTestBlocks, 1}, BitmapRun{kTestBlocks - 1, 2}, BitmapRun{7, UINT64_MAX}, BitmapRun{7, 0});
  pair.alpha.receive(pair.incarnation(), TestFrame{BitmapRuns{true, {}}, {{9, 1}, bad}, {}, {}});
  pair.run();
  CHECK_FALSE(pair.linked());
  CHECK(pair.alpha.replica().is_out_of_sync(0, 5));
  CHECK(pair.alpha.replica().peer_status(0).out_of_sync_blocks <= 2);
  pair.beta.holds_persists = false;
  pair.run();
  pair.connect();
  require_in_sync(pair);
}

TEST_CASE("what is answered before a target has heard of its resync is not answered in the generation that it holds") {
  Pair pair;
  pair.make_mirrored();
  const Generation common = pair.beta.superblock.current;
  // The link is lost with a write on it that is not on alpha's disk yet, either.
  pair.holds_to_beta = true;
  pair.alpha.holds_writes = true;
  pair.alpha.write(1, blocks(6), 2);
  pair.run();
  pair.lose_link();
  pair.run();
  REQUIRE(pair.alpha.superblock.current == common);
  pair.holds_to_beta = false;
  pair.alpha.holds_persists = true;  // the start of the resync waits for it
  pair.connect();
  REQUIRE(pair.alpha.peer().replication == ReplicationState::WFBitMapS);
  pair.holds_to_beta = true;
  pair.alpha.holds_persists = false;
  pair.run();
  pair.alpha.holds_writes = false;
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  CHECK_FALSE(pair.alpha.superblock.current == common);
  // Restarted, it is no Primary that beta has lived on without.
  pair.lose_link();
  pair.alpha.crash();
  pair.holds_to_beta = false;
  pair.alpha.start();
  pair.connect();
  CHECK(pair.alpha.disk[6] == 2);
  CHECK(pair.beta.disk[6] == 2);
}

TEST_CASE("a bit is cleared only when the target has the copy on stable storage") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.beta.holds_flushes = true;
  pair.connect();
  CHECK(pair.beta.disk[5] == 1);
  CHECK(pair.alpha.replica().is_out_of_sync(0, 5));
  pair.beta.crash(true);  // takes the copy with it
  pair.beta.start();
  pair.run();
  REQUIRE(pair.beta.disk[5] == 0);
  pair.connect();
  require_in_sync(pair);
  CHECK(pair.beta.disk[5] == 1);
}

TEST_CASE("a late acknowledgement of a lost link does not clear the bit of a newer write") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  const std::vector<TestFrame> late = resync_until_stable_there(pair);
  const Incarnation old = pair.incarnation();
  pair.lose_link();
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  for (const TestFrame& frame : late) pair.alpha.receive(old, frame);
  CHECK(pair.alpha.replica().is_out_of_sync(0, 5));

  pair.holds_to_alpha = false;
  pair.connect();
  for (const TestFrame& frame : late) pair.alpha.receive(old, frame);
  pair.run();
  require_in_sync(pair);
  CHECK(pair.beta.disk[5] == 2);
}

TEST_CASE("an acknowledged copy's bit comes back when the link is lost before a newer write is stable") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  const std::vector<TestFrame> acknowledgement = resync_until_stable_there(pair);
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  pair.to_alpha.clear();
  pair.beta.holds_flushes = true;
  for (const TestFrame& frame : acknowledgement) pair.alpha.receive(pair.incarnation(), frame);
  CHECK_FALSE(pair.alpha.replica().is_out_of_sync(0, 5));
  pair.lose_link();
  CHECK(pair.alpha.replica().is_out_of_sync(0, 5));

  pair.beta.crash(true);
  pair.beta.start();
  pair.holds_to_alpha = false;
  pair.run();
  pair.connect();
  require_in_sync(pair);
  CHECK(pair.beta.disk[5] == 2);
}

TEST_CASE("a write waits for the resync's read of its block, so that the copy cannot overwrite it") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.alpha.holds_reads = true;
  pair.connect();
  pair.alpha.seen.clear();
  pair.alpha.write(1, blocks(5), 2);
  pair.alpha.write(2, blocks(6), 3);
  pair.run();
  CHECK(pair.alpha.count_seen("write") == 1);  // that of block 6
  CHECK(pair.alpha.replies.count(1) == 0);
  CHECK(pair.alpha.replies.at(2) == 0);
  pair.alpha.holds_reads = false;
  pair.run();
  require_in_sync(pair);
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.beta.disk[5] == 2);
}

TEST_CASE("a resync's read waits for a write of its block that is in flight") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.alpha.holds_writes = true;
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  REQUIRE(pair.alpha.writes_under_way() == 1);
  pair.connect();
  CHECK(pair.alpha.peer().replication == ReplicationState::SyncSource);
  CHECK(pair.beta.disk[5] == 0);
  pair.alpha.holds_writes = false;
  pair.run();
  require_in_sync(pair);
  CHECK(pair.beta.disk[5] == 2);
}

TEST_CASE("a resync that is interrupted after any number of messages goes on and ends well") {
  for (uint64_t frames = 0; frames < 30; ++frames) {
    INFO("the link is lost after " << frames << " messages");
    Pair pair;
    pair.make_mirrored();
    pair.alpha.write(1, blocks(700, 2), 9);
    pair.run();
    pair.lose_link();
    for (uint32_t slot = 0; slot < 8; ++slot) pair.alpha.write(slot, blocks(slot * 1500), slot + 1);
    pair.run();
    pair.frames_left = frames;
    pair.connect();
    pair.alpha.write(9, blocks(1500), 77);
    pair.run();
    pair.lose_link();
    pair.frames_left = UINT64_MAX;
    pair.run();
    const bool beta_restarts = frames % 2 == 0;
    if (beta_restarts) {
      pair.beta.crash(true);
      pair.beta.start();
      pair.run();
    }
    pair.connect();
    require_in_sync(pair);
    CHECK(pair.alpha.replies.at(9) == 0);
    CHECK(pair.beta.disk[1500] == 77);
  }
}

// alpha, Primary, wrote down that it begins a resync and crashed before beta heard of it. beta is the source then: what
// alpha wrote down must not look, after an interruption, as if both had written apart.
TEST_CASE("a Primary that crashed at the start of its resync becomes target, and may be interrupted") {
  for (uint64_t frames = 0; frames < 12; ++frames) {
    INFO("the link is lost after " << frames << " messages");
    Pair pair;
    pair.make_mirrored();
    pair.alpha.write(0, blocks(5), 7);
    pair.run();
    pair.lose_link();
    pair.run();
    REQUIRE(pair.alpha.peer().out_of_sync_blocks > 0);
    pair.alpha.holds_persists = true;
    pair.connect();
    REQUIRE(pair.alpha.peer().replication == ReplicationState::WFBitMapS);
    pair.holds_to_beta = true;
    while (pair.alpha.complete_one_persist()) {
    }
    pair.alpha.crash();
    pair.lose_link();
    pair.alpha.holds_persists = pair.holds_to_beta = false;
    pair.alpha.start();
    pair.frames_left = frames;
    pair.connect();
    pair.lose_link();
    pair.frames_left = UINT64_MAX;
    pair.run();
    pair.connect();
    require_in_sync(pair);
  }
}

TEST_CASE("a resync that is paused copies nothing until it is resumed") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.alpha.holds_flushes = true;
  pair.connect();
  const uint64_t pause = pair.alpha.order(OrderKind::PauseResync);
  pair.alpha.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.answered(pause, Outcome::Done));
  CHECK(pair.alpha.peer().replication == ReplicationState::PausedSyncS);
  CHECK(pair.beta.disk[5] == 0);
  pair.alpha.write(1, blocks(6), 2);
  pair.run();
  CHECK(pair.beta.disk[6] == 2);  // the application's writes go on
  pair.alpha.order(OrderKind::ResumeResync);
  pair.run();
  require_in_sync(pair);
}

TEST_CASE("either side pauses a resync, which goes on when both want it, also after a reconnect") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.alpha.holds_flushes = true;
  pair.connect();
  CHECK(pair.beta.answered(pair.beta.order(OrderKind::PauseResync), Outcome::Done));
  pair.run();
  pair.alpha.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.peer().replication == ReplicationState::PausedSyncS);
  CHECK(pair.beta.peer().replication == ReplicationState::PausedSyncT);
  CHECK(pair.beta.disk[5] == 0);

  pair.lose_link();
  pair.run();
  pair.connect();
  CHECK(pair.alpha.peer().replication == ReplicationState::PausedSyncS);
  CHECK(pair.beta.peer().replication == ReplicationState::PausedSyncT);

  pair.alpha.order(OrderKind::PauseResync);
  pair.run();
  pair.beta.order(OrderKind::ResumeResync);
  pair.run();
  CHECK(pair.beta.peer().replication == ReplicationState::PausedSyncT);
  CHECK(pair.beta.disk[5] == 0);
  pair.alpha.order(OrderKind::ResumeResync);
  pair.run();
  require_in_sync(pair);
  CHECK(pair.alpha.answered(pair.alpha.order(OrderKind::PauseResync), Outcome::NotSyncing));
}

TEST_CASE("a disk that was invalidated is copied as a whole") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.beta.disk[5] = 666;
  pair.beta.disk[30'000] = 667;
  CHECK(pair.alpha.answered(pair.alpha.order(OrderKind::Invalidate), Outcome::IsPrimary));
  const uint64_t ticket = pair.beta.order(OrderKind::Invalidate);
  pair.run();
  CHECK(pair.beta.answered(ticket, Outcome::Done));
  CHECK(pair.beta.superblock.disk_state == DiskState::Inconsistent);
  pair.connect();
  require_in_sync(pair);
}

TEST_CASE("a disk that was invalidated before the first promotion is not called UpToDate without a copy") {
  Pair pair;
  pair.run();
  pair.connect();
  pair.beta.disk[5] = 666;
  pair.beta.order(OrderKind::Invalidate);
  pair.run();
  REQUIRE(pair.beta.superblock.disk_state == DiskState::Inconsistent);
  pair.connect();
  CHECK((!pair.beta.is_up_to_date() || pair.beta.disk == pair.alpha.disk));
}

TEST_CASE("two nodes that wrote apart both say so, and neither gives up data by itself") {
  Pair pair;
  pair.make_mirrored();
  write_alone(pair, 1);
  pair.beta.order(promote_fenced());
  pair.run();
  pair.beta.write(0, blocks(6), 2);
  pair.run();
  REQUIRE(pair.beta.replies.at(0) == 0);

  pair.connect();
  CHECK(pair.alpha.peer().decision.kind == SyncKind::SplitBrain);
  CHECK(pair.beta.peer().decision.kind == SyncKind::SplitBrain);
  CHECK(pair.alpha.peer().connection == ConnectionState::StandAlone);
  CHECK(pair.beta.peer().connection == ConnectionState::StandAlone);
  CHECK(pair.alpha.disk[6] == 0);
  CHECK(pair.beta.disk[5] == 0);

  // The operator gives up beta's data, by name.
  OrderGiven discard;
  discard.kind = OrderKind::Resync;
  discard.give_generation = true;
  discard.generation = pair.beta.superblock.current;
  CHECK(pair.beta.answered(pair.beta.order(discard), Outcome::IsPrimary));
  pair.beta.order(OrderKind::Demote);
  pair.run();
  discard.generation = {1, 1};
  CHECK(pair.beta.answered(pair.beta.order(discard), Outcome::WrongGeneration));
  discard.generation = pair.beta.superblock.current;
  CHECK(pair.beta.answered(pair.beta.order(discard), Outcome::Done));
  pair.connect();
  require_in_sync(pair);
  CHECK(pair.beta.peer().decision.rule == Rule::SplitBrainSelfGivesWay);
  CHECK(pair.beta.disk[5] == 1);
  CHECK(pair.beta.disk[6] == 0);
}

}  // namespace lockstep::repl
