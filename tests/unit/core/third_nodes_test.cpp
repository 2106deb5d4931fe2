// What is true of three nodes, told as stories; trio_resync_test.cpp has those of resyncs, ahead_test.cpp those of who
// holds more than whom.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/trio.h"

namespace lockstep::repl {
TEST_CASE("three nodes get the same writes, and the survivors of the Primary agree") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5, 3), 1);
  CHECK(trio.beta.disk[6] == 1);
  CHECK(trio.gamma.disk[6] == 1);
  // One write reaches beta only.
  trio.holds[0][2] = true;
  trio.alpha.write(1, blocks(5), 2);
  trio.run();
  CHECK(trio.beta.disk[5] == 2);
  trio.alpha.crash();
  trio.holds[0][2] = false;
  trio.settle();
  CHECK(trio.are_alike(trio.beta, trio.gamma));
  CHECK(trio.bits(trio.beta, trio.gamma) == 0);
}

TEST_CASE("a node that was left out may have got the generation from a third one before that came back") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  const bool waits_for_all = GENERATE(true, false);
  for (ReplicaOptions& each : options) {
    if (!waits_for_all) each.sync = {SyncChoice::Any, 1};
  }
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.holds_reads = true;  // the resync does not end
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.alpha).replication == ReplicationState::SyncTarget);
  // Both lose the Primary, which notices nothing; beta completes what gamma lacks.
  trio.lose_link_unnoticed(trio.beta, trio.alpha);
  trio.lose_link_unnoticed(trio.gamma, trio.alpha);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.are_alike(trio.beta, trio.gamma));
  REQUIRE(trio.gamma.superblock.current == trio.alpha.superblock.current);
  trio.connect(trio.alpha, trio.beta);
  // Where it waits for beta alone, gamma may be its target for all that it knows.
  if (waits_for_all) trio.pass(4'000'000);
  REQUIRE((trio.peer(trio.alpha, trio.gamma).connection == ConnectionState::Connecting) == waits_for_all);
  write(trio, trio.alpha, blocks(6), 2);
  CHECK(trio.alpha.superblock.current != trio.gamma.superblock.current);
  CHECK(trio.alpha.superblock.current == trio.beta.superblock.current);
}

TEST_CASE("a node that holds zeroes still, whatever it is called, is never refused") {
  Trio trio;
  trio.settle();
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  // gamma takes a first generation from beta, who never hears of it.
  trio.holds[2][1] = true;
  trio.beta.order(promote_fenced());
  trio.run();
  trio.lose_link(trio.beta, trio.gamma);
  trio.holds[2][1] = false;
  REQUIRE(trio.gamma.superblock.unanswered_since == kHeldByNobody);
  // It hands it on to alpha, and both are lost before the end.
  trio.gamma.holds_reads = true;
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).replication == ReplicationState::SyncTarget);
  trio.gamma.crash();
  // beta is alone, and begins.
  trio.beta.order(promote_fenced());
  trio.run();
  REQUIRE(trio.beta.is_primary());
  write(trio, trio.beta, blocks(7), 3);
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.alpha.disk[7] == 3);
  trio.gamma.start();
  trio.settle();
  CHECK(trio.are_alike(trio.gamma, trio.beta));
}

