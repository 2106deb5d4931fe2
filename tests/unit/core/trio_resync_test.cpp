// Resyncs beside a third node, told as stories: who is source to whom, and what is true before one begins or when it
// breaks off.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/trio.h"

namespace lockstep::repl {
TEST_CASE("a target gives up its copy when it knows that its source is one still") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  for (Side* side : {&trio.alpha, &trio.beta, &trio.gamma}) side->crash();
  trio.beta.start();
  trio.gamma.start();
  trio.run();
  trio.beta.holds_persists = true;
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.beta).replication == ReplicationState::WFBitMapT);
  // The start arrives. Meanwhile beta may have become a target itself.
  trio.holds[2][1] = true;
  trio.beta.holds_persists = false;
  trio.run();
  CHECK(trio.gamma.superblock.disk_state != DiskState::Inconsistent);
  const bool source_goes = GENERATE(true, false);
  if (source_goes) trio.lose_link(trio.beta, trio.gamma);
  CHECK(trio.gamma.superblock.disk_state != DiskState::Inconsistent);
  trio.holds[2][1] = false;
  trio.settle();
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a target whose source is gone before it has answered is source to others") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  for (Side* side : {&trio.alpha, &trio.beta, &trio.gamma}) side->crash();
  trio.alpha.start();
  trio.beta.start();
  trio.run();
  trio.alpha.holds_persists = true;
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.beta, trio.alpha).replication == ReplicationState::WFBitMapT);
  trio.holds[1][0] = true;
  trio.alpha.holds_persists = false;
  trio.run();
  trio.alpha.crash();
  trio.holds[1][0] = false;
  trio.gamma.start();
  trio.settle();
  CHECK(trio.peer(trio.beta, trio.gamma).replication == ReplicationState::Established);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a node that has met a newer copy is not promoted, though its resync has not begun") {
  Trio trio;
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.crash();
  trio.beta.holds_persists = true;
  trio.connect(trio.beta, trio.gamma);
  trio.holds[2][1] = true;
  trio.beta.holds_persists = false;
  trio.run();
  trio.lose_link(trio.beta, trio.gamma);
  const uint64_t ticket = trio.gamma.order(promote_fenced());
  trio.run();
  CHECK_FALSE(trio.gamma.answered(ticket, Outcome::Done));
  CHECK(trio.gamma.superblock.disk_state == DiskState::Outdated);
}

TEST_CASE("a target whose disk fails makes nobody old who holds what it was to get") {
  Trio trio;
  trio.make_mirrored();
  trio.gamma.holds_flushes = true;
  write(trio, trio.alpha, blocks(5), 1);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.gamma.holds_flushes = false;
  trio.run();
  // A resync that breaks off before its start leaves the generation's own name in the history, which the next one
  // brings.
  trio.gamma.holds_persists = true;
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).replication == ReplicationState::WFBitMapS);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.gamma.holds_persists = false;
  trio.run();
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.gamma.is_up_to_date());
  trio.gamma.holds_flushes = true;
  write(trio, trio.alpha, blocks(6), 2);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.gamma.holds_flushes = false;
  trio.run();
  trio.alpha.holds_reads = true;
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.alpha).replication == ReplicationState::SyncTarget);
  REQUIRE(trio.gamma.superblock.sync_toward == trio.beta.superblock.current);
  trio.gamma.next_io_errno = EIO;
  trio.alpha.holds_reads = false;
  trio.run();
  REQUIRE(trio.gamma.replica().status().disk_state == DiskState::Failed);
  trio.lose_link(trio.beta, trio.gamma);
  SECTION("while that one is connected to the Primary") {}
  SECTION("or has lost it") {
    trio.lose_link(trio.alpha, trio.beta);
  }
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.peer(trio.beta, trio.gamma).decision.rule == Rule::PeerDiskless);
  CHECK(trio.beta.is_up_to_date());
}

