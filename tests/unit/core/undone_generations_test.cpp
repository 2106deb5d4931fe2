// Generations in which nothing was answered, and which a restart undoes, beside a third node: told as stories.
#include <array>
#include <catch2/catch.hpp>

#include "tests/unit/core/trio.h"

namespace lockstep::repl {
namespace {

// Beta has stored what alpha made because of gamma, and alpha has not heard of it: it was restarted, has undone that,
// and is alike with gamma again. Beta is away.
void undo_beside_gamma(Trio& trio) {
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  const Generation before = trio.alpha.superblock.current;
  // beta stores what alpha makes because of gamma, and alpha does not hear of it.
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.holds_writes = true;
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  trio.holds[1][0] = true;
  trio.alpha.holds_writes = false;
  trio.run();
  REQUIRE(trio.beta.superblock.current != before);
  REQUIRE(trio.alpha.replies.count(0) == 0);
  trio.alpha.crash();
  trio.beta.crash();
  trio.holds[1][0] = false;
  trio.alpha.start();
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.are_alike(trio.alpha, trio.gamma));
  REQUIRE(trio.alpha.superblock.current == before);
}

Trio suspending_trio() {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  return {options[0], options[1], options[2]};
}

// Alpha makes a generation of which beta never hears, nor does it hear of the resync that is begun for it; gamma is on
// its way. Returns the generation before, which alpha goes back to when it is restarted.
Generation begin_two_resyncs(Trio& trio) {
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  OrderGiven resume;
  resume.kind = OrderKind::Resume;
  resume.alone = true;
  trio.alpha.order(resume);
  write(trio, trio.alpha, blocks(5), 1);
  trio.lose_link(trio.alpha, trio.beta);
  trio.connect(trio.alpha, trio.beta);
  const Generation before = trio.alpha.superblock.current;
  trio.alpha.holds_persists = true;
  trio.alpha.write(1, blocks(7), 3);
  trio.run();
  trio.holds[0][1] = true;
  trio.alpha.holds_persists = false;
  trio.run();
  REQUIRE(trio.alpha.superblock.unanswered_since == before);
  trio.lose_link(trio.alpha, trio.beta);
  trio.holds[0][1] = false;
  trio.alpha.holds_reads = true;
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.alpha).replication == ReplicationState::SyncTarget);
  trio.alpha.holds_persists = true;
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::WFBitMapS);
  trio.holds[0][1] = true;
  trio.alpha.holds_persists = false;
  trio.run();
  return before;
}

// While alpha was down, somebody else with that generation may have been promoted.
void restart_unsure(Trio& trio, const Generation& before) {
  trio.alpha.start();
  CHECK(trio.alpha.replica().superblock().current == before);
  CHECK_FALSE(trio.alpha.is_up_to_date());
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

}  // namespace

TEST_CASE("a copy that was on its way to a generation that is undone is completed by who holds the one before") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  trio.lose_link(trio.alpha, trio.gamma);
  // alpha makes a generation for a write that beta has, and beta never hears of it.
  trio.holds[1][0] = true;
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  trio.holds[0][1] = true;
  trio.holds[1][0] = false;
  trio.run();
  REQUIRE(trio.alpha.superblock.current != trio.beta.superblock.current);
  REQUIRE(trio.alpha.replies.count(0) == 0);
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.alpha).replication == ReplicationState::SyncTarget);
  trio.alpha.crash();
  trio.holds[0][1] = false;
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.peer(trio.gamma, trio.beta).decision.rule == Rule::SelfIsPartial);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
  CHECK(trio.gamma.is_up_to_date());
  trio.alpha.start();
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("a generation that was undone is as good as the one before, whoever holds it") {
  const bool runs_ahead = GENERATE(true, false);
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.protocol = runs_ahead ? Protocol::A : Protocol::C;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  if (runs_ahead) {
    trio.beta.holds_writes = true;
    write(trio, trio.alpha, blocks(6), 2);
  }
  // alpha makes a generation for a write that gamma lacks, and does not hear that beta has stored it.
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.holds_persists = true;
  trio.alpha.write(1, blocks(7), 3);
  trio.run();
  trio.holds[1][0] = true;
  trio.alpha.holds_persists = false;
  trio.run();
  const Generation made = trio.alpha.superblock.current;
  REQUIRE(trio.beta.superblock.current == made);
  REQUIRE_FALSE(trio.alpha.superblock.unanswered_since.is_zero());
  trio.alpha.crash();
  if (runs_ahead) {
    trio.beta.crash();
    trio.beta.holds_writes = false;
    trio.beta.start();
  }
  trio.holds[1][0] = false;
  trio.alpha.start();
  REQUIRE(trio.alpha.replica().superblock().undone == made);
  trio.connect(trio.alpha, trio.beta);
  CHECK(trio.peer(trio.alpha, trio.beta).decision.rule ==
        (runs_ahead ? Rule::EqualSelfCrashedAhead : Rule::EqualSelfCrashed));
  CHECK(trio.peer(trio.alpha, trio.beta).decision.extent == SyncExtent::Bitmap);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.beta.disk[6] == (runs_ahead ? 2 : 0));
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("a node that undid a generation is not sure of its data while a target may not have heard of its resync") {
  Trio trio = suspending_trio();
  const Generation before = begin_two_resyncs(trio);
  trio.alpha.crash();
  trio.alpha.holds_reads = false;
  trio.holds[0][1] = false;
  REQUIRE(trio.beta.superblock.current == before);
  REQUIRE(trio.beta.is_up_to_date());
  restart_unsure(trio, before);
}

