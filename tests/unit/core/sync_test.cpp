// Whose promises a write or a flush waits for, told as stories of three nodes.
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/trio.h"

namespace lockstep::repl {
namespace {

Trio trio_with(SyncChoice choice, uint8_t count, LossPolicy policy = LossPolicy::Continue) {
  const auto options = [&](int number) {
    ReplicaOptions result = trio_options(number);
    result.sync = {choice, count};
    result.on_peer_loss = policy;
    return result;
  };
  return {options(0), options(1), options(2)};
}

bool answered(const Side& side, uint32_t slot) {
  return side.replies.count(slot) != 0 && side.replies.at(slot) == 0;
}

// Both peers have recorded something of the Primary's stream, so that one of them is enough.
void let_record(Trio& trio, Side& primary) {
  write(trio, primary, blocks(20005), 1);
  primary.flush(9);
  trio.run();
  REQUIRE(answered(primary, 9));
}

void make_recorded(Trio& trio) {
  trio.make_mirrored();
  let_record(trio, trio.alpha);
}

}  // namespace

TEST_CASE("any 1: a write and a flush are answered when one peer of two keeps what was promised") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  make_recorded(trio);
  const int silent = GENERATE(1, 2);
  trio.holds[0][static_cast<size_t>(silent)] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK(answered(trio.alpha, 1));
  trio.alpha.flush(2);
  trio.run();
  CHECK(answered(trio.alpha, 2));
  // By nobody, they are not.
  trio.holds[0][1] = trio.holds[0][2] = true;
  trio.alpha.write(3, blocks(7), 3);
  trio.alpha.flush(4);
  trio.run();
  CHECK_FALSE(answered(trio.alpha, 3));
  CHECK_FALSE(answered(trio.alpha, 4));
  trio.holds[0][1] = trio.holds[0][2] = false;
  trio.run();
  CHECK(answered(trio.alpha, 3));
  CHECK(answered(trio.alpha, 4));
}

TEST_CASE("any 1: the survivor that kept its promise is the source, whatever its name") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  make_recorded(trio);
  const int silent = GENERATE(1, 2);
  trio.holds[0][static_cast<size_t>(silent)] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(answered(trio.alpha, 1));
  trio.alpha.crash();
  trio.holds[0][static_cast<size_t>(silent)] = false;
  trio.settle();
  CHECK(trio.are_alike(trio.beta, trio.gamma));
  CHECK(trio.beta.disk[6] == 2);
  CHECK(trio.gamma.disk[6] == 2);
}

TEST_CASE("first 1: the preferred peer is waited for, and the next one when it is lost") {
  Trio trio = trio_with(SyncChoice::First, 1);
  make_recorded(trio);
  trio.holds[0][2] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK(answered(trio.alpha, 1));
  trio.holds[0][2] = false;
  trio.run();
  trio.holds[0][1] = true;
  trio.alpha.write(2, blocks(7), 3);
  trio.run();
  CHECK(trio.gamma.disk[7] == 3);
  CHECK_FALSE(answered(trio.alpha, 2));
  const Generation before = trio.alpha.superblock.current;
  trio.lose_link(trio.alpha, trio.beta);
  trio.run();
  CHECK(answered(trio.alpha, 2));
  CHECK(trio.alpha.superblock.current != before);
  CHECK(trio.gamma.superblock.current == trio.alpha.superblock.current);
}

TEST_CASE("a peer that lags behind what was answered is left behind in its generation when it is lost") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  make_recorded(trio);
  trio.holds[0][2] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(answered(trio.alpha, 1));
  const Generation before = trio.alpha.superblock.current;
  trio.lose_link(trio.alpha, trio.gamma);
  trio.run();
  CHECK(trio.alpha.superblock.current != before);
  CHECK(trio.beta.superblock.current == trio.alpha.superblock.current);
}

