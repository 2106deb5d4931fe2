// Orders told as stories: promote, demote, switchover, disconnect, shutdown; and what a crash leaves.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

OrderGiven promote_forced(const Generation& generation) {
  OrderGiven order;
  order.kind = OrderKind::Promote;
  order.give_generation = true;
  order.generation = generation;
  return order;
}

OrderGiven switchover_to_peer() {
  OrderGiven order;
  order.kind = OrderKind::Switchover;
  order.peer = 0;
  return order;
}

}  // namespace

TEST_CASE("a promotion waits for a handshake under way, and goes on when nobody turns out to be there") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.holds_to_beta = true;  // as of a peer that is frozen: its kernel takes the link, nobody speaks
  pair.connect();
  const uint64_t ticket = pair.beta.order(promote_fenced());
  pair.run();
  CHECK(pair.beta.answers.count(ticket) == 0);
  CHECK_FALSE(pair.beta.export_open);
  pair.lose_link();
  pair.run();
  CHECK(pair.beta.answered(ticket, Outcome::Done));
  CHECK(pair.beta.export_open);
}

TEST_CASE("a first generation that only the peer has, since its asker crashed, does not set the two apart") {
  Pair pair;
  pair.run();
  pair.connect();
  pair.holds_to_alpha = true;  // beta grants, and alpha does not hear of it
  pair.alpha.order(OrderKind::Promote);
  pair.run();
  pair.alpha.crash();
  pair.run();
  pair.holds_to_alpha = false;
  REQUIRE(pair.alpha.superblock.current.is_zero());
  REQUIRE_FALSE(pair.beta.superblock.current.is_zero());
  pair.alpha.start();
  pair.alpha.order(promote_forced(Generation{}));  // as the arbiter would have it
  pair.run();
  REQUIRE(pair.alpha.is_primary());
  pair.alpha.write(0, blocks(5), 1);
  pair.alpha.flush(1);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  pair.connect();
  pair.run();
  CHECK(pair.beta.peer().decision.rule == Rule::SelfIsUnanswered);
  CHECK(pair.beta.peer().replication == ReplicationState::Established);
  CHECK(pair.beta.is_up_to_date());
  CHECK(pair.beta.disk[5] == 1);
  CHECK(pair.beta.superblock.unanswered_since.is_zero());
  CHECK(pair.alpha.superblock.current == pair.beta.superblock.current);
}

TEST_CASE("a first generation is used as soon as the peer writes what the Primary sent in it") {
  Pair pair;
  pair.make_mirrored();
  REQUIRE(pair.beta.superblock.unanswered_since == kHeldByNobody);
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  CHECK(pair.beta.superblock.unanswered_since.is_zero());
}

TEST_CASE("a Primary that was replaced before it wrote anything gives way to the one that did") {
  Pair pair;
  pair.run();
  pair.connect();
  pair.run();
  pair.lose_link();
  pair.alpha.order(promote_fenced());
  pair.run();
  REQUIRE(pair.alpha.is_primary());
  pair.alpha.crash();
  pair.run();
  pair.beta.order(promote_fenced());
  pair.run();
  pair.beta.write(0, blocks(5), 1);
  pair.run();
  REQUIRE(pair.beta.replies.at(0) == 0);

  pair.alpha.start();
  pair.connect();
  pair.run();
  CHECK(pair.alpha.peer().decision.rule == Rule::SelfIsUnanswered);
  CHECK(pair.alpha.disk[5] == 1);
  CHECK(pair.alpha.superblock.current == pair.beta.superblock.current);
}

TEST_CASE("of a first generation it is recorded that it is used before anything is written in it") {
  Pair pair;
  pair.make_mirrored();
  REQUIRE(pair.alpha.superblock.unanswered_since == kHeldByNobody);
  pair.alpha.seen.clear();
  pair.alpha.write(0, blocks(5), 1);
  pair.alpha.write(1, blocks(6), 2);
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.alpha.superblock.unanswered_since.is_zero());
  CHECK(pair.alpha.count_seen("persist superblock") == 1);
  CHECK(pair.alpha.place_of("persist superblock") < pair.alpha.place_of("write"));
}