TEST_CASE(
    "a disk that holds zeroes still brings them to those that were to hold nothing else, and are no copies any more") {
  Trio trio;
  trio.settle();
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  // gamma takes a first generation from beta, which is not promoted.
  trio.holds[2][1] = true;
  const uint64_t ticket = trio.beta.order(promote_fenced());
  trio.run();
  trio.lose_link(trio.beta, trio.gamma);
  trio.holds[2][1] = false;
  REQUIRE(trio.beta.answered(ticket, Outcome::PeerLost));
  REQUIRE(trio.gamma.superblock.unanswered_since == kHeldByNobody);
  // Its disk fails while alpha is to get the name.
  trio.gamma.next_flush_errno = EIO;
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.gamma.replica().status().disk_state == DiskState::Failed);
  REQUIRE(trio.alpha.superblock.disk_state == DiskState::Inconsistent);
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.beta.is_up_to_date());
  // beta's copy may break off, too.
  trio.beta.holds_reads = true;
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::SyncTarget);
  trio.lose_link(trio.alpha, trio.beta);
  trio.beta.holds_reads = false;
  trio.run();
  trio.connect(trio.alpha, trio.beta);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.alpha.superblock.unanswered_since.is_zero());
  trio.gamma.attach();
  trio.settle();
  CHECK(trio.are_alike(trio.gamma, trio.beta));
  CHECK((trio.alpha.is_up_to_date() && trio.beta.is_up_to_date() && trio.gamma.is_up_to_date()));
  trio.alpha.order(OrderKind::Promote);
  trio.settle();
  write(trio, trio.alpha, blocks(7), 3);
  CHECK(trio.beta.disk[7] == 3);
  CHECK(trio.gamma.disk[7] == 3);
}

TEST_CASE("a demotion does not wait for held writes when the peer is lost that had to store a generation for them") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.holds[0][2] = true;
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.run();
  REQUIRE(trio.alpha.replies.count(0) == 0);
  // Without gamma: in a new generation, which beta has to store first.
  trio.holds[1][0] = true;
  OrderGiven order;
  order.kind = OrderKind::Resume;
  order.alone = true;
  trio.alpha.order(order);
  trio.run();
  REQUIRE(trio.alpha.replies.count(0) == 0);
  const uint64_t ticket = trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE_FALSE(trio.alpha.answered(ticket, Outcome::Done));
  trio.lose_link(trio.alpha, trio.beta);
  trio.run();
  CHECK(trio.alpha.replies.at(0) == ESHUTDOWN);
  CHECK(trio.alpha.answered(ticket, Outcome::Done));
}

TEST_CASE("each peer has a protocol of its own, also in an order that changes it") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  options[0].peer_protocols[1] = Protocol::A;  // towards gamma
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  CHECK(trio.peer(trio.alpha, trio.beta).protocol == Protocol::C);
  CHECK(trio.peer(trio.alpha, trio.gamma).protocol == Protocol::A);
  CHECK_FALSE(trio.alpha.superblock.peers[0].answered_ahead);
  CHECK(trio.alpha.superblock.peers[1].answered_ahead);
  trio.holds[0][2] = true;
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.flush(0);
  trio.run();
  CHECK(trio.alpha.replies.at(0) == 0);
  CHECK(trio.beta.stable_disk[5] == 1);
  trio.holds[0][2] = false;
  trio.holds[0][1] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK(trio.alpha.replies.count(1) == 0);
  trio.holds[0][1] = false;
  trio.run();
  REQUIRE(trio.alpha.replies.at(1) == 0);

  OrderGiven change;
  change.kind = OrderKind::SetProtocol;
  change.protocol = Protocol::C;
  change.peer_protocols[0] = Protocol::A;
  const uint64_t ticket = trio.alpha.order(change);
  trio.run();
  CHECK(trio.alpha.answered(ticket, Outcome::Done));
  CHECK(trio.peer(trio.alpha, trio.beta).protocol == Protocol::A);
  CHECK(trio.peer(trio.alpha, trio.gamma).protocol == Protocol::C);
  trio.holds[0][1] = true;
  write(trio, trio.alpha, blocks(7), 3);
  CHECK(trio.gamma.disk[7] == 3);
}

TEST_CASE("writes that were stable everywhere before they could be answered make room for those that wait") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) {
    each.transfer_log_entries = each.resync_slots + 4;
    each.flush_interval_us = 300'000;
  }
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.holds_writes = true;
  for (uint32_t slot = 1; slot <= 6; ++slot) trio.alpha.write(slot, blocks(5 + slot), slot);
  trio.run();
  trio.beta.holds_persists = true;  // it does not store the new generation, and nothing is answered
  trio.alpha.holds_writes = false;
  trio.pass(1'500'000);
  REQUIRE(trio.peer(trio.alpha, trio.beta).flushed == trio.peer(trio.alpha, trio.beta).sent);
  REQUIRE(trio.alpha.replies.count(1) == 0);
  trio.beta.holds_persists = false;
  trio.pass(500'000);
  for (uint32_t slot = 1; slot <= 6; ++slot) {
    CAPTURE(slot);
    REQUIRE(trio.alpha.replies.count(slot) == 1);
    CHECK(trio.alpha.replies.at(slot) == 0);
  }
}