TEST_CASE("a node that undid a generation is not sure of its data when a target has brought up another one before") {
  Trio trio = suspending_trio();
  const Generation before = begin_two_resyncs(trio);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.alpha, trio.beta);
  trio.holds[0][1] = false;
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.gamma.superblock.current == before);
  trio.lose_link(trio.beta, trio.gamma);
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.beta, trio.alpha).replication == ReplicationState::SyncTarget);
  REQUIRE(trio.alpha.superblock.unanswered_since == before);
  trio.alpha.crash();
  trio.alpha.holds_reads = false;
  REQUIRE(trio.gamma.is_up_to_date());
  restart_unsure(trio, before);
}

// A Primary loses gamma, and then beta before that one has stored what is made because of gamma.
TEST_CASE("a generation that was undone is known to whom its maker has brought up to date") {
  const bool was_alike = GENERATE(true, false);
  Trio trio;
  trio.make_mirrored();
  if (!was_alike) {
    trio.lose_link(trio.alpha, trio.gamma);
    trio.lose_link(trio.beta, trio.gamma);
  }
  write(trio, trio.alpha, blocks(5), 1);
  // alpha makes a generation for a write that gamma lacks, and does not hear that beta has stored it.
  if (was_alike) {
    trio.lose_link(trio.alpha, trio.gamma);
    trio.lose_link(trio.beta, trio.gamma);
  } else {
    trio.lose_link(trio.alpha, trio.beta);
    trio.connect(trio.alpha, trio.beta);
  }
  trio.alpha.holds_persists = true;
  trio.alpha.write(1, blocks(7), 3);
  trio.run();
  trio.holds[1][0] = true;
  trio.alpha.holds_persists = false;
  trio.run();
  const Generation made = trio.alpha.superblock.current;
  REQUIRE(trio.beta.superblock.current == made);
  REQUIRE_FALSE(trio.alpha.superblock.unanswered_since.is_zero());
  trio.alpha.crash();
  trio.holds[1][0] = false;
  trio.alpha.start();
  // A resync of beta's that it does not hear of.
  trio.beta.crash();
  trio.beta.start();
  trio.run();
  trio.alpha.holds_persists = true;
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::WFBitMapS);
  trio.lose_link(trio.alpha, trio.beta);
  trio.alpha.holds_persists = false;
  trio.run();
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.are_alike(trio.alpha, trio.gamma));
  REQUIRE(trio.gamma.superblock.current != made);
  trio.alpha.crash();
  trio.run();
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.peer(trio.beta, trio.gamma).decision.rule != Rule::SplitBrain);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a generation in which nothing is answered, because the next one follows, counts as unanswered until then") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  const PeerIndex beta = Trio::place(trio.alpha, trio.beta);
  trio.beta.holds_persists = true;
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.count(0) == 0);
  const Generation made = trio.alpha.superblock.current;
  REQUIRE_FALSE(trio.alpha.superblock.unanswered_since.is_zero());
  trio.alpha.holds_persists = true;
  trio.lose_link(trio.alpha, trio.beta);
  do {
    const SuperblockImage& durable = trio.alpha.superblock;
    const bool passes_for_beta_s = durable.current == made && durable.unanswered_since.is_zero() &&
                                   durable.peers[beta].bitmap_generation.is_zero();
    CHECK_FALSE(passes_for_beta_s);
  } while (trio.alpha.complete_one_persist());
  CHECK(trio.alpha.superblock.current != made);
  trio.alpha.holds_persists = false;
  trio.run();
  CHECK(trio.alpha.replies.at(0) == 0);
}

