// Disks that fail and come back, told as stories: who serves the clients meanwhile, and what each node knows durably.
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/disk_stories.h"
#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

// alpha's disk fails under a read; its clients are served from beta's.
void lose_alphas_disk(Pair& pair) {
  pair.alpha.next_io_errno = EIO;
  pair.alpha.request(15, ClientOperation::Read, blocks(9));
  pair.run();
  REQUIRE(pair.alpha.replies.at(15) == 0);
  REQUIRE(disk_of(pair.alpha) == DiskState::Failed);
  REQUIRE(pair.alpha.disk_released);
}

}  // namespace

TEST_CASE("a read that fails on the Primary's disk is answered from the peer's, and so is everything after it") {
  Pair pair;
  pair.make_mirrored();
  const Generation common = pair.alpha.superblock.current;
  pair.alpha.write(0, blocks(9), 77);
  pair.run();
  lose_alphas_disk(pair);
  CHECK(pair.alpha.read_values.at(15) == std::vector<uint32_t>{77});
  CHECK(pair.beta.peer().disk_state == DiskState::Failed);
  CHECK(pair.alpha.replica().status().served_by_peer);
  CHECK(pair.alpha.replica().status().degraded);

  pair.alpha.write(1, blocks(20, 3), 5);
  pair.alpha.write(2, blocks(30), 6, true);
  pair.alpha.request(3, ClientOperation::Trim, blocks(9));
  pair.run();
  pair.alpha.flush(4);
  pair.run();
  for (uint32_t slot = 1; slot <= 4; ++slot) CHECK(pair.alpha.replies.at(slot) == 0);
  CHECK(pair.beta.stable_disk[20] == 5);
  CHECK(pair.beta.stable_disk[30] == 6);
  CHECK(pair.beta.stable_disk[9] == 0);
  CHECK(pair.alpha.disk[20] == 0);
  pair.alpha.request(5, ClientOperation::Read, blocks(19, 3));
  pair.run();
  CHECK(pair.alpha.read_values.at(5) == std::vector<uint32_t>{0, 5, 5});

  // The two disks do not bear one name any more, and both nodes know it durably.
  CHECK(pair.alpha.superblock.current == common);
  CHECK(pair.alpha.superblock.disk_state == DiskState::Outdated);
  CHECK_FALSE(pair.beta.superblock.current == common);
  CHECK(pair.beta.superblock.current == pair.alpha.replica().status().generation);
  CHECK(pair.beta.superblock.peers[0].bitmap_generation == common);
  CHECK(pair.beta.peer().out_of_sync_blocks == 5);
}

TEST_CASE("a read that is under way when a flush fails does not see what that flush has lost") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(9), 77);
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  pair.alpha.holds_reads = true;
  pair.alpha.request(1, ClientOperation::Read, blocks(9));
  pair.alpha.next_flush_errno = EIO;
  pair.alpha.flush(2);
  pair.run();
  REQUIRE(disk_of(pair.alpha) == DiskState::Failed);
  pair.alpha.disk[9] = 0;
  const bool peer_serves = GENERATE(true, false);
  if (!peer_serves) {
    pair.lose_link();
    pair.run();
  }
  pair.alpha.holds_reads = false;
  pair.run();
  CHECK(pair.alpha.replies.count(1) == (peer_serves ? 1 : 0));
  if (peer_serves) CHECK(pair.alpha.read_values.at(1) == std::vector<uint32_t>{77});
}

TEST_CASE("a long read from the peer is put together from pieces") {
  Pair pair;
  pair.make_mirrored();
  for (uint32_t i = 0; i < 8; ++i) {
    pair.alpha.write(i, blocks(i * 50, 50), i + 1);
    pair.run();
  }
  lose_alphas_disk(pair);
  pair.alpha.request(0, ClientOperation::Read, blocks(0, 400));
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  REQUIRE(pair.alpha.read_values.at(0).size() == 400);
  for (size_t block = 0; block < 400; ++block) CHECK(pair.alpha.read_values.at(0)[block] == block / 50 + 1);
}