// One of the two has what was flushed; both lose their power, or the other lives on.
TEST_CASE("any 1: of two survivors the one that has made more stable is the source, though it was restarted") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  make_recorded(trio);
  const int silent = GENERATE(1, 2);
  const bool other_lives_on = GENERATE(false, true);
  Side& keeps = silent == 1 ? trio.gamma : trio.beta;
  Side& lacks = silent == 1 ? trio.beta : trio.gamma;
  trio.holds[0][static_cast<size_t>(silent)] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  trio.alpha.flush(2);
  trio.run();
  REQUIRE(answered(trio.alpha, 2));
  trio.alpha.crash(true);
  keeps.crash(true);
  if (!other_lives_on) lacks.crash(true);
  trio.holds[0][static_cast<size_t>(silent)] = false;
  trio.run();
  keeps.start();
  if (!other_lives_on) lacks.start();
  trio.connect(keeps, lacks);
  CHECK(trio.peer(keeps, lacks).own_report.stable_position.through >
        trio.peer(keeps, lacks).peer_report.stable_position.through);
  CHECK(keeps.disk[6] == 2);
  CHECK(lacks.disk[6] == 2);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
  // What was copied was made stable, and the target knows it.
  CHECK(lacks.superblock.stable_position == keeps.superblock.stable_position);
}

TEST_CASE("any 1: a peer acknowledges a barrier when it has recorded how far it is stable") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  make_recorded(trio);
  trio.holds[0][2] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  trio.beta.holds_persists = true;
  trio.alpha.flush(2);
  trio.run();
  CHECK(trio.beta.stable_disk[6] == 2);
  CHECK_FALSE(answered(trio.alpha, 2));
  const StreamPosition before = trio.beta.superblock.stable_position;
  trio.beta.holds_persists = false;
  trio.run();
  CHECK(answered(trio.alpha, 2));
  CHECK(trio.beta.superblock.stable_position.stream == before.stream);
  CHECK(trio.beta.superblock.stable_position.through > before.through);
}

// What it holds may look like more than what another one has flushed of the new stream.
TEST_CASE("any 1: a peer that has recorded nothing of a Primary's stream is waited for") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  trio.make_mirrored();
  const int silent = GENERATE(1, 2);
  trio.holds[0][static_cast<size_t>(silent)] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK_FALSE(answered(trio.alpha, 1));
  trio.holds[0][static_cast<size_t>(silent)] = false;
  trio.run();
  CHECK(answered(trio.alpha, 1));
  trio.holds[0][static_cast<size_t>(silent)] = true;
  trio.alpha.flush(2);
  trio.run();
  CHECK_FALSE(answered(trio.alpha, 2));
  trio.holds[0][static_cast<size_t>(silent)] = false;
  trio.run();
  CHECK(answered(trio.alpha, 2));
  trio.holds[0][static_cast<size_t>(silent)] = true;
  trio.alpha.write(3, blocks(7), 3);
  trio.run();
  CHECK(answered(trio.alpha, 3));
}

TEST_CASE("any 1: who is promoted keeps what it had recorded of the last Primary's stream") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  make_recorded(trio);
  const StreamPosition recorded = trio.beta.superblock.stable_position;
  REQUIRE(recorded.stream != 0);
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.beta.order(OrderKind::Promote);
  trio.run();
  REQUIRE(trio.beta.is_primary());
  CHECK(trio.beta.superblock.stable_position == recorded);
}

// What the answer promised is on beta, which is lost for good before the answer is given.
TEST_CASE("any 1: an answer that was held is promised by those who are left") {
  Trio trio = trio_with(SyncChoice::Any, 1, LossPolicy::Suspend);
  make_recorded(trio);
  trio.gamma.holds_writes = true;
  trio.alpha.holds_writes = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  trio.alpha.order(OrderKind::Suspend);
  trio.alpha.holds_writes = false;
  trio.run();
  REQUIRE_FALSE(answered(trio.alpha, 1));
  trio.lose_link(trio.alpha, trio.beta);
  trio.run();
  OrderGiven resume;
  resume.kind = OrderKind::Resume;
  resume.alone = true;
  trio.alpha.order(resume);
  trio.run();
  CHECK(trio.gamma.superblock.current == trio.alpha.superblock.current);
  CHECK_FALSE(answered(trio.alpha, 1));
  trio.gamma.holds_writes = false;
  trio.run();
  CHECK(answered(trio.alpha, 1));
  CHECK(trio.gamma.disk[6] == 2);
}

