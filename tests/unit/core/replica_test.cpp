// A client's requests on a mirrored pair, told as stories: what is answered when, and what happens before what.
#include "replicator/core/replica.h"

#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {

TEST_CASE("a write is answered only when both disks have it") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_writes = true;
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  CHECK(pair.alpha.disk[5] == 42);
  CHECK(pair.alpha.replies.empty());
  pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.beta.disk[5] == 42);
  CHECK(pair.alpha.replies.at(0) == 0);

  pair.alpha.holds_writes = true;
  pair.alpha.write(1, blocks(6), 43);
  pair.run();
  CHECK(pair.beta.disk[6] == 43);
  CHECK(pair.alpha.replies.count(1) == 0);
  pair.alpha.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
}

TEST_CASE("zeroes travel as zeroes and land on both disks") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(10, 4), 9);
  pair.run();
  pair.alpha.seen.clear();
  pair.beta.seen.clear();
  pair.alpha.request(0, ClientOperation::Trim, blocks(11, 2));
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.beta.count_seen("zeroes") == 1);
  CHECK(pair.beta.count_seen("write") == 0);
  CHECK(pair.alpha.disk == pair.beta.disk);
  CHECK(pair.beta.disk[10] == 9);
  CHECK(pair.beta.disk[12] == 0);
}

TEST_CASE("no client write reaches a disk before its activity-log record is durable") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(kBlocksPerExtent), 41);  // the generation is used from here on
  pair.run();
  pair.alpha.seen.clear();
  pair.alpha.holds_persists = true;
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  CHECK(pair.alpha.count_seen("write") == 0);
  CHECK(pair.beta.disk[5] == 0);
  REQUIRE(pair.alpha.persists_under_way() == 1);

  pair.alpha.complete_one_persist();
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.alpha.place_of("persist activity log") < pair.alpha.place_of("write"));

  pair.alpha.write(1, blocks(7), 43);  // the same extent, which is hot now
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.persists_under_way() == 0);
}

TEST_CASE("what an extent's bits say is on disk before the extent turns cold") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  for (uint32_t extent = 0; extent < 18; ++extent) {
    pair.alpha.write(extent % 16, blocks(extent * kBlocksPerExtent + 3), 1);
    pair.run();
    REQUIRE(pair.alpha.replies.at(extent % 16) == 0);
  }
  pair.pass(1'100'000);  // flushed, so that nothing refers to the extents any more
  pair.alpha.seen.clear();
  pair.alpha.write(0, blocks(20 * kBlocksPerExtent), 2);
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.alpha.place_of("persist bitmap") < pair.alpha.place_of("persist activity log"));
  CHECK(pair.alpha.place_of("persist activity log") < pair.alpha.place_of("write"));
  CHECK((pair.alpha.bitmap[0] >> 3 & 1) == 1);
}

TEST_CASE("a flush is one fdatasync and one barrier, and is answered when both are done") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  pair.alpha.seen.clear();
  pair.beta.seen.clear();
  pair.alpha.holds_flushes = pair.beta.holds_flushes = true;
  pair.alpha.flush(1);
  pair.run();
  CHECK(pair.alpha.count_seen("fdatasync") == 1);
  CHECK(pair.alpha.count_seen("send barrier") == 1);
  CHECK(pair.beta.count_seen("fdatasync") == 1);
  pair.alpha.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.replies.count(1) == 0);
  pair.beta.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.stable_disk[5] == 42);
  CHECK(pair.beta.stable_disk[5] == 42);
}

TEST_CASE("a flush does not ask the peer for what it said with the write's end") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.writes_through = true;
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  pair.alpha.seen.clear();
  pair.beta.seen.clear();
  pair.alpha.flush(1);
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.count_seen("fdatasync") == 1);
  CHECK(pair.alpha.count_seen("send barrier") == 0);
  CHECK(pair.beta.seen.empty());
  CHECK(pair.alpha.stable_disk[5] == 42);
  CHECK(pair.beta.stable_disk[5] == 42);
  pair.alpha.write(2, blocks(6), 43);
  pair.run();
  pair.lose_link();
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
}

