// Protocols A, B and C on a mirrored pair, told as stories: what is answered when, in which order the Secondary writes,
// what bounds A, and how one protocol becomes another.
#include <catch2/catch.hpp>
#include <cerrno>

#include "replicator/core/replica.h"
#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

ReplicaOptions options_with(uint8_t node_order, Protocol protocol) {
  ReplicaOptions options = test_options(node_order);
  options.protocol = protocol;
  options.queue_limit_bytes = 8 * kBlockBytes;
  return options;
}

struct ProtocolPair : Pair {
  explicit ProtocolPair(Protocol protocol) : Pair(options_with(0, protocol), options_with(1, protocol)) {
    make_mirrored();
    alpha.write(0, blocks(0), 1);  // its extent is hot from here on
    run();
    pass(1'100'000);
  }
  uint64_t switch_to(Protocol protocol) {
    OrderGiven order;
    order.kind = OrderKind::SetProtocol;
    order.protocol = protocol;
    return alpha.order(order);
  }
  bool answered(uint32_t slot) const { return alpha.replies.count(slot) != 0; }
};

}  // namespace

TEST_CASE("protocol A answers a write when it is on the local disk, whatever the peer does") {
  ProtocolPair pair(Protocol::A);
  pair.holds_to_beta = true;
  pair.alpha.holds_writes = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  CHECK_FALSE(pair.answered(1));
  pair.alpha.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.beta.disk[5] == 0);
  pair.holds_to_beta = false;
  pair.run();
  CHECK(pair.beta.disk[5] == 42);
}

TEST_CASE("protocol A answers a flush and a FUA write when the local disk is stable, and a barrier follows them") {
  ProtocolPair pair(Protocol::A);
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.alpha.seen.clear();
  pair.alpha.flush(2);
  pair.run();
  CHECK(pair.alpha.replies.at(2) == 0);
  CHECK(pair.alpha.stable_disk[5] == 42);
  CHECK(pair.alpha.place_of("send barrier") < pair.alpha.place_of("reply 0"));

  pair.alpha.seen.clear();
  pair.alpha.write(3, blocks(6), 43, true);
  pair.run();
  CHECK(pair.alpha.replies.at(3) == 0);
  CHECK(pair.alpha.stable_disk[6] == 43);
  CHECK(pair.alpha.place_of("send barrier") < pair.alpha.place_of("reply 0"));

  pair.holds_to_beta = false;
  pair.run();
  CHECK(pair.beta.stable_disk[5] == 42);
  CHECK(pair.beta.stable_disk[6] == 43);
}

TEST_CASE("many FUA writes at once under protocol A share one barrier") {
  ProtocolPair pair(Protocol::A);
  pair.alpha.seen.clear();
  pair.alpha.holds_writes = true;
  for (uint32_t slot = 1; slot <= 4; ++slot) pair.alpha.write(slot, blocks(slot), slot, true);
  pair.alpha.holds_writes = false;
  pair.run();
  for (uint32_t slot = 1; slot <= 4; ++slot) CHECK(pair.alpha.replies.at(slot) == 0);
  CHECK(pair.alpha.count_seen("send barrier") == 1);
}

TEST_CASE("protocol B answers a write when the peer has received it, and a flush when all disks are stable") {
  ProtocolPair pair(Protocol::B);
  pair.beta.holds_writes = true;
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  CHECK_FALSE(pair.answered(1));
  pair.holds_to_beta = false;
  pair.run();
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.beta.disk[5] == 0);  // received, and not yet on the disk
  CHECK(pair.alpha.peer().received > pair.alpha.peer().written);

  pair.alpha.flush(2);
  pair.alpha.write(3, blocks(6), 43, true);
  pair.run();
  CHECK_FALSE(pair.answered(2));
  CHECK_FALSE(pair.answered(3));
  pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.replies.at(2) == 0);
  CHECK(pair.alpha.replies.at(3) == 0);
  CHECK(pair.beta.stable_disk[5] == 42);
  CHECK(pair.beta.stable_disk[6] == 43);
}

TEST_CASE("what protocol B was told to be received is written though the link is lost, before a report is sent") {
  ProtocolPair pair(Protocol::B);
  pair.beta.holds_writes = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  pair.alpha.crash();
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  const uint64_t ticket = pair.beta.order(promote);
  pair.run();
  CHECK(pair.beta.answers.count(ticket) == 0);
  pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.beta.answered(ticket, Outcome::Done));
  CHECK(pair.beta.disk[5] == 42);
}

