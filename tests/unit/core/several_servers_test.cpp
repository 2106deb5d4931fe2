// A Primary whose disk is gone, and more than one peer that serves its clients.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/trio.h"

namespace lockstep::repl {
namespace {

bool has_noted(const Side& side, NoteKind kind) {
  return std::any_of(side.notes.begin(), side.notes.end(), [kind](const Note& note) { return note.kind == kind; });
}

// alpha has no disk; beta has taken its new generation, and gamma, whose flush takes long, has not.
void make_half_served(Trio& trio) {
  trio.make_mirrored();
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.gamma.holds_flushes = true;
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  REQUIRE(trio.beta.superblock.current == trio.alpha.replica().status().generation);
  REQUIRE(trio.gamma.superblock.current == trio.alpha.superblock.current);
}

// alpha's disk is gone, and its write is under way to beta when gamma is asked to serve as well.
void make_late_server(Trio& trio, bool servers_are_linked) {
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  if (servers_are_linked) {
    trio.lose_link(trio.beta, trio.gamma);
    trio.connect(trio.beta, trio.gamma);
    REQUIRE(trio.peer(trio.beta, trio.gamma).replication == ReplicationState::Established);
  }
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  trio.beta.holds_persists = true;  // it confirms later
  trio.connect(trio.alpha, trio.beta);
  trio.run();
  REQUIRE(trio.peer(trio.alpha, trio.beta).sent > 0);
  REQUIRE(trio.alpha.replies.count(1) == 0);
  trio.connect(trio.alpha, trio.gamma);
  trio.run();
  trio.beta.holds_persists = false;
  trio.run();
}

}  // namespace

TEST_CASE("without a disk nothing is answered before every peer that serves has taken the new generation") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.holds_writes = true;
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(trio.gamma.disk[5] == 1);
  // The local write fails, and gamma's word is late.
  trio.holds[2][0] = true;
  trio.alpha.next_io_errno = EIO;
  trio.alpha.holds_writes = false;
  trio.run();
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::Established);
  REQUIRE(trio.beta.superblock.current == trio.alpha.replica().status().generation);
  CHECK(trio.alpha.replies.count(0) == 0);
  trio.holds[2][0] = false;
  trio.run();
  CHECK(trio.alpha.replies.at(0) == 0);
  CHECK(trio.gamma.superblock.current == trio.beta.superblock.current);
}

TEST_CASE("a Primary without a disk has no more under way than fits into the logs of the peers that serve") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  constexpr uint64_t kBlocksOfExtent = kExtentBytes / kBlockBytes;
  constexpr uint32_t kWrites = 15;
  static_assert(2 * kWrites > 18);  // slots of the activity log
  for (uint32_t slot = 0; slot < kWrites; ++slot) {
    trio.alpha.write(slot, blocks((2 * slot + 1) * kBlocksOfExtent - 1, 2), slot + 1);
  }
  trio.run();
  for (uint32_t slot = 0; slot < kWrites; ++slot) {
    CAPTURE(slot);
    REQUIRE(trio.alpha.replies.count(slot) == 1);
    CHECK(trio.alpha.replies.at(slot) == 0);
    CHECK(trio.gamma.disk[(2 * slot + 1) * kBlocksOfExtent] == slot + 1);
  }
}

TEST_CASE("a peer that is asked to serve beside another one gets what that one was sent before it came") {
  Trio trio;
  make_late_server(trio, false);
  REQUIRE(trio.alpha.replies.count(1) == 1);
  CHECK(trio.alpha.replies.at(1) == 0);
  CHECK(trio.beta.disk[6] == 2);
  CHECK(trio.gamma.disk[6] == 2);
}

TEST_CASE("bits that one server keeps for another end when that one is Primary") {
  Trio trio;
  make_late_server(trio, true);
  trio.alpha.flush(2);
  trio.run();
  REQUIRE(trio.alpha.replies.at(2) == 0);
  REQUIRE(trio.bits(trio.beta, trio.gamma) > 0);  // the first that was sent went to beta alone
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.gamma.order(OrderKind::Promote);
  trio.settle();
  REQUIRE(trio.gamma.is_primary());
  CHECK(trio.bits(trio.beta, trio.gamma) == 0);
  CHECK(trio.bits(trio.gamma, trio.beta) == 0);
}