TEST_CASE("what is stable at the peer is what has ended there, and all before it in the stream") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.writes_through = true;
  pair.beta.holds_writes = true;
  for (uint32_t slot = 0; slot < 3; ++slot) pair.alpha.write(slot, blocks(5 + slot), 42);
  pair.run();
  REQUIRE(pair.beta.writes_under_way() == 3);
  SECTION("one by one") {
    pair.beta.complete_one_write();
    pair.run();
    CHECK(pair.alpha.peer().flushed == 1);
    pair.lose_link();
    CHECK_FALSE(pair.alpha.replica().is_out_of_sync(0, 5));
    CHECK(pair.alpha.replica().is_out_of_sync(0, 6));
    CHECK(pair.alpha.replica().is_out_of_sync(0, 7));
  }
  SECTION("not beyond one that is not done") {
    pair.beta.postpone_one_write();
    pair.beta.complete_one_write();
    pair.run();
    CHECK(pair.alpha.replies.count(1) == 1);
    CHECK(pair.alpha.peer().flushed == 0);
    pair.lose_link();
    CHECK(pair.alpha.replica().is_out_of_sync(0, 6));
  }
  SECTION("and nothing where it failed") {
    pair.beta.next_io_errno = 5;
    pair.beta.complete_one_write();
    pair.run();
    CHECK(pair.alpha.replica().is_out_of_sync(0, 5));
  }
}

TEST_CASE("a flush waits for the local disk even when the peer was faster") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  pair.alpha.holds_flushes = true;
  pair.alpha.flush(1);
  pair.run();
  CHECK(pair.beta.stable_disk[5] == 42);
  CHECK(pair.alpha.replies.count(1) == 0);
  pair.alpha.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
}

TEST_CASE("flushes that come while one is under way share the next") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  pair.alpha.seen.clear();
  pair.alpha.holds_flushes = true;
  for (uint32_t slot = 1; slot <= 9; ++slot) pair.alpha.flush(slot);
  pair.run();
  CHECK(pair.alpha.count_seen("fdatasync") == 1);
  pair.alpha.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.count_seen("fdatasync") == 2);
  CHECK(pair.alpha.count_seen("reply 0") == 9);
}

TEST_CASE("a FUA write is answered when it is stable on both nodes") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.seen.clear();
  pair.beta.holds_flushes = true;
  pair.alpha.write(0, blocks(5), 42, true);
  pair.run();
  CHECK(pair.alpha.count_seen("write fua") == 1);
  CHECK(pair.beta.disk[5] == 42);
  CHECK(pair.alpha.replies.empty());
  pair.beta.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.alpha.stable_disk[5] == 42);
  CHECK(pair.beta.stable_disk[5] == 42);
}

TEST_CASE("a write that overlaps one in flight waits, and others pass it") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(9, blocks(0), 1);  // makes the extent hot
  pair.run();
  pair.alpha.holds_writes = true;
  pair.alpha.write(0, blocks(5, 2), 1);
  pair.alpha.write(1, blocks(6, 2), 2);
  pair.alpha.write(2, blocks(100), 3);
  pair.run();
  CHECK(pair.alpha.writes_under_way() == 2);
  CHECK(pair.beta.disk[7] == 0);
  CHECK(pair.beta.disk[100] == 3);

  pair.alpha.complete_one_write();
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.alpha.replies.count(1) == 0);
  pair.alpha.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.disk[6] == 2);
  CHECK(pair.alpha.disk == pair.beta.disk);
}

TEST_CASE("many writes of one turn are acknowledged by one message") {
  ReplicaOptions first = test_options(0);
  first.transfer_log_entries = 1024;  // no flush by itself: its barrier would be answered by another
  Pair pair(first, test_options(1));
  pair.make_mirrored();
  pair.alpha.write(0, blocks(0), 1);
  pair.run();
  pair.beta.seen.clear();
  for (uint32_t slot = 0; slot < 10; ++slot) pair.alpha.write(slot, blocks(slot * 2), 5);
  pair.run();
  CHECK(pair.alpha.replies.size() == 10);
  CHECK(pair.beta.count_seen("write") == 10);
  CHECK(pair.beta.count_seen("send acknowledgement") == 1);
}

