// A handler that runs before a node becomes target of a resync: what waits for it, and what does not.
#include <catch2/catch.hpp>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

ReplicaOptions prepares(uint8_t node_order, LossPolicy policy = LossPolicy::Continue) {
  ReplicaOptions options = test_options(node_order);
  options.prepares_resyncs = true;
  options.on_peer_loss = policy;
  return options;
}

// alpha is Primary and has written value 1 to block 5 while beta was away; beta is back.
struct Story : Pair {
  explicit Story(LossPolicy policy = LossPolicy::Continue) : Pair(prepares(0, policy), prepares(1, policy)) {
    make_mirrored();
    alpha.write(2, blocks(4), 7);
    run();
    lose_link();
    run();
    alpha.write(0, blocks(5), 1);
    run();
    beta.seen.clear();
    connect();
  }
  void handler_of_beta_ends(bool well = true) {
    beta.feed(ResyncPrepared{0, well});
    run();
    if (!linked()) connect();
  }
  bool in_sync() const {
    return alpha.peer().replication == ReplicationState::Established &&
           beta.peer().replication == ReplicationState::Established && alpha.disk == beta.disk &&
           alpha.is_up_to_date() && beta.is_up_to_date();
  }
};

OrderGiven order_of(OrderKind kind) {
  OrderGiven order;
  order.kind = kind;
  return order;
}

}  // namespace

TEST_CASE("nothing is copied before the target's handler has run, and no write is sent") {
  Story story;
  CHECK(story.beta.preparations_asked == 1);
  CHECK(story.alpha.preparations_asked == 0);
  CHECK(story.alpha.peer().connection == ConnectionState::Connected);
  CHECK(story.alpha.peer().replication == ReplicationState::Off);
  CHECK(story.alpha.peer().decision.rule == Rule::PeerPrepares);
  CHECK(story.beta.peer().resync_prepares);
  story.alpha.write(1, blocks(6), 2);
  story.alpha.flush(2);
  story.run();
  CHECK(story.alpha.replies.at(1) == 0);
  CHECK(story.alpha.replies.at(2) == 0);
  CHECK(story.beta.count_seen("write") == 0);
  story.handler_of_beta_ends();
  CHECK(story.in_sync());
  CHECK(story.beta.disk[5] == 1);
  CHECK(story.beta.disk[6] == 2);
  CHECK(story.beta.preparations_asked == 1);
}

TEST_CASE("an empty disk that ages while the handler runs is not taken for the one that was met") {
  Story story;
  story.beta.crash();
  story.run();
  const Generation name = story.beta.superblock.current;
  story.beta.superblock = SuperblockImage{};
  story.beta.superblock.life = Life{77, 5};
  std::fill(story.beta.activity_log.begin(), story.beta.activity_log.end(), kNoExtent);
  story.beta.superblock.current = name;  // from a third node, which did not know that anything had been written in it
  std::fill(story.beta.disk.begin(), story.beta.disk.end(), 0);
  story.beta.start();
  story.connect();
  REQUIRE(story.alpha.peer().decision.rule == Rule::PeerPrepares);
  story.alpha.receive(story.incarnation(), TestFrame{Lived{Life{77, 5}}, {}, {}, {}});
  story.run();
  story.handler_of_beta_ends();
  CHECK(story.in_sync());
}

TEST_CASE("a node that prepares knows that it is behind, also when the source is lost for good") {
  Story story;
  CHECK(story.beta.superblock.disk_state == DiskState::Outdated);
  story.alpha.crash();
  story.lose_link();
  story.run();
  OrderGiven promote = order_of(OrderKind::Promote);
  promote.peer_fenced = true;
  CHECK(story.beta.answered(story.beta.order(promote), Outcome::NotUpToDate));
}