TEST_CASE("a write whose local leg fails is not answered before the peer has recorded that it alone has it") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.beta.holds_persists = true;
  // Whichever leg ends first.
  const bool peer_first = GENERATE(true, false);
  (peer_first ? pair.alpha.holds_writes : pair.beta.holds_writes) = true;
  pair.alpha.next_io_errno = EIO;
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  pair.alpha.holds_writes = pair.beta.holds_writes = false;
  pair.run();
  CHECK(disk_of(pair.alpha) == DiskState::Failed);
  CHECK(pair.beta.disk[5] == 2);
  CHECK(pair.alpha.replies.count(1) == 0);
  pair.beta.holds_persists = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.beta.stable_disk[5] == 2);  // also what was acknowledged before is safe now
  CHECK(pair.beta.superblock.peers[0].bitmap_in_memory);
}

TEST_CASE("an fdatasync that failed is not tried again, and the flush is the peer's") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.alpha.next_flush_errno = EIO;
  pair.alpha.flush(1);
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.beta.stable_disk[5] == 1);
  CHECK(disk_of(pair.alpha) == DiskState::Failed);
  pair.alpha.seen.clear();
  pair.alpha.flush(2);
  pair.alpha.write(3, blocks(5), 2);
  pair.pass(5'000'000);
  CHECK(pair.alpha.replies.at(2) == 0);
  CHECK(pair.alpha.replies.at(3) == 0);
  CHECK(pair.alpha.count_seen("fdatasync") == 0);
  CHECK(pair.alpha.count_seen("write") == 0);
  CHECK(pair.beta.is_up_to_date());
}

TEST_CASE("an fdatasync that failed on the last copy is an error for good") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.alpha.next_flush_errno = EIO;
  pair.alpha.flush(1);
  pair.run();
  CHECK(pair.alpha.replies.at(1) == EIO);
  CHECK(disk_of(pair.alpha) == DiskState::Failed);
  pair.alpha.flush(2);
  pair.alpha.write(3, blocks(5), 2);
  pair.alpha.request(4, ClientOperation::Read, blocks(5));
  pair.run();
  for (uint32_t slot = 2; slot <= 4; ++slot) CHECK(pair.alpha.replies.at(slot) == EIO);
  // The peer is behind: it does not serve, and is not made to.
  pair.connect();
  CHECK(pair.linked());
  CHECK(pair.alpha.peer().decision.rule == Rule::SelfDisklessPeerIsBehind);
  pair.alpha.request(4, ClientOperation::Read, blocks(5));
  pair.run();
  CHECK(pair.alpha.replies.at(4) == EIO);
}

TEST_CASE("the last copy is not thrown away for one bad sector") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.alpha.bad_blocks = {9};
  pair.alpha.request(0, ClientOperation::Read, blocks(9));
  pair.alpha.request(1, ClientOperation::Read, blocks(8));
  pair.run();
  CHECK(pair.alpha.replies.at(0) == EIO);
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.is_up_to_date());
  CHECK(noted(pair.alpha, NoteKind::ErrorPassedOn));

  pair.alpha.next_io_errno = ENOSPC;
  pair.alpha.write(2, blocks(20), 1);
  pair.run();
  CHECK(pair.alpha.replies.at(2) == ENOSPC);
  CHECK(pair.alpha.is_up_to_date());
  CHECK(pair.alpha.replica().is_out_of_sync(0, 20));
}

TEST_CASE("when the metadata cannot be written, clients are served from the peer") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.next_persist_errno = EIO;
  pair.alpha.seen.clear();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.alpha.count_seen("write") == 0);  // no write without its record
  CHECK(pair.beta.disk[5] == 1);
  CHECK(disk_of(pair.alpha) == DiskState::Failed);
  CHECK(pair.beta.peer().out_of_sync_blocks == 1);
}

TEST_CASE("a disk that is attached after others went on is old, whatever its metadata says") {
  Pair pair;
  pair.make_mirrored();
  const bool was_primary = GENERATE(true, false);
  Side& side = was_primary ? pair.alpha : pair.beta;
  if (!was_primary) {
    pair.alpha.write(1, blocks(6), 2);
    pair.run();
  }
  side.next_persist_errno = EIO;
  if (!was_primary) side.next_io_errno = EIO;
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  REQUIRE(disk_of(side) == DiskState::Failed);
  REQUIRE(pair.alpha.replies.at(0) == 0);
  if (was_primary) pair.alpha.order(OrderKind::Demote);
  pair.run();
  REQUIRE_FALSE(side.is_primary());
  REQUIRE(side.superblock.disk_state == DiskState::UpToDate);
  if (pair.linked()) pair.lose_link();
  side.attach();
  pair.run();
  CHECK(disk_of(side) == DiskState::Outdated);
  CHECK(side.superblock.disk_state == DiskState::Outdated);
  settle(pair);
  check_mirrored(pair);
}