TEST_CASE("the peer starts nothing behind a barrier before the barrier is done") {
  const Protocol protocol = GENERATE(Protocol::A, Protocol::B);
  ProtocolPair pair(protocol);
  pair.beta.holds_flushes = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.alpha.flush(2);
  pair.run();
  pair.alpha.write(3, blocks(6), 43);
  pair.alpha.write(4, blocks(7), 44);
  pair.run();
  CHECK(pair.beta.disk[5] == 42);
  CHECK(pair.beta.disk[6] == 0);
  CHECK(pair.beta.disk[7] == 0);
  CHECK(pair.answered(3));  // in A and B nobody waits for that

  SECTION("and goes on when it is") {
    pair.beta.holds_flushes = false;
    pair.run();
    CHECK(pair.beta.stable_disk[5] == 42);
    CHECK(pair.beta.disk[6] == 43);
    CHECK(pair.beta.disk[7] == 44);
  }
  SECTION("also when the link is gone meanwhile") {
    pair.lose_link();
    pair.run();
    CHECK(pair.beta.disk[6] == 0);
    pair.beta.holds_flushes = false;
    pair.run();
    CHECK(pair.beta.stable_disk[5] == 42);
    CHECK(pair.beta.disk[6] == 43);
    CHECK(pair.beta.apply_slots_in_use.empty());
  }
  SECTION("and drops it when the flush fails") {
    pair.beta.next_flush_errno = 5;
    pair.beta.holds_flushes = false;
    pair.run();
    CHECK(pair.beta.disk[6] == 0);
    CHECK(pair.beta.apply_slots_in_use.empty());
    CHECK(pair.beta.replica().status().disk_state == DiskState::Failed);
  }
}

TEST_CASE("a barrier is done when the write before it ends stable, without a flush") {
  ProtocolPair pair(Protocol::A);
  pair.beta.writes_through = true;
  pair.beta.holds_writes = true;
  pair.beta.seen.clear();
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.alpha.flush(2);
  pair.run();
  pair.alpha.write(3, blocks(6), 43);
  pair.run();
  CHECK(pair.beta.writes_under_way() == 1);  // the other waits behind the barrier
  pair.beta.complete_one_write();
  CHECK(pair.beta.writes_under_way() == 1);
  pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.beta.disk[6] == 43);
  CHECK(pair.beta.count_seen("fdatasync") == 0);
  CHECK(pair.alpha.peer().flushed == pair.alpha.peer().sent);
}

TEST_CASE("a barrier that a lost link left behind is done when the next link brings something to wait for it") {
  ProtocolPair pair(Protocol::A);
  pair.beta.holds_writes = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.alpha.flush(2);
  pair.run();
  pair.lose_link();
  pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.beta.disk[5] == 42);
  pair.connect();
  pair.run();
  pair.alpha.write(3, blocks(6), 43);
  pair.run();
  CHECK(pair.beta.disk[6] == 43);
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  CHECK(pair.beta.apply_slots_in_use.empty());
}

TEST_CASE("several barriers with writes between them are done one after the other") {
  ProtocolPair pair(Protocol::A);
  pair.holds_to_beta = true;
  for (uint32_t round = 0; round < 5; ++round) {
    pair.alpha.write(1, blocks(5 + round), 42 + round);
    pair.run();
    pair.alpha.flush(2);
    pair.run();
    REQUIRE(pair.alpha.replies.at(2) == 0);
  }
  pair.beta.seen.clear();
  pair.holds_to_beta = false;
  pair.run();
  CHECK(pair.beta.count_seen("fdatasync") == 5);
  CHECK(pair.beta.stable_disk[9] == 46);
  CHECK(pair.alpha.peer().flushed == pair.alpha.peer().sent);
}

TEST_CASE("under protocol C a write does not wait for the barrier of a flush that is not answered") {
  ProtocolPair pair(Protocol::C);
  pair.beta.holds_flushes = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.alpha.flush(2);
  pair.alpha.write(3, blocks(6), 43);
  pair.run();
  CHECK_FALSE(pair.answered(2));
  CHECK(pair.answered(3));
  CHECK(pair.beta.disk[6] == 43);
}