TEST_CASE("what is answered before a target has confirmed its start needs a generation that it does not hold") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  trio.gamma.holds_flushes = true;
  write(trio, trio.alpha, blocks(6), 2);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.gamma.holds_flushes = false;
  trio.run();
  trio.gamma.holds_persists = true;
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).replication == ReplicationState::WFBitMapS);
  REQUIRE(trio.gamma.superblock.current == trio.alpha.superblock.current);
  trio.alpha.flush(1);
  trio.run();
  REQUIRE(trio.alpha.replies.at(1) == 0);
  // Without alpha, beta is not the equal of gamma, who may lack what was flushed.
  CHECK(trio.alpha.superblock.current != trio.gamma.superblock.current);
  CHECK(trio.beta.superblock.current == trio.alpha.superblock.current);
}

TEST_CASE("a node that is made ready for a resync is not the newest beside a third one that is as old") {
  ReplicaOptions with_handler = trio_options(1);
  with_handler.prepares_resyncs = true;
  Trio trio(trio_options(0), with_handler, trio_options(2));
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.connect(trio.beta, trio.gamma);
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.beta, trio.alpha).decision.rule == Rule::SelfPrepares);
  REQUIRE_FALSE(trio.beta.is_up_to_date());
  trio.lose_link(trio.beta, trio.gamma);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.beta, trio.gamma).replication == ReplicationState::Established);
  CHECK_FALSE(trio.beta.is_up_to_date());
  trio.beta.feed(ResyncPrepared{Trio::place(trio.beta, trio.alpha), true});
  trio.settle();
  CHECK(trio.beta.disk[5] == 1);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("what a node gets is missing at the one that it has just brought up to date, whatever the source says") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(4), 1);
  // gamma gets one write more than beta, and alpha, which wrote it, gives up the role without an answer.
  trio.holds[0][1] = true;
  trio.alpha.write(0, blocks(5), 2);
  trio.run();
  trio.lose_link(trio.alpha, trio.beta);
  trio.holds[0][1] = false;
  trio.run();
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE_FALSE(trio.alpha.is_primary());
  trio.lose_link(trio.beta, trio.gamma);
  trio.lose_link_unnoticed(trio.alpha, trio.gamma);
  trio.alpha.crash();
  trio.alpha.start();
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.alpha.disk[5] == 0);  // beta, which lives, was its source
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.beta.disk[5] == 2);
  trio.connect(trio.alpha, trio.beta);
  CHECK(trio.alpha.disk[5] == 2);
}

TEST_CASE("a resync that breaks off again and again pushes no lineage of writes out of the history") {
  Trio trio;
  trio.make_mirrored();
  const Generation oldest = trio.alpha.superblock.current;
  for (uint32_t i = 0; i < 8; ++i) {
    trio.lose_link(trio.alpha, trio.gamma);
    write(trio, trio.alpha, blocks(5), i);
    trio.connect(trio.alpha, trio.gamma);
    trio.run();
  }
  trio.beta.crash();
  write(trio, trio.alpha, blocks(6), 2);
  REQUIRE(trio.alpha.superblock.current != oldest);
  trio.beta.start();
  trio.alpha.holds_reads = true;  // no resync ends
  for (size_t i = 0; i < 2 * kHistoryGenerations; ++i) {
    trio.connect(trio.alpha, trio.beta);
    REQUIRE(trio.peer(trio.beta, trio.alpha).replication == ReplicationState::SyncTarget);
    trio.lose_link(trio.alpha, trio.beta);
    trio.run();
  }
  const auto& history = trio.alpha.superblock.history;
  CHECK(std::find(history.begin(), history.end(), oldest) != history.end());
}

TEST_CASE("a node does not know who is behind when its peer may have brought that one up to date") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.protocol = Protocol::A;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  write(trio, trio.alpha, blocks(5), 1);
  trio.holds[0][1] = true;
  write(trio, trio.alpha, blocks(6), 2);  // which beta does not get
  trio.alpha.crash();
  trio.holds[0][1] = false;
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.are_alike(trio.beta, trio.gamma));
  trio.lose_link(trio.beta, trio.gamma);
  trio.alpha.start();
  trio.alpha.holds_reads = true;
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.beta, trio.alpha).replication == ReplicationState::SyncTarget);
  // The two may have come together meanwhile, and gone on.
  trio.alpha.crash();
  trio.alpha.start();
  trio.run();
  CHECK_FALSE(trio.alpha.is_up_to_date());
}

}  // namespace lockstep::repl