TEST_CASE("a link that is lost meanwhile does not run the handler twice") {
  Story story;
  story.lose_link();
  story.run();
  story.connect();
  CHECK(story.beta.preparations_asked == 1);
  CHECK(story.beta.peer().resync_prepares);
  SECTION("it ends while the link is there") {
    story.handler_of_beta_ends();
    CHECK(story.in_sync());
  }
  SECTION("it ends while the link is away") {
    story.lose_link();
    story.run();
    story.beta.feed(ResyncPrepared{0, true});
    story.connect();
    CHECK(story.in_sync());
  }
  CHECK(story.beta.preparations_asked == 1);
}

TEST_CASE("each resync has its own handler; one that goes on after an interruption has not") {
  Story story;
  story.alpha.holds_reads = true;
  story.handler_of_beta_ends();
  CHECK(story.beta.peer().replication == ReplicationState::SyncTarget);
  story.lose_link();
  story.alpha.holds_reads = false;
  story.run();
  story.connect();
  CHECK(story.in_sync());
  CHECK(story.beta.preparations_asked == 1);
  story.lose_link();
  story.run();
  story.alpha.write(1, blocks(9), 3);
  story.run();
  story.connect();
  CHECK(story.beta.preparations_asked == 2);
  CHECK_FALSE(story.in_sync());
  story.handler_of_beta_ends();
  CHECK(story.in_sync());
}

TEST_CASE("a resync whose handler has failed is held until an operator has it run again") {
  Story story;
  story.handler_of_beta_ends(false);
  CHECK(story.beta.peer().resync_held);
  story.pass(30'000'000);
  CHECK(story.beta.preparations_asked == 1);
  CHECK(story.alpha.peer().replication == ReplicationState::Off);
  CHECK(story.beta.answered(story.beta.order(order_of(OrderKind::ResumeResync)), Outcome::Done));
  CHECK(story.beta.preparations_asked == 2);
  CHECK(story.beta.answered(story.beta.order(order_of(OrderKind::ResumeResync)), Outcome::NotSyncing));
  story.handler_of_beta_ends();
  CHECK(story.in_sync());
}

TEST_CASE("a link that is made anew has a handler that failed run again") {
  Story story;
  story.handler_of_beta_ends(false);
  story.lose_link();
  story.run();
  story.connect();
  CHECK(story.beta.preparations_asked == 2);
  story.handler_of_beta_ends();
  CHECK(story.in_sync());
}

TEST_CASE("a suspended Primary goes on when the resync behind the handler is over, not before") {
  Pair pair(prepares(0, LossPolicy::Suspend), prepares(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.holds_to_beta = true;
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.lose_link();
  pair.holds_to_beta = false;
  pair.run();
  CHECK(pair.alpha.replica().status().suspension == Suspension::PeerLoss);
  pair.connect();
  CHECK(pair.beta.preparations_asked == 1);
  CHECK(pair.alpha.replies.count(0) == 0);
  pair.beta.feed(ResyncPrepared{0, true});
  pair.run();
  if (!pair.linked()) pair.connect();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.alpha.replica().status().suspension == Suspension::No);
  CHECK(pair.beta.disk[5] == 1);
}

TEST_CASE("a handler that ends when it is not needed any more changes nothing, and the next resync has its own") {
  Story story;
  story.lose_link();
  story.run();
  // beta's data is wanted after all.
  OrderGiven promote = order_of(OrderKind::Promote);
  promote.give_generation = true;
  promote.generation = story.beta.superblock.current;
  const uint64_t promoted = story.beta.order(promote);
  story.run();
  CHECK(story.beta.answered(promoted, Outcome::Done));
  story.beta.feed(ResyncPrepared{0, true});
  story.run();
  CHECK(story.beta.is_primary());
  const uint64_t demoted = story.beta.order(OrderKind::Demote);
  story.run();
  CHECK(story.beta.answered(demoted, Outcome::Done));
  story.connect();  // a split brain, which beta loses
  OrderGiven resync = order_of(OrderKind::Resync);
  resync.every_peer = false;
  resync.give_generation = true;
  resync.generation = story.beta.superblock.current;
  story.beta.order(resync);
  story.run();
  story.connect();
  CHECK(story.beta.preparations_asked == 2);
  story.handler_of_beta_ends();
  CHECK(story.in_sync());
}

}  // namespace lockstep::repl