TEST_CASE("when the metadata of the last copy cannot be written, nothing that needs it is answered as done") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.lose_link();
  pair.alpha.next_persist_errno = EIO;
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  CHECK(pair.alpha.replies.at(1) == EIO);
  CHECK(disk_of(pair.alpha) == DiskState::Failed);
}

TEST_CASE("a generation that was called not stored, and is, keeps nobody apart from the peer that went on") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.lose_link();
  pair.alpha.holds_persists = true;
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  const SuperblockImage stored = pair.alpha.replica().superblock();
  REQUIRE_FALSE(stored.current == pair.beta.superblock.current);
  pair.alpha.next_persist_errno = EIO;
  pair.alpha.holds_persists = false;
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == EIO);
  pair.alpha.superblock = stored;
  pair.connect();
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  pair.beta.order(OrderKind::Promote);
  pair.run();
  REQUIRE(pair.beta.is_primary());
  const bool has_written = GENERATE(false, true);
  if (has_written) {
    pair.beta.write(0, blocks(6), 3);
    pair.run();
    REQUIRE(pair.beta.replies.at(0) == 0);
  }
  pair.alpha.attach();
  settle(pair);
  check_mirrored(pair);
  CHECK(pair.alpha.disk[5] == 1);
  if (has_written) CHECK(pair.alpha.disk[6] == 3);
}

TEST_CASE("a Secondary whose disk fails is left behind, seen as Failed, and waited for by nobody") {
  Pair pair;
  pair.make_mirrored();
  const Generation common = pair.alpha.superblock.current;
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.beta.next_io_errno = EIO;
  pair.alpha.write(1, blocks(6), 2);
  pair.alpha.write(2, blocks(6), 3);
  pair.run();
  pair.alpha.flush(3);
  pair.run();
  for (uint32_t slot = 1; slot <= 3; ++slot) CHECK(pair.alpha.replies.at(slot) == 0);
  CHECK_FALSE(pair.alpha.superblock.current == common);
  CHECK(pair.alpha.replica().is_out_of_sync(0, 6));
  CHECK(pair.beta.apply_slots_in_use.empty());
  pair.connect();
  REQUIRE(pair.linked());
  CHECK(pair.alpha.peer().connection == ConnectionState::Connected);
  CHECK(pair.alpha.peer().disk_state == DiskState::Failed);
  CHECK(pair.alpha.peer().replication == ReplicationState::Off);
  CHECK(pair.alpha.replica().status().degraded);
  CHECK(pair.beta.superblock.disk_state == DiskState::Outdated);

  pair.alpha.write(4, blocks(7), 4);
  pair.run();
  CHECK(pair.alpha.replies.at(4) == 0);
  pair.beta.attach();
  settle(pair);
  CHECK(pair.beta.disk[7] == 4);
  check_mirrored(pair);
}

TEST_CASE("a Secondary whose flush fails does not confirm it") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.beta.next_flush_errno = EIO;
  pair.alpha.flush(1);
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(disk_of(pair.beta) == DiskState::Failed);
  CHECK(pair.alpha.replica().is_out_of_sync(0, 5));
}

TEST_CASE("what cannot be read is not copied: the resync stops, says so, and goes on when it can") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.alpha.bad_blocks = {5};
  pair.connect();
  CHECK(pair.alpha.peer().replication == ReplicationState::PausedSyncS);
  CHECK(pair.beta.disk[5] == 0);
  CHECK(disk_of(pair.beta) == DiskState::Inconsistent);
  CHECK(noted(pair.alpha, NoteKind::ResyncStopped));
  CHECK(pair.alpha.is_up_to_date());
  pair.alpha.bad_blocks.clear();
  pair.alpha.order(OrderKind::ResumeResync);
  pair.pass(2'000'000);
  check_mirrored(pair);
}