TEST_CASE("a write to a node alone is answered after the new generation is durable") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  const Generation common = pair.alpha.superblock.current;
  pair.lose_link();
  pair.run();
  CHECK(pair.alpha.superblock.current == common);  // nothing was written yet

  pair.alpha.seen.clear();
  pair.alpha.holds_persists = true;
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  CHECK(pair.alpha.disk[5] == 2);
  CHECK(pair.alpha.replies.count(1) == 0);
  pair.alpha.holds_persists = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.place_of("persist superblock") < pair.alpha.place_of("reply 0"));
  CHECK_FALSE(pair.alpha.superblock.current == common);
  CHECK(pair.alpha.superblock.peers[0].bitmap_generation == common);
  CHECK(pair.alpha.replica().is_out_of_sync(0, 5));

  pair.alpha.seen.clear();
  pair.alpha.write(2, blocks(6), 3);
  pair.run();
  CHECK(pair.alpha.replies.at(2) == 0);
  CHECK(pair.alpha.count_seen("persist superblock") == 0);  // once is enough
}

TEST_CASE("what the peer is not known to have made stable is out of sync when it is lost") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.alpha.flush(1);
  pair.run();
  pair.alpha.write(2, blocks(6), 2);
  pair.run();
  REQUIRE(pair.alpha.replies.at(2) == 0);
  pair.lose_link();
  CHECK_FALSE(pair.alpha.replica().is_out_of_sync(0, 5));
  CHECK(pair.alpha.replica().is_out_of_sync(0, 6));
}

TEST_CASE("the peer is dropped when it is silent for peer-timeout, and the write is answered") {
  Pair pair;
  pair.make_mirrored();
  const Generation common = pair.alpha.superblock.current;
  pair.holds_to_alpha = true;
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  pair.pass(2'900'000);
  CHECK(pair.alpha.replies.empty());
  CHECK(pair.linked());
  pair.pass(200'000);
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK_FALSE(pair.linked());
  CHECK_FALSE(pair.alpha.superblock.current == common);
  CHECK(pair.alpha.peer().connection == ConnectionState::Connecting);
}

TEST_CASE("a peer that answers pings but never finishes a write is dropped as well") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_writes = true;
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  pair.pass(2'900'000);
  CHECK(pair.alpha.replies.empty());
  CHECK(pair.alpha.peer().round_trip_us == 0);
  CHECK(pair.linked());
  pair.pass(200'000);
  CHECK(pair.alpha.replies.at(0) == 0);
}

TEST_CASE("a link without a word of load stays up") {
  Pair pair;
  pair.make_mirrored();
  pair.pass(20'000'000);
  CHECK(pair.linked());
  CHECK(pair.alpha.peer().connection == ConnectionState::Connected);
  CHECK(pair.beta.peer().connection == ConnectionState::Connected);
}

TEST_CASE("an old incarnation's message is ignored and its apply slot released") {
  Pair pair;
  pair.make_mirrored();
  const Incarnation old = pair.incarnation();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.lose_link();
  pair.connect();
  REQUIRE(pair.incarnation() > old);

  pair.beta.seen.clear();
  pair.beta.receive(old, {Write{1000, blocks(5), false}, {}, {666}});
  CHECK(pair.beta.apply_slots_in_use.empty());
  pair.beta.receive(old, {Goodbye{GoodbyeReason::Dropped, true}, {}, {}});
  pair.run();
  CHECK(pair.beta.seen.empty());
  CHECK(pair.beta.disk[5] == 1);
  CHECK(pair.beta.is_up_to_date());
  CHECK(pair.linked());
}

TEST_CASE("a new link waits for what the old one left on its way to the disk") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_writes = true;
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.lose_link();
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  pair.connect();
  CHECK(pair.linked());
  CHECK(pair.alpha.peer().connection == ConnectionState::Connecting);
  pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  CHECK(pair.beta.disk[5] == 2);
}