TEST_CASE("a peer that served and left does not pass for the one that serves now") {
  Trio trio;
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.at(1) == 0);
  // beta hands its data on to gamma, and gamma is the one that comes back.
  trio.lose_link(trio.alpha, trio.beta);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.are_alike(trio.beta, trio.gamma));
  trio.lose_link(trio.beta, trio.gamma);
  trio.connect(trio.alpha, trio.gamma);
  trio.alpha.write(2, blocks(7), 3);
  trio.run();
  REQUIRE(trio.alpha.replies.at(2) == 0);
  CHECK(trio.gamma.disk[7] == 3);
  CHECK(trio.gamma.superblock.current != trio.beta.superblock.current);
  trio.settle();
  trio.alpha.attach();
  trio.settle();
  CHECK(trio.alpha.is_primary());
  CHECK(trio.beta.disk[7] == 3);
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
  CHECK(trio.are_alike(trio.alpha, trio.beta));
}

TEST_CASE("what only the peer that serves has got is out of sync there with the one that was away") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  trio.alpha.flush(1);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);
  REQUIRE(trio.alpha.replies.at(1) == 0);
  // Its extent may turn cold from here on.
  CHECK(trio.beta.replica().is_out_of_sync(Trio::place(trio.beta, trio.gamma), 6));
  // alpha is gone, and beta copies by its bits alone.
  trio.alpha.crash();
  trio.run();
  trio.connect(trio.beta, trio.gamma);
  trio.run();
  CHECK(trio.gamma.disk[6] == 2);
}

TEST_CASE("what one peer cannot read another one is asked for") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.beta.bad_blocks = {5};
  trio.alpha.request(1, ClientOperation::Read, blocks(5));
  trio.run();
  CHECK(trio.alpha.replies.at(1) == 0);
  CHECK(trio.alpha.read_values.at(1) == std::vector<uint32_t>{1});
  trio.gamma.bad_blocks = {5};
  trio.alpha.request(2, ClientOperation::Read, blocks(5));
  trio.run();
  CHECK(trio.alpha.replies.at(2) == EIO);
}

TEST_CASE("a peer that serves is not asked for the next generation before it has taken the first") {
  Trio trio;
  make_half_served(trio);
  trio.lose_link(trio.alpha, trio.beta);
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK(trio.alpha.replies.count(1) == 0);
  trio.gamma.holds_flushes = false;
  trio.run();
  CHECK_FALSE(has_noted(trio.gamma, NoteKind::RuleBroken));
  CHECK(trio.alpha.replies.at(1) == 0);
  CHECK(trio.gamma.superblock.current != trio.beta.superblock.current);
  trio.settle();
  trio.alpha.attach();
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.beta.disk[6] == 2);
}

TEST_CASE("a peer that was lost before it took the new generation serves as well as before while nothing is answered") {
  Trio trio;
  make_half_served(trio);
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.gamma.holds_flushes = false;
  trio.run();
  REQUIRE(trio.gamma.superblock.current == trio.alpha.superblock.current);
  trio.connect(trio.alpha, trio.gamma);
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK_FALSE(has_noted(trio.alpha, NoteKind::DataLost));
  CHECK(trio.alpha.replies.at(1) == 0);
  CHECK(trio.gamma.disk[6] == 2);
  trio.settle();
  trio.alpha.attach();
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.beta.disk[6] == 2);
}

TEST_CASE("a peer that gives up its data may be asked to serve before that is heard of") {
  Trio trio;
  trio.make_mirrored();
  trio.holds[2][0] = true;
  trio.gamma.holds_persists = true;
  OrderGiven invalidate;
  invalidate.kind = OrderKind::Invalidate;
  invalidate.every_peer = false;
  invalidate.peer = Trio::place(trio.gamma, trio.beta);
  trio.gamma.order(invalidate);
  trio.run();
  REQUIRE(trio.gamma.replica().status().disk_state == DiskState::Inconsistent);
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.lose_link(trio.alpha, trio.beta);
  trio.run();
  CHECK_FALSE(has_noted(trio.gamma, NoteKind::RuleBroken));
  trio.gamma.holds_persists = false;
  trio.holds[2][0] = false;
  trio.settle();
  trio.alpha.write(1, blocks(6), 2);
  trio.settle();
  CHECK(trio.alpha.replies.at(1) == 0);
  trio.alpha.attach();
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
  CHECK(trio.gamma.disk[6] == 2);
}