TEST_CASE("a peer that comes back within one turn before the promotion is asked for its grant") {
  Pair pair;
  pair.make_mirrored();
  StateReport back = pair.beta.peer().peer_report;
  back.role = Role::Secondary;
  pair.beta.holds_writes = true;
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.lose_link();
  pair.run();
  const uint64_t ticket = pair.beta.order(promote_fenced());
  pair.run();
  REQUIRE(pair.beta.answers.count(ticket) == 0);  // what the Primary sent is on its way to the disk
  // Link, report and the end of that write, and the core is told of a turn's end only then.
  constexpr Incarnation kLink = 99;
  pair.beta.feed(LinkEstablished{0, kLink});
  pair.beta.feed(MessageArrived{0, kLink, back, 0});
  pair.beta.holds_writes = false;
  pair.beta.complete_one_write();
  REQUIRE(pair.beta.peer().connection == ConnectionState::Connected);
  pair.beta.turn();
  CHECK_FALSE(pair.beta.is_primary());
  CHECK(pair.beta.answers.count(ticket) == 0);
}

TEST_CASE("a promotion that waited for a handshake is refused when the peer turns out to be Primary") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.holds_to_beta = true;
  pair.connect();
  const uint64_t ticket = pair.beta.order(promote_fenced());
  pair.run();
  pair.holds_to_beta = false;
  pair.run();
  CHECK(pair.beta.answered(ticket, Outcome::PeerIsPrimary));
  CHECK_FALSE(pair.beta.is_primary());
}

TEST_CASE("two disks that were just created need no copy, and the first promotion names their lineage") {
  Pair pair;
  pair.make_mirrored();
  CHECK_FALSE(pair.alpha.superblock.current.is_zero());
  CHECK(pair.alpha.superblock.current == pair.beta.superblock.current);
  CHECK(pair.alpha.superblock.primary);
  CHECK(pair.alpha.export_open);
  CHECK_FALSE(pair.beta.export_open);
  CHECK(pair.beta.count_seen("write") == 0);
}

TEST_CASE("the export opens, and the order is answered, when the role is durable") {
  Pair pair;
  pair.run();
  pair.connect();
  pair.alpha.holds_persists = true;
  const uint64_t ticket = pair.alpha.order(OrderKind::Promote);
  pair.run();
  CHECK_FALSE(pair.alpha.export_open);
  CHECK(pair.alpha.answers.empty());
  pair.alpha.holds_persists = false;
  pair.run();
  CHECK(pair.alpha.superblock.primary);
  CHECK(pair.alpha.export_open);
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
}

TEST_CASE("of two promotions at the same time exactly one wins") {
  Pair pair;
  pair.run();
  pair.connect();
  const bool beta_asks_first = GENERATE(false, true);
  const uint64_t at_beta = beta_asks_first ? pair.beta.order(OrderKind::Promote) : 0;
  const uint64_t at_alpha = pair.alpha.order(OrderKind::Promote);
  const uint64_t later_at_beta = beta_asks_first ? at_beta : pair.beta.order(OrderKind::Promote);
  pair.run();
  CHECK(pair.alpha.answered(at_alpha, Outcome::Done));
  CHECK(pair.beta.answered(later_at_beta, Outcome::PeerSaidNo));
  CHECK(pair.alpha.is_primary());
  CHECK_FALSE(pair.beta.is_primary());

  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.beta.disk[5] == 42);
  const uint64_t again = pair.beta.order(OrderKind::Promote);
  CHECK(pair.beta.answered(again, Outcome::PeerIsPrimary));
}

