// Who of three holds more than whom, told as stories: by a place in a Primary's stream, or by what was answered without
// the others.
#include <array>
#include <catch2/catch.hpp>

#include "tests/unit/core/trio.h"

namespace lockstep::repl {
TEST_CASE("of two survivors the one that holds more of the stream is the source, whatever their names") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  trio.holds[0][1] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(trio.gamma.disk[6] == 2);
  trio.alpha.crash();
  trio.holds[0][1] = false;
  trio.settle();
  CHECK(trio.peer(trio.beta, trio.gamma).own_report.position.through <
        trio.peer(trio.beta, trio.gamma).peer_report.position.through);
  CHECK(trio.beta.disk[6] == 2);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a target whose source is promoted meanwhile knows how much of its stream it holds") {
  Trio trio;
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.alpha.holds_reads = true;
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.alpha).replication == ReplicationState::SyncTarget);
  trio.alpha.order(OrderKind::Promote);
  trio.run();
  REQUIRE(trio.alpha.is_primary());
  trio.alpha.holds_reads = false;
  trio.settle();
  REQUIRE(trio.are_alike(trio.alpha, trio.gamma));
  // Only gamma gets the last write.
  trio.holds[0][1] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(trio.gamma.disk[6] == 2);
  trio.alpha.crash();
  trio.holds[0][1] = false;
  trio.settle();
  CHECK(trio.peer(trio.gamma, trio.beta).decision.rule == Rule::EqualSelfReceivedMore);
  CHECK(trio.beta.disk[6] == 2);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a target whose source gives up the role meanwhile knows how much of its stream it holds") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  OrderGiven resume;
  resume.kind = OrderKind::Resume;
  resume.alone = true;
  trio.alpha.order(resume);
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.holds_reads = true;
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.alpha).replication == ReplicationState::SyncTarget);
  write(trio, trio.alpha, blocks(7), 2);
  // Only gamma gets the last write.
  trio.holds[0][1] = true;
  trio.alpha.write(1, blocks(6), 3);
  trio.run();
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.lose_link(trio.alpha, trio.beta);  // for which the write has waited
  trio.run();
  REQUIRE_FALSE(trio.alpha.is_primary());
  trio.holds[0][1] = false;
  trio.alpha.holds_reads = false;
  trio.run();
  REQUIRE(trio.gamma.disk[6] == 3);
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.beta.disk[6] == 3);
  CHECK(trio.gamma.disk[6] == 3);
}