TEST_CASE("a disk that serves a Primary's clients is not given up for that of another peer") {
  Trio trio;
  make_half_served(trio);
  OrderGiven invalidate;
  invalidate.every_peer = false;
  invalidate.kind = GENERATE(OrderKind::Invalidate, OrderKind::InvalidatePeer);
  Side& told = invalidate.kind == OrderKind::Invalidate ? trio.beta : trio.gamma;
  invalidate.peer = Trio::place(told, told.number() == trio.beta.number() ? trio.gamma : trio.beta);
  const uint64_t ticket = told.order(invalidate);
  trio.run();
  CHECK_FALSE(told.answered(ticket, Outcome::Done));
  CHECK(trio.beta.is_up_to_date());

  // gamma has not taken the generation, and is lost before it does, as is the Primary.
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.crash();
  trio.gamma.holds_flushes = false;
  trio.settle();
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a resync of the Primary's disk from one peer takes its stream from no other peer that serves") {
  Trio trio;
  make_half_served(trio);
  trio.alpha.write(2, blocks(2048, 1024), 7);  // so much that the resync does not come to its last blocks
  trio.run();
  trio.alpha.attach();
  trio.run();
  // gamma, which has not taken the generation yet, serves; beta, which has, is source.
  trio.beta.holds_reads = true;
  trio.connect(trio.alpha, trio.gamma);
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::SyncTarget);
  trio.gamma.holds_flushes = false;
  trio.run();
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.at(1) == 0);
  const bool has_it = trio.gamma.disk[6] == 2;
  CHECK((has_it || trio.gamma.superblock.current != trio.beta.superblock.current));
  trio.beta.holds_reads = false;
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
  CHECK(trio.gamma.disk[6] == 2);
}

TEST_CASE("a peer that has taken a generation in which nothing was answered is no stranger to the Primary's own disk") {
  const bool writes = GENERATE(true, false);
  Trio trio;
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);
  trio.alpha.attach();
  trio.run();
  // beta is the source, and gamma serves beside it, but for its word.
  trio.gamma.holds_flushes = true;
  trio.connect(trio.alpha, trio.gamma);
  trio.beta.holds_reads = true;
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::SyncTarget);
  const Generation shared = trio.beta.superblock.current;
  // beta is about to say that all is copied.
  trio.beta.holds_persists = true;
  trio.beta.holds_reads = false;
  trio.run();
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::SyncTarget);
  // gamma comes back for the next generation, which beta does not take any more.
  trio.gamma.holds_flushes = false;
  trio.run();
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.gamma.superblock.current == trio.alpha.replica().status().generation);
  REQUIRE(trio.gamma.superblock.current != shared);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.beta.holds_persists = false;
  trio.run();
  REQUIRE_FALSE(trio.alpha.replica().status().served_by_peer);
  if (writes) {
    trio.alpha.write(1, blocks(6), 2);
    trio.run();
    CHECK(trio.alpha.replies.at(1) == 0);
  }
  trio.settle();
  CHECK_FALSE(has_noted(trio.alpha, NoteKind::SplitBrain));
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("a node is not promoted beside one that it was behind while there was a Primary") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.alpha.flush(1);
  trio.run();
  trio.gamma.holds_flushes = true;
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  REQUIRE(trio.beta.superblock.current != trio.gamma.superblock.current);
  trio.lose_link(trio.beta, trio.gamma);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.gamma, trio.beta).decision.rule == Rule::PrimaryDecidesSelfIsBehind);
  REQUIRE(trio.gamma.is_up_to_date());
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE_FALSE(trio.alpha.is_primary());
  REQUIRE(trio.peer(trio.gamma, trio.beta).connection == ConnectionState::Connected);
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  const uint64_t ticket = trio.gamma.order(promote);
  trio.run();
  CHECK(trio.gamma.answered(ticket, Outcome::NotUpToDate));
  CHECK_FALSE(trio.gamma.is_primary());
}