TEST_CASE("who crashed as Primary that waited for some peers only is the source") {
  const uint8_t count = GENERATE(uint8_t{1}, uint8_t{2});
  Trio trio = trio_with(SyncChoice::Any, count);
  trio.make_mirrored();
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(answered(trio.alpha, 1));
  // With as many as there are it is `all`.
  CHECK(trio.alpha.superblock.peers[0].answered_ahead == (count == 1));
  CHECK(trio.alpha.superblock.peers[1].answered_ahead == (count == 1));
}

TEST_CASE("any 1: that a Primary crashed says nothing of who has got a later one's stream since") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  make_recorded(trio);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  trio.alpha.crash();
  trio.alpha.start();
  trio.connect(trio.alpha, trio.beta);
  const PeerRecord& of_gamma = trio.beta.superblock.peers[Trio::place(trio.beta, trio.gamma)];
  REQUIRE(of_gamma.answered_ahead);  // as its source was
  trio.connect(trio.alpha, trio.gamma);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.order(promote_fenced());
  trio.run();
  REQUIRE(trio.alpha.is_primary());
  trio.holds[0][1] = true;  // beta does not hear that gamma is in sync
  trio.connect(trio.alpha, trio.gamma);
  trio.alpha.write(1, blocks(6), 2);
  trio.alpha.flush(2);
  trio.run();
  REQUIRE(answered(trio.alpha, 2));
  trio.alpha.crash();
  trio.beta.crash();
  trio.holds[0][1] = false;
  trio.beta.start();
  REQUIRE(of_gamma.answered_ahead);
  REQUIRE(trio.beta.superblock.current == trio.gamma.superblock.current);
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.beta.disk[6] == 2);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a promotion that is undone before the export opens counts no term") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  const SuperblockImage& image = trio.beta.replica().superblock();
  const uint32_t before = image.term;
  REQUIRE(before > 0);
  trio.beta.holds_persists = true;
  const uint64_t ticket = trio.beta.order(OrderKind::Promote);
  trio.run();
  for (int i = 0; i < 10 && image.term == before; ++i) {
    trio.beta.complete_one_persist();
    trio.run();
  }
  REQUIRE(image.term == before + 1);
  trio.beta.next_persist_errno = EIO;
  trio.beta.complete_one_persist();
  trio.run();
  REQUIRE(trio.beta.answered(ticket, Outcome::NoDisk));
  CHECK(image.term == before);
}

TEST_CASE("a Primary that gets an empty disk goes on counting its own term") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  const uint32_t term = trio.alpha.replica().superblock().term;
  REQUIRE(term > 0);
  trio.alpha.superblock = SuperblockImage{};
  trio.alpha.superblock.life.birth = 77;
  trio.alpha.attach();
  CHECK(trio.alpha.replica().superblock().term == term);
  trio.settle();
  CHECK(trio.alpha.superblock.term == term);
}

TEST_CASE("first 1: a disk that a peer has served for is ahead still of one that never got what was answered") {
  Trio trio = trio_with(SyncChoice::First, 1, LossPolicy::Suspend);
  make_recorded(trio);
  trio.lose_link(trio.beta, trio.gamma);
  trio.holds[0][2] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.alpha.flush(2);
  trio.run();
  REQUIRE(answered(trio.alpha, 1));
  REQUIRE(answered(trio.alpha, 2));
  trio.lose_link(trio.alpha, trio.gamma);
  trio.holds[0][2] = false;
  // beta serves, and is gone with that.
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  REQUIRE(trio.beta.superblock.current != trio.alpha.superblock.current);
  trio.lose_link(trio.alpha, trio.beta);
  trio.alpha.attach();
  trio.run();
  trio.alpha.crash();
  trio.alpha.start();
  trio.connect(trio.alpha, trio.gamma);
  CHECK(trio.peer(trio.alpha, trio.gamma).decision.rule == Rule::EqualSelfCrashedAhead);
  CHECK(trio.gamma.disk[6] == 2);
  CHECK(trio.alpha.disk[6] == 2);
}