TEST_CASE("a Primary without a disk waits for its peer, and asks again for all that was not answered") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  lose_alphas_disk(pair);
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 2);
  pair.alpha.flush(2);
  pair.alpha.request(3, ClientOperation::Read, blocks(9));
  pair.run();
  pair.lose_link();
  pair.holds_to_beta = false;
  pair.alpha.write(4, blocks(6), 3);
  pair.pass(3'000'000);
  CHECK(pair.alpha.replica().status().suspension == Suspension::NoData);
  for (uint32_t slot = 1; slot <= 4; ++slot) CHECK(pair.alpha.replies.count(slot) == 0);
  CHECK(noted(pair.alpha, NoteKind::DataUnreachable));

  pair.connect();
  CHECK(pair.alpha.replica().status().suspension == Suspension::No);
  for (uint32_t slot = 1; slot <= 4; ++slot) CHECK(pair.alpha.replies.at(slot) == 0);
  CHECK(pair.beta.disk[5] == 2);
  CHECK(pair.beta.disk[6] == 3);
}

TEST_CASE("requests that wait for data can be failed by an order, and new ones go on when it is back") {
  Pair pair;
  pair.make_mirrored();
  lose_alphas_disk(pair);
  pair.lose_link();
  pair.alpha.write(1, blocks(5), 2);
  pair.alpha.flush(2);
  pair.alpha.request(3, ClientOperation::Read, blocks(9));
  pair.run();
  pair.alpha.order(OrderKind::AbandonHeld);
  pair.run();
  for (uint32_t slot = 1; slot <= 3; ++slot) CHECK(pair.alpha.replies.at(slot) == EIO);
  pair.alpha.write(4, blocks(5), 2);
  pair.run();
  CHECK(pair.alpha.replies.at(4) == EIO);
  pair.connect();
  pair.alpha.write(5, blocks(5), 3);
  pair.run();
  CHECK(pair.alpha.replies.at(5) == 0);
}

TEST_CASE("the peer that served is restarted: what it had not made stable is not promised by a later flush") {
  Pair pair;
  pair.make_mirrored();
  lose_alphas_disk(pair);
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  const bool flushed = GENERATE(true, false);
  if (flushed) {
    pair.alpha.flush(2);
    pair.run();
    REQUIRE(pair.alpha.replies.at(2) == 0);
  }
  pair.beta.crash(true);
  pair.run();
  pair.beta.start();
  pair.run();
  pair.connect();
  pair.alpha.flush(3);
  pair.alpha.request(4, ClientOperation::Read, blocks(5));
  pair.run();
  if (flushed) {
    CHECK(pair.alpha.replies.at(3) == 0);
    CHECK(pair.alpha.read_values.at(4) == std::vector<uint32_t>{2});
    // Its bits were in memory only: it knows that it does not know.
    CHECK(pair.beta.peer().out_of_sync_blocks == kTestBlocks);
  } else {
    CHECK(pair.alpha.replies.at(3) == EIO);
    CHECK(pair.alpha.replies.at(4) == EIO);
    CHECK(noted(pair.alpha, NoteKind::DataLost));
  }
}

TEST_CASE("only the link was lost: what was acknowledged before is in the next flush") {
  Pair pair;
  pair.make_mirrored();
  lose_alphas_disk(pair);
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  pair.lose_link();
  pair.run();
  pair.connect();
  pair.alpha.flush(2);
  pair.run();
  CHECK(pair.alpha.replies.at(2) == 0);
  CHECK(pair.beta.stable_disk[5] == 2);
}

TEST_CASE("the link is lost before the peer heard of the failed disk: it serves when it comes back") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.frames_left = GENERATE(range(0, 6));
  pair.alpha.next_io_errno = EIO;
  pair.alpha.request(1, ClientOperation::Read, blocks(5));
  pair.alpha.write(2, blocks(6), 2);
  pair.run();
  CHECK(disk_of(pair.alpha) == DiskState::Failed);
  pair.lose_link();
  pair.frames_left = UINT64_MAX;
  pair.run();
  pair.connect();
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.replies.at(2) == 0);
  CHECK(pair.alpha.read_values.at(1) == std::vector<uint32_t>{1});
  CHECK(pair.beta.superblock.current == pair.alpha.replica().status().generation);
  pair.alpha.attach();
  settle(pair);
  check_mirrored(pair);
}