TEST_CASE(
    "a peer whose disk failed with what it had received does not serve, also when it says so before there is need") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.protocol = Protocol::B;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.beta.holds_writes = true;
  trio.beta.next_io_errno = EIO;
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);  // beta has received it
  trio.beta.holds_writes = false;
  trio.run();
  trio.connect();
  REQUIRE(trio.peer(trio.alpha, trio.beta).disk_state == DiskState::Failed);
  REQUIRE(trio.beta.disk[6] == 0);
  // gamma, which has it, is to serve, and is not heard of.
  trio.holds[0][2] = true;
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.beta.attach();
  trio.run();
  trio.connect(trio.alpha, trio.beta);
  CHECK_FALSE(has_noted(trio.beta, NoteKind::ServesPeer));
  CHECK_FALSE(has_noted(trio.alpha, NoteKind::DataLost));
  trio.holds[0][2] = false;
  trio.run();
  trio.alpha.request(1, ClientOperation::Read, blocks(6));
  trio.run();
  CHECK(trio.alpha.read_values.at(1) == std::vector<uint32_t>{2});
}

TEST_CASE("a peer that may lack what an earlier Primary answered does not serve while it prepares its resync") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  options[2].prepares_resyncs = true;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.lose_link(trio.beta, trio.gamma);
  trio.alpha.crash();
  // It has its data from a Primary that crashed, ahead of gamma.
  PeerRecord& of_gamma = trio.alpha.superblock.peers[Trio::place(trio.alpha, trio.gamma)];
  of_gamma.crashed_primary = of_gamma.answered_ahead = true;
  of_gamma.ahead_term = trio.alpha.superblock.term;
  trio.alpha.start();
  trio.connect(trio.alpha, trio.beta);
  trio.alpha.order(promote_fenced());
  trio.run();
  REQUIRE(trio.alpha.is_primary());
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).decision.rule == Rule::PeerPrepares);
  trio.beta.holds_persists = true;  // it confirms later
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.connect(trio.alpha, trio.gamma);
  trio.beta.holds_persists = false;
  trio.run();
  CHECK(has_noted(trio.beta, NoteKind::ServesPeer));
  CHECK_FALSE(has_noted(trio.gamma, NoteKind::ServesPeer));
}

TEST_CASE("a peer that was found alike just before the disk is lost serves, too") {
  Trio trio;
  trio.make_mirrored();
  trio.gamma.crash();
  trio.gamma.start();
  trio.holds[0][2] = true;  // alpha knows, and gamma does not yet
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).replication == ReplicationState::Established);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).disk_state == DiskState::Consistent);
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK(trio.alpha.replies.count(1) == 0);  // gamma may be promoted in the generation that it holds
  trio.holds[0][2] = false;
  trio.run();
  CHECK(trio.alpha.replies.at(1) == 0);
  CHECK(has_noted(trio.gamma, NoteKind::ServesPeer));
  CHECK(trio.gamma.disk[6] == 2);
}

TEST_CASE("what the only peer that served never got no third one can bring") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.protocol = Protocol::A;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.holds[0][1] = true;
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.at(1) == 0);
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.lose_link(trio.alpha, trio.beta);
  trio.holds[0][1] = false;
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.are_alike(trio.beta, trio.gamma));
  trio.connect(trio.alpha, trio.gamma);
  CHECK(has_noted(trio.alpha, NoteKind::DataLost));
  trio.alpha.flush(2);
  trio.run();
  CHECK(trio.alpha.replies.at(2) == EIO);
}

TEST_CASE("a Primary whose metadata has failed is heard on a new link") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.next_persist_errno = EIO;
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);
  REQUIRE(trio.alpha.replica().status().disk_state == DiskState::Failed);
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.connect(trio.alpha, trio.gamma);
  CHECK(trio.peer(trio.gamma, trio.alpha).connection == ConnectionState::Connected);
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.count(1) == 1);
  CHECK(trio.alpha.replies.at(1) == 0);
}