TEST_CASE("promotion without the peer needs the operator's word that it is fenced") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.crash();
  pair.run();
  const uint64_t plain = pair.beta.order(OrderKind::Promote);
  CHECK(pair.beta.answered(plain, Outcome::PeerAbsent));
  const uint64_t fenced = pair.beta.order(promote_fenced());
  pair.run();
  CHECK(pair.beta.answered(fenced, Outcome::Done));
  CHECK(pair.beta.export_open);
}

TEST_CASE("a node that restarted does not know whether its data is the newest, and is not promoted") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.crash();
  pair.beta.start();
  pair.run();
  CHECK(pair.beta.replica().status().disk_state == DiskState::Consistent);
  const uint64_t fenced = pair.beta.order(promote_fenced());
  CHECK(pair.beta.answered(fenced, Outcome::NotUpToDate));
  pair.connect();
  CHECK(pair.beta.is_up_to_date());
}

TEST_CASE("data of unknown age is promoted only for the generation that was typed, and that is a lineage of its own") {
  Pair pair;
  pair.make_mirrored();
  const Generation common = pair.alpha.superblock.current;
  pair.alpha.crash();
  pair.beta.crash();
  pair.beta.start();
  pair.run();
  const uint64_t wrong = pair.beta.order(promote_forced({1, 2}));
  CHECK(pair.beta.answered(wrong, Outcome::WrongGeneration));
  const uint64_t right = pair.beta.order(promote_forced(common));
  pair.run();
  CHECK(pair.beta.answered(right, Outcome::Done));
  CHECK(pair.beta.superblock.forced);
  CHECK_FALSE(pair.beta.superblock.current == common);
  CHECK(pair.beta.superblock.peers[0].bitmap_generation == common);
}

TEST_CASE("goodbye from a Primary that goes on makes a Secondary Outdated, and Outdated is not promotable") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.order(OrderKind::Disconnect);
  pair.run();
  CHECK_FALSE(pair.linked());
  CHECK(pair.beta.superblock.disk_state == DiskState::Outdated);
  CHECK(pair.beta.answered(pair.beta.order(promote_fenced()), Outcome::NotUpToDate));

  pair.beta.crash();
  pair.beta.start();
  pair.run();
  CHECK(pair.beta.replica().status().disk_state == DiskState::Outdated);
  CHECK(pair.beta.answered(pair.beta.order(promote_fenced()), Outcome::NotUpToDate));

  pair.alpha.order(OrderKind::Connect);
  pair.connect();
  CHECK(pair.beta.is_up_to_date());
}

TEST_CASE("a Secondary that stops while the Primary goes on knows that it is Outdated") {
  Pair pair;
  pair.make_mirrored();
  const uint64_t ticket = pair.beta.order(OrderKind::Shutdown);
  pair.run();
  CHECK(pair.beta.answered(ticket, Outcome::Done));
  CHECK(pair.beta.superblock.disk_state == DiskState::Outdated);
  CHECK_FALSE(pair.linked());
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
}

TEST_CASE("demote refuses while clients are attached") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.feed(ExportClientsChanged{1});
  const uint64_t refused = pair.alpha.order(OrderKind::Demote);
  pair.run();
  CHECK(pair.alpha.answered(refused, Outcome::ClientsAttached));
  CHECK(pair.alpha.is_primary());
  CHECK(pair.alpha.export_open);

  pair.alpha.feed(ExportClientsChanged{0});
  const uint64_t done = pair.alpha.order(OrderKind::Demote);
  pair.run();
  CHECK(pair.alpha.answered(done, Outcome::Done));
  CHECK_FALSE(pair.alpha.is_primary());
  CHECK_FALSE(pair.alpha.export_open);
}