TEST_CASE("a Primary that loses its last peer over a new generation, and is suspended, does not make it") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  OrderGiven alone;
  alone.kind = OrderKind::Resume;
  alone.alone = true;
  trio.holds[0][2] = true;
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.holds[0][2] = false;
  trio.holds[1][0] = true;  // beta stores what alpha makes, and alpha does not hear of it
  trio.alpha.order(alone);
  trio.run();
  const Generation made = trio.alpha.superblock.current;
  REQUIRE(trio.beta.superblock.current == made);
  REQUIRE(trio.alpha.replies.count(0) == 0);
  // gamma is there for a moment, and may have been given it.
  trio.alpha.holds_reads = true;
  trio.connect(trio.alpha, trio.gamma);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.order(alone);
  trio.run();
  REQUIRE(trio.peer(trio.alpha, trio.beta).connection != ConnectionState::Connected);
  CHECK(trio.alpha.superblock.current == made);
  CHECK_FALSE(trio.alpha.superblock.unanswered_since.is_zero());
  CHECK(trio.alpha.replies.count(0) == 0);
}

TEST_CASE("a generation that was undone is known still when its maker goes on without those that hold it") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.holds_persists = true;
  trio.alpha.write(1, blocks(7), 3);
  trio.run();
  trio.holds[1][0] = true;
  trio.alpha.holds_persists = false;
  trio.run();
  const Generation made = trio.alpha.superblock.current;
  REQUIRE(trio.beta.superblock.current == made);
  trio.alpha.crash();
  trio.holds[1][0] = false;
  trio.beta.crash();
  trio.alpha.start();
  trio.run();
  REQUIRE(trio.alpha.superblock.undone == made);
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.give_generation = true;
  promote.generation = trio.alpha.superblock.current;
  trio.alpha.order(promote);
  trio.run();
  REQUIRE(trio.alpha.is_primary());
  write(trio, trio.alpha, blocks(8), 4);
  trio.beta.start();
  trio.connect(trio.alpha, trio.beta);
  CHECK(trio.peer(trio.alpha, trio.beta).decision.rule == Rule::PeerIsBehind);
  CHECK(trio.peer(trio.alpha, trio.beta).decision.extent == SyncExtent::Bitmap);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.beta.disk[8] == 4);
}

TEST_CASE("a generation that was undone is known still by a node that a third one has brought up to date") {
  Trio trio;
  undo_beside_gamma(trio);
  trio.gamma.crash();
  trio.alpha.order(promote_fenced());
  trio.run();
  write(trio, trio.alpha, blocks(7), 3);
  trio.beta.start();
  trio.connect(trio.alpha, trio.beta);
  CHECK_FALSE(trio.peer(trio.alpha, trio.beta).decision.rule == Rule::SplitBrain);
  trio.settle();
  CHECK(trio.beta.disk[7] == 3);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
}

// alpha goes on by an operator's word, and its slots are full of what beta held before.
TEST_CASE("a generation that was undone is known still by a node that serves the one that made it") {
  Trio trio;
  undo_beside_gamma(trio);
  REQUIRE(trio.peer(trio.gamma, trio.alpha).decision.kind == SyncKind::Source);  // it lived on
  trio.alpha.order(promote_fenced());
  trio.run();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.alpha.write(1, blocks(7), 3);
  trio.run();
  REQUIRE(trio.alpha.replies.at(1) == 0);
  REQUIRE(trio.gamma.disk[7] == 3);
  trio.alpha.crash();
  trio.beta.start();
  trio.connect(trio.beta, trio.gamma);
  CHECK_FALSE(trio.peer(trio.gamma, trio.beta).decision.rule == Rule::SplitBrain);
  trio.settle();
  CHECK(trio.beta.disk[7] == 3);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("what a peer may hold is remembered where no slot has room for it") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  const bool was_undone = GENERATE(false, true);
  if (was_undone) {
    trio.lose_link(trio.alpha, trio.gamma);
    trio.alpha.holds_persists = true;
    trio.alpha.write(1, blocks(7), 3);
    trio.run();
    trio.holds[1][0] = true;
    trio.alpha.holds_persists = false;
    trio.run();
  }
  trio.alpha.crash();
  trio.beta.crash();
  trio.gamma.crash();
  trio.holds[1][0] = false;
  for (PeerIndex peer = 0; peer < 2; ++peer) {
    PeerRecord& record = trio.alpha.superblock.peers[peer];
    record.bitmap_generation = Generation{9, 9};
    record.previous_bitmap_generation = was_undone ? Generation{} : Generation{8, 8};
  }
  trio.alpha.start();
  trio.run();
  REQUIRE(trio.alpha.superblock.undone.is_zero() == !was_undone);
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.give_generation = GENERATE(true, false);
  promote.peer_fenced = !promote.give_generation;
  promote.generation = trio.alpha.superblock.current;
  trio.alpha.order(promote);
  trio.run();
  REQUIRE(trio.alpha.is_primary());
  write(trio, trio.alpha, blocks(8), 4);
  trio.beta.start();
  trio.connect(trio.alpha, trio.beta);
  CHECK(trio.peer(trio.alpha, trio.beta).decision.rule == Rule::PeerIsFarBehind);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
}

}  // namespace lockstep::repl