TEST_CASE("a peer that was away when the Primary's disk was lost does not serve without what was answered") {
  const bool meets_both = GENERATE(true, false);
  const bool runs_ahead = GENERATE(true, false);
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) {
    each.protocol = runs_ahead ? Protocol::A : Protocol::C;
    each.on_peer_loss = LossPolicy::Suspend;
  }
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.holds[0][1] = runs_ahead;  // else it has the write in its cache only
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);
  trio.beta.crash(true);
  trio.beta.start();
  trio.holds[0][1] = false;
  trio.run();
  // gamma, which has the write, is to serve, and is lost before it does.
  trio.holds[0][2] = true;
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  if (meets_both) {
    trio.connect(trio.alpha, trio.beta);  // which tries again later
    CHECK_FALSE(has_noted(trio.alpha, NoteKind::DataLost));
  }
  trio.lose_link(trio.alpha, trio.gamma);
  trio.gamma.crash();
  trio.holds[0][2] = false;
  trio.connect(trio.alpha, trio.beta);
  CHECK(has_noted(trio.alpha, NoteKind::DataLost));
  CHECK(trio.beta.superblock.current == trio.alpha.superblock.current);
  // What was answered is on this disk still.
  trio.alpha.attach();
  trio.alpha.order(OrderKind::Demote);
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.beta.disk[6] == 2);
}

TEST_CASE("a peer whose loss suspended the Primary is waited for no more when it serves") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.beta);
  REQUIRE(trio.alpha.replica().status().suspension == Suspension::PeerLoss);
  trio.gamma.holds_flushes = true;  // it takes the new generation later
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.connect(trio.alpha, trio.beta);
  trio.gamma.holds_flushes = false;
  trio.run();
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  CHECK(trio.alpha.replica().status().suspension == Suspension::No);
  REQUIRE(trio.alpha.replies.count(0) == 1);
  CHECK(trio.alpha.replies.at(0) == 0);
  CHECK(trio.beta.disk[5] == 1);
  trio.alpha.attach();
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("a peer that the Primary was bringing up to date when its disk was lost does not serve") {
  const bool other_serves = GENERATE(true, false);
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);
  // beta loses what it had in its cache, and comes back; the start of its resync is on its way.
  trio.beta.crash(true);
  trio.beta.start();
  trio.run();
  REQUIRE(trio.beta.disk[6] == 0);
  trio.alpha.holds_persists = true;
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::WFBitMapS);
  // gamma is to serve, and has not heard of it.
  trio.holds[0][2] = true;
  trio.alpha.order(OrderKind::Detach);
  trio.alpha.holds_persists = false;
  trio.run();
  trio.connect(trio.alpha, trio.beta);
  CHECK_FALSE(has_noted(trio.alpha, NoteKind::DataLost));
  CHECK(trio.beta.superblock.current == trio.alpha.superblock.current);
  if (other_serves) {
    trio.holds[0][2] = false;
    trio.run();
    CHECK(trio.gamma.superblock.current == trio.alpha.replica().status().generation);
    // Its data is gamma's next, and as good.
    trio.lose_link(trio.alpha, trio.gamma);
    trio.connect(trio.beta, trio.gamma);
    REQUIRE(trio.are_alike(trio.beta, trio.gamma));
    trio.connect(trio.alpha, trio.beta);
    trio.alpha.flush(1);
    trio.run();
    REQUIRE(trio.alpha.replies.count(1) == 1);
    CHECK(trio.alpha.replies.at(1) == 0);
    CHECK_FALSE(has_noted(trio.alpha, NoteKind::DataLost));
  } else {
    trio.lose_link(trio.alpha, trio.gamma);
    trio.holds[0][2] = false;
    trio.gamma.crash(true);
    trio.connect(trio.alpha, trio.beta);
    CHECK(has_noted(trio.alpha, NoteKind::DataLost));
    CHECK(trio.beta.superblock.current == trio.alpha.superblock.current);
    // What was answered is on this disk still.
    trio.alpha.attach();
    trio.alpha.order(OrderKind::Demote);
    trio.gamma.start();
  }
  trio.settle();
  CHECK(trio.beta.disk[6] == 2);
}