TEST_CASE("protocol A runs ahead no further than its queue, and goes on when the peer does") {
  ProtocolPair pair(Protocol::A);
  pair.holds_to_beta = true;
  for (uint32_t slot = 0; slot < 12; ++slot) pair.alpha.write(slot, blocks(10 + slot), 100 + slot);
  pair.run();
  uint32_t answered = 0;
  for (uint32_t slot = 0; slot < 12; ++slot) answered += pair.answered(slot) ? 1 : 0;
  CHECK(answered == 8);
  CHECK(pair.alpha.peer().lag_bytes == 8 * kBlockBytes);
  pair.now_us += 100'000;
  pair.alpha.feed(Ticked{});
  CHECK(pair.alpha.peer().lag_us == 100'000);
  pair.holds_to_beta = false;
  pair.run();
  for (uint32_t slot = 0; slot < 12; ++slot) CHECK(pair.alpha.replies.at(slot) == 0);
  CHECK(pair.alpha.peer().lag_bytes == 0);
  CHECK(pair.alpha.peer().lag_us == 0);
  CHECK(pair.beta.disk[21] == 111);
}

TEST_CASE("the four sequences tell sent, received, written and flushed apart") {
  ProtocolPair pair(Protocol::A);
  const Sequence before = pair.alpha.peer().sent;
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  CHECK(pair.alpha.peer().sent == before + 1);
  CHECK(pair.alpha.peer().received == before);
  pair.beta.holds_writes = true;
  pair.holds_to_beta = false;
  pair.run();
  CHECK(pair.alpha.peer().received == before + 1);
  CHECK(pair.alpha.peer().written == before);
  pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.peer().written == before + 1);
  CHECK(pair.alpha.peer().flushed == before);
  pair.pass(1'100'000);
  CHECK(pair.alpha.peer().flushed == before + 1);
}

TEST_CASE("under protocol A a peer that lags and goes on is kept, one that is stuck is dropped") {
  ProtocolPair pair(Protocol::A);
  pair.beta.holds_writes = true;
  for (uint32_t slot = 1; slot <= 6; ++slot) pair.alpha.write(slot, blocks(slot), slot);
  pair.run();
  for (int i = 0; i < 4; ++i) {
    pair.pass(2'000'000);  // of three that a peer may take for one step
    pair.beta.complete_one_write();
    pair.run();
  }
  CHECK(pair.linked());
  pair.pass(3'200'000);
  CHECK_FALSE(pair.linked());
}

TEST_CASE("a waiting flush under protocol A costs no more than one barrier and one local fdatasync") {
  ProtocolPair pair(Protocol::A);
  pair.beta.holds_writes = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.alpha.seen.clear();
  pair.pass(2'500'000);
  CHECK(pair.alpha.count_seen("fdatasync") == 1);
  CHECK(pair.alpha.count_seen("send barrier") == 1);
}

TEST_CASE("a demotion under protocol A waits until the peer has everything") {
  ProtocolPair pair(Protocol::A);
  pair.beta.holds_writes = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  REQUIRE(pair.answered(1));
  const uint64_t ticket = pair.alpha.order(OrderKind::Demote);
  pair.run();
  CHECK(pair.alpha.answers.count(ticket) == 0);
  pair.beta.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.beta.stable_disk[5] == 42);
  CHECK_FALSE(pair.alpha.superblock.peers[0].answered_ahead);
}

TEST_CASE("losing a peer that may lack an answered write makes a new generation at once") {
  ProtocolPair pair(Protocol::A);
  const Generation before = pair.alpha.replica().superblock().current;
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  REQUIRE(pair.answered(1));
  pair.lose_link();
  pair.run();
  CHECK(pair.alpha.superblock.current != before);
  CHECK(pair.alpha.superblock.peers[0].bitmap_generation == before);
  CHECK(pair.alpha.replica().is_out_of_sync(0, 5));
  pair.holds_to_beta = false;
  pair.connect();
  pair.run();
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  CHECK(pair.beta.disk[5] == 42);
}

TEST_CASE("losing a peer that has received everything makes none") {
  ProtocolPair pair(Protocol::A);
  const Generation before = pair.alpha.replica().superblock().current;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.lose_link();
  pair.run();
  CHECK(pair.alpha.superblock.current == before);
}

TEST_CASE("a Primary that crashed under protocol A comes back as the source") {
  ProtocolPair pair(Protocol::A);
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.alpha.flush(2);
  pair.run();
  REQUIRE(pair.answered(2));
  pair.alpha.crash(true);
  pair.holds_to_beta = false;
  pair.alpha.start();
  pair.run();
  pair.connect();
  pair.run();
  CHECK(pair.alpha.peer().decision.rule == Rule::EqualSelfCrashedAhead);
  CHECK(pair.beta.disk[5] == 42);
  CHECK(pair.alpha.is_up_to_date());
  CHECK(pair.beta.is_up_to_date());
  CHECK_FALSE(pair.alpha.superblock.peers[0].answered_ahead);
}