TEST_CASE("any 1: who has everything when a suspended Primary gives up the role knows that another one has not") {
  Trio trio = trio_with(SyncChoice::Any, 1, LossPolicy::Suspend);
  make_recorded(trio);
  trio.holds[0][1] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.alpha.flush(2);
  trio.run();
  REQUIRE(answered(trio.alpha, 1));
  REQUIRE(answered(trio.alpha, 2));
  trio.lose_link(trio.beta, trio.gamma);
  trio.lose_link(trio.alpha, trio.beta);
  trio.holds[0][1] = false;
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE_FALSE(trio.alpha.is_primary());
  // All lose power, and beta and gamma come back.
  trio.alpha.crash(true);
  trio.beta.crash(true);
  trio.gamma.crash(true);
  trio.beta.start();
  trio.gamma.start();
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.peer(trio.gamma, trio.beta).decision.rule == Rule::EqualSelfCrashedAhead);
  CHECK(trio.beta.disk[6] == 2);
  trio.alpha.start();
  trio.settle();
  CHECK(trio.alpha.disk[6] == 2);
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
  CHECK(trio.are_alike(trio.alpha, trio.beta));
}

TEST_CASE("first 1: an export opens when what was flushed elsewhere is stable here, too") {
  Trio trio = trio_with(SyncChoice::First, 1);
  make_recorded(trio);
  trio.gamma.holds_flushes = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  trio.alpha.flush(2);
  trio.run();
  REQUIRE(answered(trio.alpha, 2));
  REQUIRE(trio.gamma.disk[6] == 2);
  REQUIRE(trio.gamma.stable_disk[6] == 0);
  trio.alpha.crash(true);
  trio.beta.crash(true);
  trio.gamma.holds_flushes = false;
  trio.run();
  trio.gamma.stable_disk[6] = 0;  // as if its last flush had come too late for that
  trio.gamma.holds_flushes = true;
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  const uint64_t ticket = trio.gamma.order(promote);
  trio.run();
  CHECK_FALSE(trio.gamma.export_open);
  trio.gamma.holds_flushes = false;
  trio.run();
  CHECK(trio.gamma.answered(ticket, Outcome::Done));
  CHECK(trio.gamma.export_open);
  CHECK(trio.gamma.stable_disk[6] == 2);
}

TEST_CASE("any 1: a generation that was made just before all peers were lost is undone, whoever goes on") {
  Trio trio = trio_with(SyncChoice::Any, 1, LossPolicy::Suspend);
  make_recorded(trio);
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.gamma.order(OrderKind::Invalidate);
  trio.run();
  trio.alpha.holds_reads = true;
  trio.connect(trio.alpha, trio.gamma);
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).replication == ReplicationState::SyncSource);
  trio.alpha.order(OrderKind::Promote);
  trio.run();
  REQUIRE(trio.alpha.is_primary());
  let_record(trio, trio.alpha);
  // Only beta has the write that is answered; then gamma is lost, and beta before it hears of the new generation.
  trio.holds[0][2] = true;
  trio.alpha.write(1, blocks(20006), 2);
  trio.run();
  REQUIRE(answered(trio.alpha, 1));
  const Generation before = trio.beta.superblock.current;
  trio.holds[0][1] = true;
  trio.lose_link(trio.alpha, trio.gamma);
  trio.run();
  REQUIRE(trio.alpha.superblock.current != before);
  trio.lose_link(trio.alpha, trio.beta);
  trio.run();
  trio.holds[0][1] = trio.holds[0][2] = false;
  trio.alpha.holds_reads = false;
  CHECK(trio.alpha.superblock.unanswered_since == before);
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  trio.beta.order(promote);
  trio.run();
  REQUIRE(trio.beta.is_primary());
  trio.beta.write(1, blocks(20007), 3);
  trio.run();
  trio.alpha.crash();
  trio.alpha.start();
  trio.settle();
  CHECK(trio.alpha.disk[20007] == 3);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a generation that a suspended Primary made, and nobody stored, is undone when it gives up the role") {
  const bool is_replaced = GENERATE(true, false);
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.holds[0][1] = true;
  OrderGiven resume;
  resume.kind = OrderKind::Resume;
  resume.alone = true;
  trio.alpha.order(resume);
  trio.run();
  REQUIRE_FALSE(trio.alpha.superblock.unanswered_since.is_zero());
  trio.lose_link(trio.alpha, trio.beta);
  trio.holds[0][1] = false;
  if (is_replaced) {
    trio.lose_link(trio.beta, trio.gamma);
    trio.beta.order(promote_fenced());
    trio.run();
    trio.beta.order(resume);
    write(trio, trio.beta, blocks(6), 2);
  }
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  if (is_replaced) {
    trio.connect(trio.alpha, trio.gamma);  // which gets nothing that would set the two apart from beta
    trio.settle();
    CHECK(trio.alpha.disk[6] == 2);
  } else {
    trio.connect();
    trio.alpha.order(OrderKind::Promote);
    trio.settle();
    REQUIRE(trio.alpha.is_primary());
  }
  CHECK(trio.alpha.superblock.unanswered_since.is_zero());
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("a generation that a suspended Primary made is handed over with the role") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.holds[0][1] = true;
  OrderGiven resume;
  resume.kind = OrderKind::Resume;
  resume.alone = true;
  trio.alpha.order(resume);
  trio.run();
  REQUIRE_FALSE(trio.alpha.superblock.unanswered_since.is_zero());
  OrderGiven hand_over;
  hand_over.kind = OrderKind::Switchover;
  hand_over.peer = Trio::place(trio.alpha, trio.beta);
  const uint64_t ticket = trio.alpha.order(hand_over);
  trio.run();
  trio.holds[0][1] = false;
  trio.run();
  CHECK(trio.alpha.answered(ticket, Outcome::Done));
  CHECK(trio.beta.is_primary());
  CHECK(trio.beta.superblock.current == trio.alpha.superblock.current);
}