TEST_CASE("what the only peer that served has lost with its power no third one can bring") {
  const bool lost_power = GENERATE(true, false);
  Trio trio;
  trio.make_mirrored();
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);
  if (lost_power) {
    trio.beta.crash(true);
    trio.beta.start();
    trio.run();
    REQUIRE(trio.beta.disk[6] == 0);
  } else {
    trio.lose_link(trio.alpha, trio.beta);
  }
  // beta hands its data on to gamma, and gamma is the one that comes back.
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.gamma.superblock.current == trio.alpha.replica().status().generation);
  trio.lose_link(trio.beta, trio.gamma);
  trio.connect(trio.alpha, trio.gamma);
  trio.alpha.flush(1);
  trio.run();
  CHECK(trio.alpha.replies.count(1) == (lost_power ? 0 : 1));
  CHECK_FALSE(has_noted(trio.alpha, NoteKind::DataLost));
  trio.connect(trio.alpha, trio.beta);
  CHECK(has_noted(trio.alpha, NoteKind::DataLost) == lost_power);
  REQUIRE(trio.alpha.replies.count(1) == 1);
  CHECK(trio.alpha.replies.at(1) == (lost_power ? EIO : 0));
}

TEST_CASE("what is held when the disk is lost is asked of a peer that comes back to serve without it") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.holds[0][2] = true;
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(trio.beta.disk[5] == 1);
  trio.holds[0][2] = false;
  trio.lose_link(trio.alpha, trio.gamma);
  trio.run();
  REQUIRE(trio.alpha.replies.empty());
  REQUIRE(trio.alpha.replica().status().suspension == Suspension::PeerLoss);
  trio.holds[1][0] = true;  // beta has not taken the new generation when gamma is back: both are as good
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).decision.rule == Rule::SelfServedByPeer);
  trio.holds[1][0] = false;
  trio.run();
  trio.settle();
  CHECK(trio.alpha.replies.at(0) == 0);
  CHECK(trio.gamma.disk[5] == 1);
}

TEST_CASE("a peer that could be source of the Primary's disk serves beside the one that is") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.alpha.attach();
  trio.run();
  trio.gamma.holds_flushes = true;
  trio.connect(trio.alpha, trio.gamma);
  trio.beta.holds_reads = true;
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.peer(trio.alpha, trio.beta).replication == ReplicationState::SyncTarget);
  // gamma takes the next generation, and beta does not say that it has.
  trio.holds[1][0] = true;
  trio.gamma.holds_flushes = false;
  trio.run();
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.gamma.superblock.current == trio.alpha.replica().status().generation);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.connect(trio.alpha, trio.gamma);
  CHECK(trio.peer(trio.alpha, trio.gamma).connection == ConnectionState::Connected);
  CHECK(trio.peer(trio.alpha, trio.gamma).decision.kind == SyncKind::Serve);
  // And it goes on with the copy when the other one is lost.
  trio.lose_link(trio.alpha, trio.beta);
  trio.run();
  trio.holds[1][0] = false;
  trio.connect(trio.alpha, trio.gamma);
  CHECK(trio.peer(trio.alpha, trio.gamma).decision.kind == SyncKind::Target);
  trio.beta.holds_reads = false;
  trio.settle();
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("a peer that serves does not know that another one is behind: that one may serve, too") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Detach);
  trio.run();
  // What is in flight when both lose alpha leaves bits; beta is about to be the source of gamma.
  trio.holds[0][1] = trio.holds[0][2] = true;
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  trio.holds[0][1] = trio.holds[0][2] = false;
  trio.beta.holds_flushes = true;
  trio.run();
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.beta.holds_flushes = false;
  trio.run();
  trio.beta.holds_persists = true;
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.beta, trio.gamma).replication == ReplicationState::WFBitMapS);
  trio.beta.holds_persists = false;
  trio.beta.holds_flushes = true;  // the start waits no more, and alpha comes back
  trio.holds[1][2] = true;
  trio.run();
  trio.connect(trio.alpha, trio.beta);
  trio.connect(trio.alpha, trio.gamma);
  trio.holds[1][2] = false;
  trio.beta.holds_flushes = false;
  trio.run();
  REQUIRE(trio.beta.superblock.current == trio.gamma.superblock.current);
  trio.alpha.write(1, blocks(6), 2);
  trio.run();
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.beta, trio.gamma);
  trio.alpha.write(2, blocks(7), 3);
  trio.run();
  trio.beta.crash();
  trio.beta.start();
  trio.run();
  CHECK_FALSE(trio.beta.is_up_to_date());
}

}  // namespace lockstep::repl