TEST_CASE("a peer that was promoted meanwhile does not serve: the old Primary's clients get errors") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 2);
  pair.run();  // here, and not there
  pair.alpha.next_io_errno = EIO;
  pair.alpha.request(2, ClientOperation::Read, blocks(9));
  pair.run();
  pair.lose_link();
  pair.run();
  OrderGiven promote;
  promote.peer_fenced = true;
  const uint64_t ticket = pair.beta.order(promote);
  pair.run();
  REQUIRE(pair.beta.answered(ticket, Outcome::Done));
  REQUIRE(pair.beta.disk[5] == 1);
  CHECK(pair.alpha.replies.count(1) == 0);
  pair.holds_to_beta = false;
  pair.beta.write(0, blocks(5), 9);
  pair.run();
  pair.connect();
  pair.run();
  CHECK(pair.alpha.replies.at(1) == EIO);
  CHECK(pair.alpha.replies.at(2) == EIO);
  CHECK(pair.beta.disk[5] == 9);
}

TEST_CASE("a disk is attached again under a Primary, and brought up to date while clients write") {
  Pair pair;
  pair.make_mirrored();
  for (uint32_t i = 0; i < 10; ++i) {
    pair.alpha.write(i, blocks(i * 1100), i + 1);
    pair.run();
  }
  lose_alphas_disk(pair);
  pair.alpha.write(0, blocks(100, 700), 50);
  pair.run();
  pair.beta.holds_reads = true;
  pair.alpha.attach();
  pair.run();
  pair.connect();
  REQUIRE(pair.alpha.peer().replication == ReplicationState::SyncTarget);
  CHECK(disk_of(pair.alpha) == DiskState::Inconsistent);
  // Into what is being read to be copied, before and behind it.
  pair.alpha.write(1, blocks(110), 51);
  pair.alpha.write(2, blocks(99), 52);
  pair.alpha.write(3, blocks(20000), 53);
  pair.run();
  CHECK(pair.beta.disk[110] == 50);  // waits for the read
  pair.beta.holds_reads = false;
  pair.run();
  for (uint32_t slot = 0; slot <= 3; ++slot) CHECK(pair.alpha.replies.at(slot) == 0);
  pair.alpha.request(4, ClientOperation::Read, blocks(109, 2));
  pair.run();
  CHECK(pair.alpha.read_values.at(4) == std::vector<uint32_t>{50, 51});
  settle(pair);
  CHECK_FALSE(pair.alpha.replica().status().served_by_peer);
  CHECK(pair.alpha.disk[110] == 51);
  CHECK(pair.alpha.disk[20000] == 53);
  check_mirrored(pair);

  pair.alpha.write(5, blocks(7), 60);
  pair.run();
  CHECK(pair.alpha.replies.at(5) == 0);
  check_mirrored(pair);
  CHECK(pair.alpha.disk[7] == 60);
  CHECK(pair.alpha.superblock.primary);
}

TEST_CASE("a client's write on its way to the peer holds up no copy for this node's disk") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  lose_alphas_disk(pair);
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  pair.alpha.attach();
  pair.alpha.holds_flushes = true;  // nothing is made stable, so that the resync is not over
  pair.run();
  pair.connect();
  REQUIRE(pair.alpha.peer().replication == ReplicationState::SyncTarget);
  pair.beta.holds_writes = true;
  pair.alpha.write(2, blocks(5), 3);
  pair.alpha.write(3, blocks(2000, 100), 3);
  pair.run();
  pair.alpha.holds_flushes = false;
  pair.pass(500'000);
  pair.beta.holds_writes = false;
  settle(pair);
  CHECK(pair.alpha.replies.at(2) == 0);
  CHECK(pair.alpha.replies.at(3) == 0);
  CHECK(pair.alpha.apply_slots_in_use.empty());
  CHECK(pair.alpha.disk[5] == 3);
  check_mirrored(pair);
}

