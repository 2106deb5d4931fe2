// A Primary's disk is lost and comes back: what the peer that serves meanwhile owes it, and who has which data when
// something else fails at the same time.
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/disk_stories.h"
#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

void detach(Pair& pair) {
  pair.alpha.order(OrderKind::Detach);
  pair.run();
}

Pair protocol_a_pair(LossPolicy on_peer_loss = LossPolicy::Continue) {
  ReplicaOptions first = test_options(0);
  ReplicaOptions second = test_options(1);
  first.protocol = second.protocol = Protocol::A;
  first.on_peer_loss = second.on_peer_loss = on_peer_loss;
  return Pair(first, second);
}

}  // namespace

TEST_CASE("the peer makes stable what it was sent before it takes the generation that makes the Primary's disk old") {
  Pair pair = protocol_a_pair();
  pair.make_mirrored();
  const Generation common = pair.alpha.superblock.current;
  pair.beta.holds_flushes = true;
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  pair.alpha.flush(1);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  REQUIRE(pair.alpha.stable_disk[5] == 7);
  REQUIRE(pair.beta.stable_disk[5] == 0);
  detach(pair);
  pair.alpha.write(2, blocks(6), 8);
  pair.run();
  CHECK(pair.alpha.replies.count(2) == 0);
  CHECK(pair.beta.superblock.current == common);
  CHECK(pair.beta.disk[6] == 0);  // no bit would say that it is there

  SECTION("power is lost: the disk that was given up has what was flushed") {
    pair.alpha.crash(true);
    pair.beta.crash(true);
    pair.alpha.start();
    pair.beta.start();
    settle(pair);
    CHECK(pair.alpha.disk[5] == 7);
    CHECK(pair.beta.disk[5] == 7);
  }
  SECTION("the link is lost: what came behind the request is not written, and is asked for again") {
    pair.lose_link();
    pair.run();
    CHECK(pair.beta.disk[6] == 0);
    CHECK(pair.beta.peer().out_of_sync_blocks == 0);
    pair.beta.holds_flushes = false;
    settle(pair);
    CHECK(pair.alpha.replies.at(2) == 0);
    CHECK(pair.beta.disk[6] == 8);
    CHECK(pair.beta.superblock.peers[0].bitmap_generation == common);
  }
  SECTION("the flush ends: the peer has everything, and says so") {
    pair.beta.holds_flushes = false;
    pair.run();
    CHECK(pair.alpha.replies.at(2) == 0);
    CHECK(pair.beta.stable_disk[5] == 7);
    CHECK(pair.beta.peer().out_of_sync_blocks == 1);
    pair.alpha.attach();
    settle(pair);
    CHECK(pair.alpha.disk == pair.beta.disk);
    CHECK(pair.alpha.is_up_to_date());
  }
}

TEST_CASE("a read that is on its way when the resync of a served Primary's disk ends is answered") {
  for (uint64_t frames = 1; frames < 60; ++frames) {
    INFO(frames << " frames");
    Pair pair;
    pair.make_mirrored();
    pair.alpha.write(0, blocks(5), 7);
    pair.run();
    detach(pair);
    pair.alpha.write(1, blocks(6), 8);
    pair.run();
    pair.alpha.attach();
    pair.run();
    pair.frames_left = frames;
    pair.connect();
    pair.run();
    pair.alpha.request(2, ClientOperation::Read, blocks(5, 2));
    pair.frames_left = UINT64_MAX;
    settle(pair);
    CHECK_FALSE(noted(pair.beta, NoteKind::RuleBroken));
    CHECK(pair.alpha.replies.at(2) == 0);
    CHECK(pair.alpha.read_values.at(2) == std::vector<uint32_t>{7, 8});
    CHECK(pair.alpha.is_up_to_date());
    CHECK(pair.alpha.disk == pair.beta.disk);
  }
}