TEST_CASE("a node that demotes has made everything stable on both nodes first") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  pair.alpha.seen.clear();
  pair.beta.holds_flushes = true;
  const uint64_t ticket = pair.alpha.order(OrderKind::Demote);
  pair.run();
  CHECK(pair.alpha.is_primary());
  CHECK(pair.alpha.answers.count(ticket) == 0);
  pair.beta.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.alpha.stable_disk[5] == 42);
  CHECK(pair.beta.stable_disk[5] == 42);
  CHECK_FALSE(pair.alpha.superblock.primary);
  CHECK(pair.alpha.place_of("fdatasync") < pair.alpha.place_of("persist empty activity log"));
  CHECK(pair.alpha.place_of("persist empty activity log") < pair.alpha.place_of("persist superblock"));

  pair.alpha.crash(true);  // leaves nothing to recover
  pair.alpha.start();
  pair.run();
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
}

TEST_CASE("switchover changes the roles and keeps every write") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  const bool asked_at_beta = GENERATE(false, true);
  OrderGiven order = switchover_to_peer();
  order.to_self = asked_at_beta;
  Side& asked = asked_at_beta ? pair.beta : pair.alpha;
  const uint64_t ticket = asked.order(order);
  pair.run();
  CHECK(asked.answered(ticket, Outcome::Done));
  CHECK_FALSE(pair.alpha.is_primary());
  CHECK(pair.beta.is_primary());
  CHECK_FALSE(pair.alpha.export_open);
  CHECK(pair.beta.export_open);

  pair.beta.write(1, blocks(6), 43);
  pair.run();
  CHECK(pair.beta.replies.at(1) == 0);
  CHECK(pair.alpha.disk[6] == 43);
  CHECK(pair.alpha.disk == pair.beta.disk);
}

TEST_CASE("switchover refuses while clients are attached, wherever it was asked for") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.feed(ExportClientsChanged{2});
  OrderGiven order = switchover_to_peer();
  const uint64_t here = pair.alpha.order(order);
  order.to_self = true;
  const uint64_t there = pair.beta.order(order);
  pair.run();
  CHECK(pair.alpha.answered(here, Outcome::ClientsAttached));
  CHECK(pair.beta.answered(there, Outcome::ClientsAttached));
  CHECK(pair.alpha.is_primary());
}

namespace {
// beta has a third node as its second peer, of which alpha knows nothing.
struct PairWithThirdNode : Pair {
  static ReplicaOptions with_two_peers() {
    ReplicaOptions options = test_options(1);
    options.peer_count = 2;
    return options;
  }
  PairWithThirdNode() : Pair(test_options(0), with_two_peers()) {
    run();
    connect();
    lose_link();
    connect();  // alpha reports an UpToDate disk now, so beta's is as well
    alpha.order(OrderKind::Promote);
    run();
    REQUIRE(alpha.is_primary());
    REQUIRE(beta.is_up_to_date());
  }
};
}  // namespace

TEST_CASE("a switchover that fails leaves the old Primary Primary") {
  PairWithThirdNode pair;  // the third node is absent, so beta will not promote itself
  const uint64_t ticket = pair.alpha.order(switchover_to_peer());
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Restored));
  CHECK(pair.alpha.is_primary());
  CHECK(pair.alpha.export_open);
  CHECK_FALSE(pair.beta.is_primary());
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.beta.disk[5] == 42);
}

TEST_CASE("a switchover that fails after the old Primary agreed leaves it Primary, too") {
  PairWithThirdNode pair;
  constexpr Incarnation kThird = 77;
  StateReport report;
  report.current = pair.beta.superblock.current;
  report.role = Role::Secondary;
  report.disk_state = DiskState::UpToDate;
  report.node_order = 2;
  report.size_bytes = kTestDeviceBytes;
  report.sees_primary = true;
  pair.beta.feed(LinkEstablished{1, kThird});
  pair.beta.feed(MessageArrived{1, kThird, report, 0});
  REQUIRE(pair.beta.replica().peer_status(1).connection == ConnectionState::Connected);

  const uint64_t ticket = pair.alpha.order(switchover_to_peer());
  pair.run();  // alpha has granted; the third node has not answered
  REQUIRE_FALSE(pair.alpha.is_primary());
  pair.beta.feed(LinkLost{1, kThird});
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Restored));
  CHECK(pair.alpha.is_primary());
}