TEST_CASE("an attached disk gets only what it missed, and an empty new one everything") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  lose_alphas_disk(pair);
  pair.alpha.write(1, blocks(6), 2);
  pair.run();
  SECTION("the same disk") {
    pair.alpha.attach();
    settle(pair);
    CHECK(pair.beta.count_seen("fdatasync") > 0);
    CHECK(pair.alpha.peer().decision.rule == Rule::SelfIsBehind);
    CHECK(pair.alpha.peer().decision.extent == SyncExtent::Bitmap);
  }
  SECTION("a new disk") {
    pair.alpha.disk.assign(kTestBlocks, 0);
    pair.alpha.superblock = SuperblockImage{};
    std::fill(pair.alpha.bitmap.begin(), pair.alpha.bitmap.end(), 0);
    std::fill(pair.alpha.activity_log.begin(), pair.alpha.activity_log.end(), kNoExtent);
    pair.alpha.attach();
    settle(pair);
    CHECK(pair.alpha.peer().decision.rule == Rule::SelfJustCreated);
  }
  SECTION("a disk whose metadata was not told") {
    pair.alpha.superblock.disk_state = DiskState::UpToDate;
    pair.alpha.superblock.primary = true;
    pair.alpha.attach();
    settle(pair);
  }
  check_mirrored(pair);
}

TEST_CASE("crashes while a Primary is served, or its disk brought up to date, lose nothing that was flushed") {
  const int crash_after = GENERATE(range(0, 60));
  const bool alpha_crashes = GENERATE(true, false);
  INFO("crash after " << crash_after << " frames, of " << (alpha_crashes ? "alpha" : "beta"));
  Pair pair;
  pair.make_mirrored();
  lose_alphas_disk(pair);
  pair.alpha.write(0, blocks(5, 40), 3);
  pair.run();
  pair.alpha.flush(1);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  pair.frames_left = static_cast<uint64_t>(crash_after);
  pair.alpha.attach();
  pair.run();
  pair.connect();
  pair.alpha.write(2, blocks(6), 4);
  pair.alpha.flush(3);
  pair.run();
  const bool second_write = pair.alpha.replies.count(2) != 0;
  (alpha_crashes ? pair.alpha : pair.beta).crash(true);
  pair.frames_left = UINT64_MAX;
  pair.run();
  (alpha_crashes ? pair.alpha : pair.beta).start();
  settle(pair);
  CHECK(pair.beta.disk[5] == 3);
  if (second_write && pair.alpha.replies.count(3) != 0) CHECK(pair.beta.disk[6] == 4);
  check_mirrored(pair);
}

TEST_CASE("a detached disk counts what its peer has not made stable, though it is stable here") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_flushes = true;
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.alpha.flush(1);
  pair.run();
  REQUIRE(pair.alpha.stable_disk[5] == 1);
  pair.alpha.order(OrderKind::Detach);
  pair.run();
  REQUIRE(pair.alpha.disk_released);
  pair.alpha.crash(true);
  pair.beta.crash(true);
  CHECK((pair.alpha.bitmap[0] >> 5 & 1) == 1);
  pair.alpha.start();
  pair.beta.start();
  settle(pair);
  check_mirrored(pair);
}

TEST_CASE("the peer that serves writes nothing before it is durable that its bits are in memory only") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_persists = true;
  pair.alpha.next_io_errno = EIO;
  pair.alpha.request(15, ClientOperation::Read, blocks(9));
  pair.run();
  pair.alpha.write(0, blocks(6), 2);
  pair.run();
  CHECK(pair.beta.disk[6] == 0);
  pair.beta.holds_persists = false;
  pair.run();
  CHECK(pair.beta.superblock.peers[0].bitmap_in_memory);
  CHECK(pair.beta.disk[6] == 2);
  CHECK(pair.alpha.replies.at(0) == 0);
}