TEST_CASE("a resync that stops while writes are paused for its end lets them go on") {
  Pair pair;
  pair.make_mirrored();
  for (uint32_t slot = 0; slot < 8; ++slot) pair.alpha.write(slot, blocks(slot * 100), slot + 1);
  pair.run();
  detach(pair);
  pair.alpha.write(8, blocks(2000), 8);
  pair.run();
  pair.alpha.attach();
  pair.run();
  const bool fails = GENERATE(true, false);
  pair.beta.holds_reads = true;
  pair.connect();
  pair.alpha.write(9, blocks(2001), 9);  // fewer than 512 blocks are left: it waits
  pair.run();
  CHECK(pair.alpha.replies.count(9) == 0);
  if (fails) {
    pair.beta.bad_blocks = {2000};
  } else {
    pair.beta.order(OrderKind::PauseResync);
  }
  pair.beta.holds_reads = false;
  pair.run();
  CHECK(pair.alpha.replies.at(9) == 0);
  CHECK(pair.beta.peer().replication == ReplicationState::PausedSyncS);
  pair.alpha.write(10, blocks(2002), 10);
  pair.run();
  CHECK(pair.alpha.replies.at(10) == 0);
  pair.beta.bad_blocks.clear();
  pair.beta.order(OrderKind::ResumeResync);
  pair.run();
  settle(pair);
  CHECK(pair.alpha.is_up_to_date());
  CHECK(pair.alpha.disk == pair.beta.disk);
  pair.alpha.write(11, blocks(2003), 11);
  pair.run();
  CHECK(pair.alpha.replies.at(11) == 0);
}

TEST_CASE("acknowledged data is lost with the peer that served: also with a disk again no flush promises it") {
  Pair pair;
  pair.make_mirrored();
  detach(pair);
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  pair.beta.crash(true);
  pair.run();
  pair.beta.start();
  settle(pair);
  REQUIRE(pair.beta.disk[5] == 0);
  CHECK(noted(pair.alpha, NoteKind::DataLost));
  pair.alpha.attach();
  settle(pair);
  pair.alpha.flush(1);
  pair.alpha.write(2, blocks(6), 8);
  pair.run();
  CHECK(pair.alpha.replies.at(1) == EIO);
  CHECK(pair.alpha.replies.at(2) == EIO);
  CHECK(pair.alpha.replica().status().data_lost);
  // Not even when the disk goes once more, and the peer could serve again.
  detach(pair);
  pair.alpha.flush(4);
  pair.run();
  CHECK(pair.alpha.replies.at(4) == EIO);
  CHECK(pair.alpha.replica().status().data_lost);
  pair.alpha.attach();
  settle(pair);
  // Whoever gives up the role has told its clients, and they begin anew.
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  settle(pair);
  pair.alpha.order(OrderKind::Promote);
  pair.run();
  pair.alpha.flush(3);
  pair.run();
  CHECK(pair.alpha.replies.at(3) == 0);
  CHECK(pair.alpha.disk == pair.beta.disk);
}

TEST_CASE("the disk that served loses its cache by a failed flush, and comes back: nothing older is served for it") {
  Pair pair;
  pair.make_mirrored();
  detach(pair);
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  const bool flushed = GENERATE(true, false);
  if (flushed) {
    pair.alpha.flush(1);
    pair.run();
    REQUIRE(pair.alpha.replies.at(1) == 0);
  }
  pair.beta.next_flush_errno = EIO;
  pair.alpha.write(2, blocks(6), 8, true);
  pair.run();
  REQUIRE(disk_of(pair.beta) == DiskState::Failed);
  pair.beta.disk = pair.beta.stable_disk;  // the kernel has dropped what it could not write
  pair.beta.attach();
  settle(pair);
  pair.alpha.request(3, ClientOperation::Read, blocks(5));
  pair.run();
  if (flushed) {
    CHECK(pair.alpha.replies.at(2) == 0);  // it was not answered, and is sent again
    CHECK(pair.alpha.read_values.at(3) == std::vector<uint32_t>{7});
    CHECK(pair.beta.disk[6] == 8);
  } else {
    CHECK(pair.alpha.replies.at(2) == EIO);
    CHECK(pair.alpha.replies.at(3) == EIO);
    CHECK(noted(pair.alpha, NoteKind::DataLost));
  }
}