TEST_CASE("who has its data from a node that was ahead of a third one is ahead of it, too") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.protocol = Protocol::A;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.holds[0][1] = trio.holds[0][2] = true;
  write(trio, trio.alpha, blocks(6), 2);  // neither has it
  trio.alpha.crash();
  trio.holds[0][1] = trio.holds[0][2] = false;
  trio.beta.crash();
  trio.alpha.start();
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.gamma.disk[6] == 2);
  // alpha is away, and beta, whose name sorts first, comes back.
  trio.alpha.crash();
  trio.beta.start();
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.peer(trio.beta, trio.gamma).decision.rule == Rule::EqualPeerCrashedAhead);
  CHECK(trio.beta.disk[6] == 2);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a Primary that gives up its role under protocol A is ahead of a peer that it has just lost") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.protocol = Protocol::A;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  OrderGiven switchover;
  switchover.kind = OrderKind::Switchover;
  switchover.peer = Trio::place(trio.alpha, trio.gamma);
  trio.alpha.order(switchover);
  trio.settle();
  REQUIRE(trio.gamma.is_primary());
  write(trio, trio.gamma, blocks(6), 1);
  // What is flushed here is in alpha's cache only, and alpha's name sorts first.
  trio.alpha.holds_flushes = true;
  write(trio, trio.gamma, blocks(6), 2);
  trio.gamma.flush(1);
  trio.run();
  REQUIRE(trio.gamma.replies.at(1) == 0);
  trio.lose_link(trio.gamma, trio.alpha);
  trio.lose_link(trio.gamma, trio.beta);
  trio.lose_link(trio.alpha, trio.beta);
  trio.gamma.order(OrderKind::Demote);
  trio.run();
  REQUIRE_FALSE(trio.gamma.is_primary());
  trio.alpha.crash(true);
  trio.alpha.holds_flushes = false;
  trio.gamma.crash(true);
  trio.alpha.start();
  trio.gamma.start();
  trio.connect(trio.alpha, trio.gamma);
  CHECK(trio.alpha.disk[6] == 2);
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("a Primary that gives up its role is ahead of whom the peer that it has lost brings up to date") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) {
    each.protocol = Protocol::A;
    each.on_peer_loss = LossPolicy::Suspend;
  }
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  OrderGiven resume;
  resume.kind = OrderKind::Resume;
  resume.alone = true;
  trio.alpha.order(resume);
  trio.run();
  write(trio, trio.alpha, blocks(5), 1);
  REQUIRE(trio.alpha.superblock.current == trio.beta.superblock.current);
  trio.holds[0][1] = true;
  write(trio, trio.alpha, blocks(6), 2);
  trio.lose_link(trio.alpha, trio.beta);
  trio.holds[0][1] = false;
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE_FALSE(trio.alpha.is_primary());
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.are_alike(trio.beta, trio.gamma));
  REQUIRE(trio.gamma.superblock.current == trio.alpha.superblock.current);
  const bool restarts = GENERATE(true, false);
  if (restarts) {
    trio.alpha.crash();
    trio.alpha.start();
  }
  const Rule rule = restarts ? Rule::EqualSelfCrashedAhead : Rule::EqualPeerMayLack;  // who lives knows what it wrote
  trio.connect(trio.alpha, trio.gamma);
  CHECK(trio.peer(trio.alpha, trio.gamma).decision.rule == rule);
  CHECK(trio.gamma.disk[6] == 2);
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.beta.disk[6] == 2);
}

TEST_CASE(
    "a Primary that crashed is ahead still of who lacked its answers, once a survivor has brought it up to date") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  options[2].peer_protocols[0] = Protocol::A;  // towards alpha
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  OrderGiven switchover;
  switchover.kind = OrderKind::Switchover;
  switchover.peer = Trio::place(trio.alpha, trio.gamma);
  trio.alpha.order(switchover);
  trio.settle();
  REQUIRE(trio.gamma.is_primary());
  write(trio, trio.gamma, blocks(6), 1);
  trio.holds[2][0] = true;
  write(trio, trio.gamma, blocks(6), 2);
  trio.gamma.flush(1);
  trio.run();
  REQUIRE(trio.gamma.replies.at(1) == 0);
  trio.alpha.crash(true);
  trio.gamma.crash(true);
  trio.holds[2][0] = false;
  trio.gamma.start();
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.beta).decision.rule == Rule::EqualSelfCrashed);
  trio.beta.crash(true);
  trio.gamma.crash(true);
  trio.alpha.start();
  trio.gamma.start();
  trio.connect(trio.alpha, trio.gamma);
  CHECK(trio.peer(trio.alpha, trio.gamma).decision.rule == Rule::EqualPeerCrashedAhead);
  CHECK(trio.alpha.disk[6] == 2);
  CHECK(trio.gamma.disk[6] == 2);
}

TEST_CASE("a Primary that has given up its role holds more than who was restarted since, whoever was promoted nearly") {
  Trio trio;
  trio.make_mirrored();
  trio.gamma.holds_flushes = true;  // what it has is in its cache
  write(trio, trio.alpha, blocks(5), 1);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  trio.gamma.crash(true);
  trio.gamma.holds_flushes = false;
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE(trio.gamma.disk[5] == 0);
  trio.holds[0][1] = true;  // alpha grants beta's promotion, and does not know any more who was waited for
  trio.beta.order(promote_fenced());
  trio.run();
  REQUIRE(trio.alpha.superblock.waited_for == WaitedFor::Unknown);
  trio.beta.crash();
  trio.holds[0][1] = false;
  trio.gamma.start();
  trio.connect(trio.alpha, trio.gamma);
  CHECK(trio.alpha.disk[5] == 1);
  CHECK(trio.gamma.disk[5] == 1);
}

}  // namespace lockstep::repl