TEST_CASE("a Primary's disk is called up to date once what was copied to it is stable at the source, too") {
  Pair pair;
  pair.make_mirrored();
  lose_alphas_disk(pair);
  pair.alpha.write(0, blocks(100, 700), 1);  // so much that clients may go on writing while it is copied
  pair.run();
  pair.alpha.attach();
  pair.alpha.holds_flushes = true;  // nothing is made stable, so that the resync is not over
  pair.run();
  pair.connect();
  REQUIRE(pair.alpha.peer().replication == ReplicationState::SyncTarget);
  pair.alpha.write(1, blocks(20000), 2);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  pair.beta.holds_flushes = true;
  pair.alpha.holds_flushes = false;
  pair.run();
  pair.pass(500'000);
  pair.pass(500'000);
  CHECK(pair.beta.stable_disk[20000] == 0);
  CHECK(pair.alpha.peer().replication == ReplicationState::SyncTarget);
  CHECK(pair.alpha.replica().status().served_by_peer);
  pair.beta.holds_flushes = false;
  settle(pair);
  CHECK(pair.beta.stable_disk[20000] == 2);
  check_mirrored(pair);
}

TEST_CASE("a Primary without a disk hands over to the peer that serves it") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  lose_alphas_disk(pair);
  pair.alpha.write(1, blocks(6), 2);
  pair.run();
  OrderGiven switchover;
  switchover.kind = OrderKind::Switchover;
  switchover.peer = 0;
  const uint64_t ticket = pair.alpha.order(switchover);
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.beta.is_primary());
  CHECK_FALSE(pair.alpha.is_primary());
  CHECK(pair.beta.stable_disk[6] == 2);
  pair.beta.write(0, blocks(7), 3);
  pair.run();
  CHECK(pair.beta.replies.at(0) == 0);
  CHECK_FALSE(pair.beta.superblock.peers[0].bitmap_in_memory);
  CHECK(pair.beta.peer().out_of_sync_blocks == 2);
  pair.alpha.attach();
  settle(pair);
  CHECK(pair.alpha.disk[7] == 3);
  check_mirrored(pair);
}

TEST_CASE("detach is refused where the last copy would go, and done where it would not") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  CHECK(pair.alpha.answered(pair.alpha.order(OrderKind::Detach), Outcome::LastUpToDate));
  CHECK(pair.beta.answered(pair.beta.order(OrderKind::Detach), Outcome::LastUpToDate));
  settle(pair);
  uint64_t ticket = pair.alpha.order(OrderKind::Detach);
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(disk_of(pair.alpha) == DiskState::Diskless);
  CHECK(pair.beta.peer().disk_state == DiskState::Diskless);
  CHECK(pair.beta.answered(pair.beta.order(OrderKind::Detach), Outcome::LastUpToDate));
  CHECK(pair.beta.answered(pair.beta.order(OrderKind::Disconnect), Outcome::LastUpToDate));
  CHECK(pair.alpha.answered(pair.alpha.order(OrderKind::Disconnect), Outcome::LastUpToDate));
  CHECK(pair.alpha.answered(pair.alpha.order(OrderKind::Detach), Outcome::AlreadySo));
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  pair.alpha.attach();
  settle(pair);
  check_mirrored(pair);

  ticket = pair.beta.order(OrderKind::Detach);
  pair.run();
  CHECK(pair.beta.answered(ticket, Outcome::Done));
  pair.alpha.write(1, blocks(6), 2);
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  pair.beta.attach();
  settle(pair);
  check_mirrored(pair);
}

TEST_CASE("a read that the peer cannot do, either, is an error for the client and no reason to give up its disk") {
  Pair pair;
  pair.make_mirrored();
  lose_alphas_disk(pair);
  pair.beta.bad_blocks = {5};
  pair.alpha.request(0, ClientOperation::Read, blocks(5));
  pair.alpha.request(1, ClientOperation::Read, blocks(6));
  pair.run();
  CHECK(pair.alpha.replies.at(0) == EIO);
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.beta.is_up_to_date());
}

TEST_CASE("a peer that does not answer a read is dropped, and the read waits for its return") {
  ReplicaOptions options = test_options(0);
  options.peer_timeout_us = 300'000;
  Pair pair(options, test_options(1));
  pair.make_mirrored();
  lose_alphas_disk(pair);
  pair.beta.holds_reads = true;
  pair.alpha.request(0, ClientOperation::Read, blocks(5));
  pair.pass(500'000);
  CHECK_FALSE(pair.linked());
  pair.beta.holds_reads = false;
  pair.run();
  pair.connect();
  CHECK(pair.alpha.replies.at(0) == 0);
}

}  // namespace lockstep::repl