TEST_CASE("a switchover whose peer is lost in the middle does not guess") {
  Pair pair;
  pair.make_mirrored();
  const uint64_t ticket = pair.alpha.order(switchover_to_peer());
  pair.holds_to_alpha = true;
  pair.run();
  pair.lose_link();
  pair.holds_to_alpha = false;
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::PeerLost));
  CHECK_FALSE(pair.alpha.is_primary());  // the peer may have taken over
}

TEST_CASE("a Primary that crashed counts every block of its hot extents as out of sync") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 42);
  pair.alpha.write(1, blocks(3 * kBlocksPerExtent), 43);
  pair.run();
  pair.alpha.crash();
  pair.alpha.seen.clear();
  pair.alpha.start();
  pair.run();
  CHECK(pair.alpha.peer().out_of_sync_blocks == 2 * kBlocksPerExtent);
  CHECK(pair.alpha.superblock.peers[0].crashed_primary);
  CHECK_FALSE(pair.alpha.superblock.primary);
  CHECK(pair.alpha.place_of("persist bitmap") < pair.alpha.place_of("persist empty activity log"));
  CHECK(pair.alpha.place_of("persist superblock") < pair.alpha.place_of("persist empty activity log"));

  pair.connect();
  CHECK(pair.alpha.peer().decision.rule == Rule::EqualSelfCrashed);
  CHECK(pair.alpha.peer().replication == ReplicationState::Established);
  CHECK_FALSE(pair.alpha.superblock.peers[0].crashed_primary);
  CHECK(pair.alpha.disk == pair.beta.disk);
}

TEST_CASE("a write that only the crashed Primary's disk had is undone by the survivor's copy") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.holds_to_beta = true;
  pair.alpha.write(1, blocks(5), 2);
  pair.run();
  REQUIRE(pair.alpha.disk[5] == 2);
  REQUIRE(pair.alpha.replies.count(1) == 0);
  pair.alpha.crash();
  pair.holds_to_beta = false;
  pair.alpha.start();
  pair.run();
  pair.connect();
  CHECK(pair.alpha.disk[5] == 1);
  CHECK(pair.alpha.disk == pair.beta.disk);
}

TEST_CASE("a start that is interrupted anywhere reaches the same end") {
  for (int persists = 0; persists < 4; ++persists) {
    INFO("crash after " << persists << " persists");
    Pair pair;
    pair.make_mirrored();
    pair.alpha.write(0, blocks(5), 42);
    pair.run();
    pair.alpha.crash();
    pair.alpha.start();
    for (int i = 0; i < persists; ++i) pair.alpha.complete_one_persist();
    pair.alpha.crash();
    pair.alpha.start();
    pair.run();
    CHECK(pair.alpha.peer().out_of_sync_blocks == kBlocksPerExtent);
    CHECK(pair.alpha.superblock.peers[0].crashed_primary);
  }
}

TEST_CASE("a damaged activity log makes everything out of sync, durably") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 42);
  pair.run();
  pair.alpha.crash();
  pair.alpha.activity_log_valid = false;
  pair.alpha.start();
  pair.run();
  CHECK(pair.alpha.peer().out_of_sync_blocks == kTestBlocks);
  CHECK(pair.alpha.activity_log_valid);
  pair.alpha.crash();
  pair.alpha.start();
  pair.run();
  CHECK(pair.alpha.peer().out_of_sync_blocks == kTestBlocks);
  pair.connect();
  CHECK(pair.alpha.peer().out_of_sync_blocks == 0);
  CHECK(pair.alpha.disk == pair.beta.disk);
}

}  // namespace lockstep::repl