TEST_CASE("overlapping writes of the stream reach the disk in the order of the stream") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(1), 9);  // the first waits until it is recorded that there is something to lose
  pair.run();
  pair.beta.holds_writes = true;
  const Sequence first = pair.alpha.peer().sent + 1;
  pair.beta.receive(pair.incarnation(), {Write{first, blocks(5, 2), false}, {}, {1, 1}});
  pair.beta.receive(pair.incarnation(), {Write{first + 1, blocks(6, 2), false}, {}, {2, 2}});
  pair.beta.receive(pair.incarnation(), {Write{first + 2, blocks(7, 2), false}, {}, {3, 3}});
  CHECK(pair.beta.writes_under_way() == 1);
  pair.beta.complete_one_write();
  CHECK(pair.beta.writes_under_way() == 1);
  pair.beta.complete_one_write();
  pair.beta.complete_one_write();
  CHECK(pair.beta.disk[5] == 1);
  CHECK(pair.beta.disk[6] == 2);
  CHECK(pair.beta.disk[7] == 3);
  CHECK(pair.beta.apply_slots_in_use.empty());
}

TEST_CASE("a peer that breaks a rule is dropped and its write is not applied") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  const Sequence last = pair.alpha.peer().sent;
  const auto bad = GENERATE_COPY(TestFrame{Write{last, blocks(5), false}, {}, {2}},  // does not grow
                                 TestFrame{Write{last + 1, blocks(kTestBlocks), false}, {}, {2}},
                                 TestFrame{Write{last + 1, blocks(5), true}, {}, {2}},  // no resync runs
                                 TestFrame{Barrier{last + 1}, {}, {}}, TestFrame{StateReport{}, {}, {}},
                                 TestFrame{BitmapRuns{}, {}, {}}, TestFrame{ResyncDone{}, {}, {}});
  pair.beta.receive(pair.incarnation(), bad);
  pair.run();
  CHECK_FALSE(pair.linked());
  CHECK(pair.beta.disk[5] == 1);
  CHECK(pair.beta.apply_slots_in_use.empty());
  CHECK(std::any_of(pair.beta.notes.begin(), pair.beta.notes.end(),
                    [](const Note& note) { return note.kind == NoteKind::RuleBroken; }));
}

TEST_CASE("a Secondary serves no client") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.write(0, blocks(5), 1);
  pair.beta.request(1, ClientOperation::Read, blocks(5));
  CHECK(pair.beta.replies.at(0) == ESHUTDOWN);
  CHECK(pair.beta.replies.at(1) == ESHUTDOWN);
  CHECK_FALSE(pair.beta.export_open);
}

TEST_CASE("a peer is not called stuck for a write that was never sent to it") {
  ReplicaOptions options = test_options(0);
  options.peer_timeout_us = 200'000;
  Pair pair(options, test_options(1));
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.lose_link();
  pair.run();
  pair.alpha.write(1, blocks(6), 1);  // alone, and not flushed yet
  pair.run();
  pair.pass(400'000);
  pair.alpha.holds_flushes = true;  // a slow disk: the write stays in the transfer log
  pair.beta.holds_writes = true;
  pair.connect();
  REQUIRE(pair.linked());
  pair.alpha.write(2, blocks(7), 1);
  pair.run();
  pair.pass(50'000);
  CHECK(pair.linked());
}

TEST_CASE("a node without peers can demote after writes that overlapped") {
  ReplicaOptions alone = test_options(0);
  alone.peer_count = 0;
  Pair pair(alone, alone);
  pair.alpha.order(OrderKind::Promote);
  pair.run();
  pair.alpha.write(0, blocks(5), 1);
  pair.alpha.write(1, blocks(5), 2);
  pair.alpha.holds_writes = true;
  pair.run();
  pair.alpha.holds_writes = false;
  pair.run();
  REQUIRE(pair.alpha.replies.at(0) == 0);
  REQUIRE(pair.alpha.replies.at(1) == 0);
  const uint64_t ticket = pair.alpha.order(OrderKind::Demote);  // aborts: a reservation is never given back
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
}

}  // namespace lockstep::repl