TEST_CASE("a node that lacks what a failed disk has is not UpToDate beside one that does not know of it") {
  Trio trio;
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.next_persist_errno = EIO;
  trio.alpha.write(0, blocks(5 * kBlocksPerExtent), 2);
  trio.run();
  REQUIRE(trio.alpha.replica().status().disk_state == DiskState::Failed);
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE_FALSE(trio.alpha.is_primary());
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.beta.replica().status().disk_state == DiskState::Outdated);
  trio.lose_link(trio.beta, trio.gamma);
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.peer(trio.beta, trio.gamma).decision.rule == Rule::EqualClean);
  CHECK(trio.beta.replica().status().disk_state == DiskState::Outdated);
}

TEST_CASE("a Primary whose flush failed while no peer could serve is no source when it is back") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.protocol = Protocol::A;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  REQUIRE(trio.beta.disk[5] == 1);
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.next_flush_errno = EIO;
  trio.alpha.flush(0);
  trio.run();
  REQUIRE(trio.alpha.replica().status().disk_state == DiskState::Failed);
  trio.alpha.crash(true);  // its cache has lost the write, and its metadata has not
  REQUIRE(trio.alpha.disk[5] == 0);
  REQUIRE(trio.alpha.superblock.current == trio.beta.superblock.current);
  trio.alpha.start();
  trio.connect(trio.alpha, trio.beta);
  CHECK(trio.beta.disk[5] == 1);
  CHECK(trio.alpha.disk[5] == 1);
}

TEST_CASE("a node that gives up its data while it compares them with another breaks no rule") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5, 3), 1);
  trio.alpha.crash();
  trio.lose_link(trio.beta, trio.gamma);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.beta, trio.gamma).replication == ReplicationState::Established);
  OrderGiven order;
  order.peer = Trio::place(trio.beta, trio.gamma);
  order.every_peer = false;
  order.kind = OrderKind::Verify;
  trio.beta.holds_reads = true;
  trio.beta.order(order);
  trio.run();
  REQUIRE(trio.peer(trio.gamma, trio.beta).verify.runs);
  trio.beta.holds_persists = true;
  order.kind = OrderKind::Invalidate;
  trio.beta.order(order);
  trio.run();
  REQUIRE(trio.peer(trio.gamma, trio.beta).disk_state == DiskState::Inconsistent);
  trio.beta.holds_reads = false;
  trio.run();
  trio.beta.holds_persists = false;
  trio.run();
  const auto broke_a_rule = [](const Note& note) { return note.kind == NoteKind::RuleBroken; };
  CHECK(std::none_of(trio.gamma.notes.begin(), trio.gamma.notes.end(), broke_a_rule));
  trio.alpha.start();
  trio.settle();
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a node that compares its data with one that follows a Primary which it does not see breaks no rule") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5, 3), 1);
  trio.alpha.flush(0);
  trio.pass(1'100'000);
  OrderGiven order;
  order.kind = OrderKind::Disconnect;
  trio.alpha.order(order);
  trio.run();
  trio.lose_link(trio.beta, trio.gamma);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.beta).replication == ReplicationState::Established);
  // alpha finds beta again, and says that it has no link to gamma.
  order.kind = OrderKind::Connect;
  trio.alpha.order(order);
  trio.connect(trio.alpha, trio.beta);
  trio.pass(1'100'000);
  REQUIRE(trio.peer(trio.beta, trio.gamma).replication == ReplicationState::Off);
  order = OrderGiven{};
  order.kind = OrderKind::Verify;
  order.peer = Trio::place(trio.gamma, trio.beta);
  order.every_peer = false;
  REQUIRE(trio.peer(trio.gamma, trio.beta).replication == ReplicationState::Established);
  const uint64_t ticket = trio.gamma.order(order);
  trio.run();
  REQUIRE(trio.gamma.answered(ticket, Outcome::Done));
  const auto broke_a_rule = [](const Note& note) { return note.kind == NoteKind::RuleBroken; };
  CHECK(std::none_of(trio.beta.notes.begin(), trio.beta.notes.end(), broke_a_rule));
  trio.settle();
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a node that disconnects while a handshake is under way connects when it is told to") {
  Trio trio;
  trio.make_mirrored();
  trio.lose_link(trio.beta, trio.gamma);
  trio.gamma.holds_writes = true;  // it says nothing to beta before that is done
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.connect(trio.beta, trio.gamma);
  trio.gamma.holds_persists = true;  // that it is Outdated
  trio.gamma.order(OrderKind::Disconnect);
  trio.run();
  trio.gamma.holds_writes = false;
  trio.run();
  trio.gamma.holds_persists = false;
  trio.run();
  CHECK(trio.peer(trio.gamma, trio.beta).connection == ConnectionState::StandAlone);
  trio.gamma.order(OrderKind::Connect);
  trio.settle();
  CHECK(trio.peer(trio.gamma, trio.beta).connection == ConnectionState::Connected);
  CHECK(trio.peer(trio.gamma, trio.alpha).connection == ConnectionState::Connected);
}