TEST_CASE("a peer that never got what protocol A has answered is not asked to serve: the disk that has it counts") {
  Pair pair = protocol_a_pair();
  pair.make_mirrored();
  const Generation common = pair.alpha.superblock.current;
  pair.holds_to_beta = true;
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  pair.alpha.flush(1);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  detach(pair);
  pair.lose_link();
  pair.holds_to_beta = false;
  settle(pair);
  CHECK(noted(pair.alpha, NoteKind::DataLost));
  CHECK(pair.beta.superblock.current == common);
  CHECK_FALSE(noted(pair.beta, NoteKind::ServesPeer));
  pair.alpha.order(OrderKind::Demote);
  settle(pair);
  // As long as that disk is not there, the other one is known to lack something.
  CHECK(disk_of(pair.beta) == DiskState::Outdated);
  CHECK(pair.beta.answered(pair.beta.order(OrderKind::Promote), Outcome::NotUpToDate));
  pair.alpha.attach();
  settle(pair);
  CHECK(pair.beta.disk[5] == 7);
  CHECK(pair.alpha.is_up_to_date());
  CHECK(pair.beta.is_up_to_date());
}

TEST_CASE("an answer that was held is not given once its disk is gone, unless the peer that serves has what it says") {
  ReplicaOptions first = test_options(0);
  ReplicaOptions second = test_options(1);
  first.protocol = second.protocol = Protocol::A;
  first.peer_timeout_us = second.peer_timeout_us = 1'000'000;
  Pair pair(first, second);
  pair.make_mirrored();
  pair.holds_to_beta = pair.holds_to_alpha = true;
  pair.pass(950'000);
  pair.now_us += 100'000;  // nothing was heard of beta for peer-timeout, and no tick has noticed yet
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.disk[5] == 7);
  REQUIRE(pair.alpha.replies.count(0) == 0);
  pair.alpha.order(OrderKind::Detach);
  pair.run();
  pair.pass(100'000);
  CHECK_FALSE(pair.linked());
  CHECK(pair.alpha.replies.count(0) == 0);
  pair.holds_to_beta = pair.holds_to_alpha = false;
  settle(pair);
  CHECK(pair.alpha.replies.at(0) == EIO);  // beta never got it
}

TEST_CASE("power lost at a peer that served, after the link: what was copied to the Primary's disk is there, too") {
  ReplicaOptions first = test_options(0);
  first.flush_interval_us = first.busy_flush_interval_us = 100'000'000;  // alpha asks for no flush by itself
  Pair pair(first, test_options(1));
  pair.make_mirrored();
  detach(pair);
  pair.alpha.request(0, ClientOperation::Trim, blocks(8000, 2048));
  pair.alpha.request(1, ClientOperation::Trim, blocks(21'000));
  pair.run();
  pair.alpha.attach();
  pair.beta.bad_blocks = {21'000};  // there the resync stops
  pair.run();
  pair.beta.holds_reads = true;
  pair.connect();
  pair.alpha.write(2, blocks(20'000), 9);
  pair.run();
  pair.beta.holds_reads = false;
  pair.pass(3'000'000);
  pair.pass(3'000'000);
  REQUIRE(pair.beta.peer().replication == ReplicationState::PausedSyncS);
  REQUIRE(pair.alpha.disk[20'000] == 9);
  REQUIRE(pair.alpha.stable_disk[20'000] == 9);
  REQUIRE_FALSE(pair.beta.replica().is_out_of_sync(0, 20'000));
  REQUIRE(pair.beta.stable_disk[20'000] == 0);
  pair.lose_link();
  pair.beta.holds_flushes = true;
  pair.run();
  CHECK(pair.beta.superblock.peers[0].bitmap_in_memory);
  pair.beta.crash(true);
  pair.alpha.crash(true);
  pair.beta.bad_blocks.clear();
  pair.alpha.start();
  pair.beta.start();
  settle(pair);
  CHECK(pair.alpha.disk == pair.beta.disk);
}

TEST_CASE("a peer that lacks what a node answered before its disk failed is Outdated once they meet") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  const int how = GENERATE(0, 1);
  if (how == 0) pair.alpha.next_flush_errno = EIO;
  if (how == 1) pair.alpha.next_persist_errno = EIO;
  pair.alpha.flush(1);
  pair.alpha.write(2, blocks(40'000 % kTestBlocks), 8);
  pair.run();
  REQUIRE(disk_of(pair.alpha) == DiskState::Failed);
  settle(pair);
  CHECK(pair.beta.peer().decision.rule == Rule::PeerDisklessSelfIsBehind);
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  CHECK(disk_of(pair.beta) == DiskState::Outdated);
  CHECK(pair.beta.superblock.disk_state == DiskState::Outdated);
  CHECK(pair.beta.answered(pair.beta.order(OrderKind::Promote), Outcome::NotUpToDate));
}

TEST_CASE("a peer that never got what protocol A has answered is Outdated, also when the last copy is lost at once") {
  Pair pair = protocol_a_pair();
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 8);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  pair.alpha.next_persist_errno = EIO;  // of the generation that the loss asks for
  pair.lose_link();
  pair.run();
  REQUIRE(disk_of(pair.alpha) == DiskState::Failed);
  pair.holds_to_beta = false;
  settle(pair);
  CHECK(disk_of(pair.beta) == DiskState::Outdated);
}

TEST_CASE("what protocol A has answered is known to be ahead, also when its Primary gave up the role while suspended") {
  Pair pair = protocol_a_pair(LossPolicy::Suspend);
  pair.make_mirrored();
  const Generation common = pair.alpha.superblock.current;
  pair.holds_to_beta = true;
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  pair.lose_link();
  pair.holds_to_beta = false;
  pair.run();
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  REQUIRE_FALSE(pair.alpha.is_primary());
  REQUIRE(pair.alpha.superblock.current == common);
  pair.alpha.next_persist_errno = EIO;  // of what makes it the source
  settle(pair);
  REQUIRE(disk_of(pair.alpha) == DiskState::Failed);
  CHECK(disk_of(pair.beta) == DiskState::Outdated);
  CHECK(pair.beta.answered(pair.beta.order(OrderKind::Promote), Outcome::NotUpToDate));
  pair.alpha.attach();
  settle(pair);
  CHECK(pair.beta.disk[5] == 7);
  check_mirrored(pair);
}

TEST_CASE("a generation that the failed metadata did not record makes no peer old") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  pair.lose_link();
  pair.alpha.next_persist_errno = EIO;
  pair.alpha.write(1, blocks(5), 8);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == EIO);
  REQUIRE(disk_of(pair.alpha) == DiskState::Failed);
  settle(pair);
  CHECK(pair.beta.peer().decision.rule == Rule::PeerDiskless);
  CHECK(pair.beta.is_up_to_date());
}

TEST_CASE("a disk that fails while a promotion is recorded ends the promotion: no export opens on nothing") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  pair.beta.next_persist_errno = EIO;
  const uint64_t ticket = pair.beta.order(OrderKind::Promote);
  pair.run();
  settle(pair);
  CHECK(pair.beta.answered(ticket, Outcome::NoDisk));
  CHECK_FALSE(pair.beta.export_open);
  CHECK_FALSE(pair.beta.is_primary());
  CHECK(disk_of(pair.beta) == DiskState::Failed);
  CHECK(pair.alpha.peer().role == Role::Secondary);
  pair.alpha.order(OrderKind::Promote);
  pair.run();
  CHECK(pair.alpha.is_primary());
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
}

TEST_CASE(
    "a flush fails while a role is given up: that disk is not the source, though it knows of blocks that differ") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  pair.alpha.next_flush_errno = EIO;
  pair.holds_to_beta = true;
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  CHECK_FALSE(pair.alpha.is_primary());
  CHECK(disk_of(pair.alpha) == DiskState::Failed);
  CHECK(pair.alpha.superblock.disk_state == DiskState::Inconsistent);
  pair.alpha.disk[5] = 0;  // as a kernel may that has failed to write it
  pair.lose_link();
  pair.holds_to_beta = false;
  pair.alpha.attach();
  settle(pair);
  CHECK(pair.beta.disk[5] == 7);
  CHECK(pair.alpha.disk[5] == 7);
  CHECK(pair.alpha.is_up_to_date());
}

TEST_CASE("a served Primary that is demoted while its peer is away tells its clients that it stops") {
  Pair pair;
  pair.make_mirrored();
  detach(pair);
  pair.lose_link();
  pair.beta.crash();
  pair.alpha.write(0, blocks(5), 7);
  pair.alpha.flush(1);
  pair.alpha.request(2, ClientOperation::Read, blocks(5));
  pair.run();
  CHECK(pair.alpha.replies.empty());
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  for (uint32_t slot = 0; slot <= 2; ++slot) CHECK(pair.alpha.replies.at(slot) == ESHUTDOWN);
  CHECK_FALSE(pair.alpha.is_primary());
}

TEST_CASE("a peer whose operator disconnects it may be asked to serve before that is heard of") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_persists = true;  // what calls it Outdated, and comes before its goodbye
  pair.beta.order(OrderKind::Disconnect);
  pair.run();
  detach(pair);
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  CHECK_FALSE(noted(pair.beta, NoteKind::RuleBroken));
  pair.beta.holds_persists = false;
  pair.run();
  CHECK(disk_of(pair.beta) == DiskState::Outdated);
  CHECK(pair.beta.disk[5] == 0);
  CHECK(pair.alpha.replies.empty());

  // Nothing was answered without it: it holds what the clients have seen.
  pair.beta.order(OrderKind::Connect);
  settle(pair);
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.beta.is_up_to_date());
  pair.alpha.attach();
  settle(pair);
  check_mirrored(pair);
  CHECK(pair.alpha.disk[5] == 7);
}

TEST_CASE("a node that served and is promoted leaves the generation in which its Primary may be still") {
  Pair pair;
  pair.make_mirrored();
  detach(pair);
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  pair.lose_link();
  pair.alpha.write(1, blocks(6), 8);
  pair.run();
  const Generation common = pair.beta.superblock.current;
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  pair.beta.order(promote);
  pair.run();
  REQUIRE(pair.beta.is_primary());
  CHECK(pair.beta.superblock.current == common);  // nothing was answered
  pair.beta.write(0, blocks(6), 9);
  pair.run();
  REQUIRE(pair.beta.replies.at(0) == 0);
  CHECK(pair.beta.superblock.current != common);
  pair.beta.crash();
  pair.beta.start();
  if (GENERATE(true, false)) pair.alpha.attach();
  settle(pair);
  CHECK(pair.beta.disk[6] == 9);
  CHECK(noted(pair.alpha, NoteKind::DataLost));
  CHECK(pair.alpha.replies.at(1) == EIO);

  pair.alpha.order(OrderKind::Demote);
  settle(pair);
  if (disk_of(pair.alpha) == DiskState::Diskless) pair.alpha.attach();
  settle(pair);
  check_mirrored(pair);
  CHECK(pair.alpha.disk[6] == 9);
}

TEST_CASE("what protocol A has answered is known to be ahead, also when a suspended Primary changes to protocol C") {
  Pair pair = protocol_a_pair(LossPolicy::Suspend);
  pair.make_mirrored();
  pair.holds_to_beta = true;
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  pair.lose_link();
  pair.holds_to_beta = false;
  OrderGiven change;
  change.kind = OrderKind::SetProtocol;
  change.protocol = Protocol::C;
  pair.alpha.order(change);
  pair.run();
  pair.alpha.crash();
  pair.alpha.start();
  settle(pair);
  CHECK(pair.beta.disk[5] == 7);
  check_mirrored(pair);
  CHECK_FALSE(pair.alpha.superblock.peers[0].answered_ahead);
}

TEST_CASE("… and when its disk is gone with its metadata, so that only it can say so") {
  Pair pair = protocol_a_pair(LossPolicy::Suspend);
  pair.make_mirrored();
  pair.holds_to_beta = true;
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  OrderGiven change;
  change.kind = OrderKind::SetProtocol;
  change.protocol = Protocol::C;
  const bool changes_late = GENERATE(false, true);
  if (!changes_late) pair.alpha.order(change);
  pair.alpha.next_persist_errno = EIO;
  pair.alpha.write(1, blocks(5000), 8);  // in an extent that is not hot
  pair.run();
  REQUIRE(disk_of(pair.alpha) == DiskState::Failed);
  pair.lose_link();
  pair.holds_to_beta = false;
  pair.run();
  pair.connect();
  REQUIRE(noted(pair.alpha, NoteKind::DataLost));
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  REQUIRE_FALSE(pair.alpha.is_primary());
  if (changes_late) pair.alpha.order(change);
  pair.run();
  pair.lose_link();
  pair.run();
  pair.connect();
  CHECK(disk_of(pair.beta) == DiskState::Outdated);
  pair.beta.order(OrderKind::Promote);
  pair.run();
  CHECK_FALSE(pair.beta.is_primary());
}

TEST_CASE("metadata that fails loses what waits for it on a new link, too: nothing comes in front of that") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  pair.beta.holds_persists = true;  // that it is target of a resync, which it tells afterwards
  pair.connect();
  REQUIRE(pair.beta.persists_under_way() > 0);
  pair.lose_link();
  pair.run();
  pair.connect();
  pair.beta.next_persist_errno = EIO;
  pair.beta.holds_persists = false;
  pair.run();
  settle(pair);
  CHECK_FALSE(noted(pair.alpha, NoteKind::RuleBroken));
  CHECK(disk_of(pair.beta) == DiskState::Failed);
}

TEST_CASE("metadata that fails when the disk is given up already does not silence the node") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  pair.beta.holds_persists = true;  // that it is target of a resync, which it tells afterwards
  pair.connect();
  REQUIRE(pair.beta.persists_under_way() > 0);
  pair.beta.order(OrderKind::Detach);
  pair.run();
  REQUIRE(disk_of(pair.beta) == DiskState::Diskless);
  pair.beta.next_persist_errno = EIO;
  pair.beta.holds_persists = false;
  pair.run();
  settle(pair);
  CHECK_FALSE(noted(pair.alpha, NoteKind::RuleBroken));
  CHECK(pair.alpha.peer().decision.rule == Rule::PeerDiskless);
  CHECK(pair.alpha.peer().connection == ConnectionState::Connected);
}

TEST_CASE("what a server could not read before its link was lost is asked of it again when it serves again") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  detach(pair);
  pair.run();
  pair.beta.bad_blocks = {5};
  pair.holds_to_alpha = true;
  pair.alpha.request(1, ClientOperation::Read, blocks(5));
  pair.run();
  const auto answer = std::find_if(pair.to_alpha.begin(), pair.to_alpha.end(), [](const TestFrame& frame) {
    return std::holds_alternative<ReadReply>(frame.message);
  });
  REQUIRE(answer != pair.to_alpha.end());
  REQUIRE(std::get<ReadReply>(answer->message).failed);
  pair.alpha.receive(pair.incarnation(), *answer);
  pair.lose_link();  // in the same turn
  pair.holds_to_alpha = false;
  pair.beta.bad_blocks.clear();
  pair.run();
  pair.connect();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.read_values.at(1) == std::vector<uint32_t>{7});
}

TEST_CASE("a flush that comes after the server has said that its disk failed is not answered") {
  Pair pair;
  pair.make_mirrored();
  detach(pair);
  pair.alpha.write(0, blocks(5), 7);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  pair.holds_to_alpha = true;
  pair.beta.next_io_errno = EIO;
  pair.alpha.write(1, blocks(6), 8);
  pair.run();
  REQUIRE(disk_of(pair.beta) == DiskState::Failed);
  const auto told = std::find_if(pair.to_alpha.begin(), pair.to_alpha.end(), [](const TestFrame& frame) {
    const auto* changed = std::get_if<StateChanged>(&frame.message);
    return changed != nullptr && changed->disk_state == DiskState::Failed;
  });
  REQUIRE(told != pair.to_alpha.end());
  pair.alpha.receive(pair.incarnation(), *told);
  pair.alpha.flush(2);
  pair.alpha.turn();
  CHECK(pair.alpha.replies.count(1) == 0);
  CHECK(pair.alpha.replies.count(2) == 0);
}

}  // namespace lockstep::repl