TEST_CASE("a node that is promoted makes stable first what protocol A may have called flushed without it") {
  ProtocolPair pair(Protocol::A);
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.holds_to_beta = true;  // the barrier comes too late
  pair.alpha.flush(2);
  pair.run();
  REQUIRE(pair.alpha.replies.at(2) == 0);
  pair.alpha.crash(true);
  pair.holds_to_beta = false;
  pair.run();
  REQUIRE(pair.beta.disk[5] == 42);
  REQUIRE(pair.beta.stable_disk[5] == 0);
  OrderGiven order;
  order.kind = OrderKind::Promote;
  order.peer_fenced = true;

  SECTION("before its export opens") {
    pair.beta.holds_flushes = true;
    const uint64_t ticket = pair.beta.order(order);
    pair.run();
    CHECK(pair.beta.answers.count(ticket) == 0);
    CHECK_FALSE(pair.beta.export_open);
    pair.beta.holds_flushes = false;
    pair.run();
    CHECK(pair.beta.answered(ticket, Outcome::Done));
    CHECK(pair.beta.stable_disk[5] == 42);
  }
  SECTION("and is not, if that fails: nor by force") {
    pair.beta.next_flush_errno = EIO;
    order.give_generation = GENERATE(false, true);
    order.generation = pair.beta.superblock.current;
    const uint64_t ticket = pair.beta.order(order);
    pair.run();
    CHECK(pair.beta.answered(ticket, Outcome::NoDisk));
    CHECK_FALSE(pair.beta.export_open);
    CHECK_FALSE(pair.beta.is_primary());
  }
}

TEST_CASE("a promotion under protocol C waits for no fdatasync") {
  ProtocolPair pair(Protocol::C);
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.alpha.crash();
  pair.run();
  pair.beta.holds_flushes = true;
  OrderGiven order;
  order.kind = OrderKind::Promote;
  order.peer_fenced = true;
  const uint64_t ticket = pair.beta.order(order);
  pair.run();
  CHECK(pair.beta.answered(ticket, Outcome::Done));
}

TEST_CASE("that this node answers ahead is durable before the first such answer") {
  ProtocolPair pair(Protocol::C);
  CHECK_FALSE(pair.alpha.superblock.peers[0].answered_ahead);
  pair.alpha.holds_persists = true;
  pair.holds_to_beta = true;
  const uint64_t ticket = pair.switch_to(Protocol::A);
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  CHECK_FALSE(pair.answered(1));
  CHECK(pair.alpha.answers.count(ticket) == 0);
  pair.alpha.complete_one_persist();
  pair.run();
  CHECK(pair.alpha.superblock.peers[0].answered_ahead);
  CHECK(pair.alpha.replies.at(1) == 0);
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
}

TEST_CASE("a write that began under protocol C keeps waiting for it when the protocol becomes A") {
  ProtocolPair pair(Protocol::C);
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.switch_to(Protocol::A);
  pair.alpha.write(2, blocks(6), 43);
  pair.run();
  CHECK_FALSE(pair.answered(1));
  CHECK(pair.answered(2));
  pair.holds_to_beta = false;
  pair.run();
  CHECK(pair.answered(1));
}

TEST_CASE("the change from protocol A to C is over when the peer has all that A had answered") {
  ProtocolPair pair(Protocol::A);
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  REQUIRE(pair.answered(1));
  const uint64_t ticket = pair.switch_to(Protocol::C);
  pair.alpha.write(2, blocks(6), 43);
  pair.run();
  CHECK_FALSE(pair.answered(2));  // new writes wait at once
  CHECK(pair.alpha.answers.count(ticket) == 0);
  CHECK(pair.alpha.peer().protocol == Protocol::A);
  CHECK(pair.alpha.answered(pair.switch_to(Protocol::B), Outcome::Busy));

  SECTION("by the stream") {
    pair.beta.holds_flushes = true;
    pair.holds_to_beta = false;
    pair.run();
    CHECK(pair.alpha.answers.count(ticket) == 0);
    pair.beta.holds_flushes = false;
    pair.run();
    CHECK(pair.beta.stable_disk[5] == 42);
  }
  SECTION("or when the peer is lost, and its blocks are marked") {
    pair.lose_link();
    pair.run();
    CHECK(pair.alpha.replica().is_out_of_sync(0, 5));
  }
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.alpha.peer().protocol == Protocol::C);
  CHECK_FALSE(pair.alpha.superblock.peers[0].answered_ahead);
  CHECK(pair.answered(2));
}

TEST_CASE("a flush that protocol A answered orders what comes behind it although the protocol has become C") {
  ProtocolPair pair(Protocol::C);
  pair.beta.holds_flushes = true;
  pair.alpha.write(1, blocks(5), 42);
  pair.run();
  pair.switch_to(Protocol::A);
  pair.run();
  pair.alpha.flush(2);
  pair.run();
  REQUIRE(pair.answered(2));
  pair.switch_to(Protocol::C);
  pair.alpha.write(3, blocks(6), 43);
  pair.run();
  CHECK(pair.beta.disk[6] == 0);
  CHECK_FALSE(pair.answered(3));
  pair.beta.holds_flushes = false;
  pair.run();
  CHECK(pair.answered(3));
}

}  // namespace lockstep::repl