TEST_CASE("any 1: who lost its power before its export opened gives way to the Primary that had answered") {
  Trio trio = trio_with(SyncChoice::Any, 1);
  make_recorded(trio);
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.beta.order(OrderKind::Promote);
  trio.settle();
  REQUIRE(trio.beta.is_primary());
  let_record(trio, trio.beta);
  trio.holds[1][0] = true;
  trio.beta.write(1, blocks(6), 2);
  trio.run();
  trio.beta.flush(2);
  trio.run();
  REQUIRE(answered(trio.beta, 2));
  trio.gamma.crash();
  trio.beta.crash();
  trio.holds[1][0] = false;
  trio.run();
  trio.alpha.holds_flushes = true;
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  trio.alpha.order(promote);
  trio.run();
  REQUIRE(trio.alpha.superblock.primary);
  REQUIRE_FALSE(trio.alpha.export_open);
  trio.alpha.crash(true);
  trio.alpha.holds_flushes = false;
  trio.alpha.start();
  trio.beta.start();
  trio.connect(trio.alpha, trio.beta);
  CHECK(trio.peer(trio.alpha, trio.beta).decision.rule == Rule::EqualPeerCrashedAhead);
  CHECK(trio.alpha.disk[6] == 2);
}

TEST_CASE("first 1: who has just been brought up to date is asked for what waited until it was") {
  Trio trio = trio_with(SyncChoice::First, 1, LossPolicy::Suspend);
  make_recorded(trio);
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.beta, trio.gamma);
  OrderGiven alone;
  alone.kind = OrderKind::Resume;
  alone.alone = true;
  trio.alpha.order(alone);
  trio.run();
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.holds_reads = true;
  trio.connect(trio.alpha, trio.beta);
  trio.beta.holds_flushes = true;
  trio.alpha.holds_reads = false;
  trio.run();
  trio.beta.holds_persists = true;  // that it is in sync
  trio.beta.holds_flushes = false;
  trio.run();
  REQUIRE(trio.beta.disk[5] == 1);
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::SyncSource);
  trio.alpha.order(OrderKind::Suspend);
  trio.alpha.order(OrderKind::Resume);
  trio.beta.holds_writes = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(trio.gamma.disk[6] == 2);
  CHECK_FALSE(answered(trio.alpha, 1));
  trio.beta.holds_persists = false;
  trio.run();
  CHECK(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::Established);
  CHECK_FALSE(answered(trio.alpha, 1));
  trio.beta.holds_writes = false;
  trio.run();
  CHECK(answered(trio.alpha, 1));
}

}  // namespace lockstep::repl