TEST_CASE("a promotion beside a node that is behind does not wait for its resync") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.gamma.order(OrderKind::Disconnect);
  trio.run();
  write(trio, trio.alpha, blocks(5), 1);
  trio.gamma.order(OrderKind::Connect);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.beta, trio.gamma).replication == ReplicationState::Off);  // the Primary decides
  trio.alpha.order(OrderKind::Demote);
  trio.beta.holds_reads = true;  // no resync ends
  trio.run();
  REQUIRE(trio.peer(trio.beta, trio.gamma).replication == ReplicationState::Off);
  trio.beta.order(promote_fenced());
  trio.run();
  trio.connect(trio.beta, trio.gamma);
  trio.run();
  REQUIRE(trio.beta.is_primary());
  CHECK(trio.beta.replica().status().suspension == Suspension::No);
  write(trio, trio.beta, blocks(6), 2);
}

TEST_CASE("a role is handed over though a third node is away, without which its Primary had gone on") {
  const bool is_away_from_both = GENERATE(true, false);
  Trio trio;
  trio.make_mirrored();
  if (is_away_from_both) {
    trio.gamma.crash();
    write(trio, trio.alpha, blocks(5), 1);
  } else {
    trio.lose_link(trio.beta, trio.gamma);
  }
  OrderGiven hand_over;
  hand_over.kind = OrderKind::Switchover;
  hand_over.peer = Trio::place(trio.alpha, trio.beta);
  const uint64_t ticket = trio.alpha.order(hand_over);
  trio.run();
  CHECK(trio.alpha.answered(ticket, is_away_from_both ? Outcome::Done : Outcome::Restored));
  CHECK(trio.beta.is_primary() == is_away_from_both);
  CHECK(trio.alpha.is_primary() != is_away_from_both);
  write(trio, is_away_from_both ? trio.beta : trio.alpha, blocks(6), 2);
}

TEST_CASE("a role that somebody is waited for is not handed over: nobody has vouched for that one") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.gamma.crash();
  trio.run();
  OrderGiven hand_over;
  hand_over.kind = OrderKind::Switchover;
  hand_over.peer = Trio::place(trio.alpha, trio.beta);
  const uint64_t ticket = trio.alpha.order(hand_over);
  trio.run();
  CHECK(trio.alpha.answered(ticket, Outcome::PeerAbsent));
  CHECK(trio.alpha.is_primary());
}

}  // namespace lockstep::repl
