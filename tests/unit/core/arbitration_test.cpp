// on-peer-loss = arbiter, told as stories. The arbiter of these tests keeps a set of nodes as docs/arbiter.md asks.
#include <catch2/catch.hpp>
#include <cerrno>
#include <set>

#include "tests/unit/core/arbiter_stories.h"
#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

ReplicaOptions arbitrated(uint8_t node_order) {
  ReplicaOptions options = test_options(node_order);
  options.on_peer_loss = LossPolicy::Arbiter;
  return options;
}

Suspension suspension_of(const Side& side) {
  return side.replica().status().suspension;
}

struct Story {
  Pair pair{arbitrated(0), arbitrated(1)};
  Side& alpha = pair.alpha;
  Side& beta = pair.beta;
  // The record; each side's name is its number.
  bool exists = false;
  std::set<int> in_sync;
  Generation generation;
  bool reachable = true;
  size_t answered_alpha = 0, answered_beta = 0;

  ArbiterVerdict judge(const Side& side, int number, const AskArbiter& ask) {
    if (!reachable) return ArbiterVerdict::Unclear;
    if (ask.question == ArbiterQuestion::PeersInSync) {
      if (exists && !knows_generation(side, generation)) return ArbiterVerdict::Denied;
      exists = true;
      in_sync = {0, 1};
      generation = ask.generation;
      return ArbiterVerdict::Granted;
    }
    if (!exists) return ArbiterVerdict::Unclear;
    if (in_sync.count(number) == 0) return ArbiterVerdict::Denied;
    in_sync.erase(1 - number);
    generation = ask.generation;
    return ArbiterVerdict::Granted;
  }
  void answer(Side& side, int number, size_t& answered) {
    while (side.alive() && answered < side.asked.size()) {
      const AskArbiter ask = side.asked[answered++];
      side.feed(ArbiterAnswered{ask.ticket, judge(side, number, ask)});
      pair.run();
    }
  }
  void settle(uint64_t time_us = 1'000'000, bool links = true) {
    for (uint64_t passed = 0; passed < time_us; passed += 100'000) {
      pair.pass(100'000);
      if (links && !pair.linked()) pair.connect();
      if (!pair.alpha_frozen) answer(alpha, 0, answered_alpha);
      answer(beta, 1, answered_beta);
    }
  }
  Story() {
    pair.make_mirrored();
    settle();
    REQUIRE(exists);
  }
};

}  // namespace

TEST_CASE("a Primary goes on alone when the arbiter has taken the peer out, under the generation that it named") {
  Story story;
  story.pair.lose_link();
  story.alpha.write(0, blocks(1), 11);
  story.pair.run();
  REQUIRE(story.alpha.asked.back().question == ArbiterQuestion::FencePeers);
  CHECK(story.alpha.replies.empty());
  // Before anybody can know the generation it is this node's own.
  CHECK(story.alpha.superblock.reserved == story.alpha.asked.back().generation);
  story.settle(200'000, false);
  CHECK(story.alpha.replies == std::map<uint32_t, int>{{0, 0}});
  CHECK(story.in_sync == std::set<int>{0});
  CHECK(story.alpha.superblock.current == story.generation);

  const uint64_t ticket = story.beta.order(promote_plainly());
  story.settle(6'000'000, false);
  CHECK(story.beta.answered(ticket, Outcome::ArbiterDenied));
  CHECK_FALSE(story.beta.is_primary());

  // Back and in sync it is put back.
  story.settle();
  CHECK(story.in_sync == std::set<int>{0, 1});
  CHECK(story.beta.disk[1] == 11);
}

TEST_CASE("a clock that jumps proves nothing of how long a Primary has been away") {
  Story story;
  story.pair.lose_link();
  story.beta.order(promote_plainly());
  story.pair.run();
  const auto has_asked = [&story] {
    return std::any_of(story.beta.asked.begin(), story.beta.asked.end(),
                       [](const AskArbiter& ask) { return ask.question == ArbiterQuestion::Promote; });
  };
  story.pair.now_us += 60'000'000;
  story.beta.feed(Ticked{});
  story.pair.run();
  CHECK_FALSE(has_asked());
  story.pair.pass(5'000'000);
  CHECK(has_asked());
}

TEST_CASE("no answer of the arbiter is no permission: the node stays suspended and asks again") {
  Story story;
  story.reachable = false;
  story.pair.lose_link();
  story.alpha.write(0, blocks(1), 11);
  const size_t asked = story.alpha.asked.size();
  story.settle(20'000'000, false);
  CHECK(suspension_of(story.alpha) == Suspension::PeerLoss);
  CHECK(story.alpha.replies.empty());
  CHECK(story.alpha.asked.size() > asked + 2);
  CHECK(story.alpha.asked.size() < asked + 8);  // with longer and longer pauses
  story.reachable = true;
  story.settle(31'000'000, false);
  CHECK(story.alpha.replies == std::map<uint32_t, int>{{0, 0}});
}

TEST_CASE("an arbiter that refuses while the peer is brought up to date is asked again after a pause") {
  Story story;
  story.beta.holds_writes = true;
  story.alpha.write(0, blocks(1), 11);
  story.pair.run();
  story.pair.lose_link();
  story.pair.run();
  story.beta.holds_writes = false;
  story.alpha.holds_reads = true;  // the resync takes its time
  story.pair.connect();
  REQUIRE(story.alpha.peer().replication == ReplicationState::SyncSource);
  REQUIRE(suspension_of(story.alpha) == Suspension::PeerLoss);
  story.alpha.feed(ArbiterAnswered{story.alpha.asked.back().ticket, ArbiterVerdict::Denied});
  const size_t asked = story.alpha.asked.size();
  story.pair.pass(900'000);
  CHECK(story.alpha.is_primary());
  CHECK(story.alpha.asked.size() == asked);
  story.pair.pass(1'000'000);
  CHECK(story.alpha.asked.size() == asked + 1);
}

TEST_CASE("a Primary that has lost its only copy when the arbiter answers makes no generation of nothing") {
  Story story;
  story.alpha.write(0, blocks(1), 11);
  story.pair.run();
  story.alpha.holds_flushes = true;
  story.alpha.flush(1);
  story.pair.run();
  story.pair.lose_link();
  story.pair.run();
  const AskArbiter ask = story.alpha.asked.back();
  REQUIRE(ask.question == ArbiterQuestion::FencePeers);
  story.alpha.next_flush_errno = EIO;
  story.alpha.holds_flushes = false;
  story.pair.run();
  const Generation generation = story.alpha.replica().status().generation;
  story.alpha.feed(ArbiterAnswered{ask.ticket, ArbiterVerdict::Granted});
  story.pair.run();
  CHECK(story.alpha.replica().status().generation == generation);
  CHECK(story.alpha.replies.at(1) == EIO);
}

TEST_CASE("an answer that comes after the peer is back changes nothing") {
  Story story;
  story.pair.lose_link();
  story.pair.run();
  const AskArbiter ask = story.alpha.asked.back();
  story.pair.connect();
  CHECK(suspension_of(story.alpha) == Suspension::No);
  const Generation generation = story.alpha.superblock.current;
  story.alpha.feed(ArbiterAnswered{ask.ticket, GENERATE(ArbiterVerdict::Granted, ArbiterVerdict::Denied)});
  story.pair.run();
  CHECK(story.alpha.is_primary());
  CHECK(story.alpha.superblock.current == generation);
  // It may have been recorded, so the peer is put back.
  story.answered_alpha = story.alpha.asked.size() - 1;
  story.in_sync = {0};
  story.settle();
  CHECK(story.in_sync == std::set<int>{0, 1});
}

TEST_CASE("a Secondary is promoted through the arbiter once its Primary has surely stopped to answer") {
  Story story;
  story.alpha.crash();
  const uint64_t ticket = story.beta.order(promote_plainly());
  story.settle(2'000'000, false);
  CHECK(story.beta.answers.count(ticket) == 0);
  story.settle(4'000'000, false);
  CHECK(story.beta.answered(ticket, Outcome::Done));
  CHECK(story.in_sync == std::set<int>{1});
  story.beta.write(0, blocks(1), 22);
  story.pair.run();
  CHECK(story.beta.replies[0] == 0);
  CHECK(story.beta.superblock.current == story.generation);

  story.alpha.start();
  story.settle();
  CHECK(story.in_sync == std::set<int>{0, 1});
  CHECK(story.alpha.disk[1] == 22);
}

TEST_CASE("a Primary that was frozen and replaced through the arbiter answers nothing and steps down") {
  const bool link_returns = GENERATE(true, false);
  Story story;
  story.pair.alpha_frozen = true;
  story.settle(4'000'000, false);
  const uint64_t ticket = story.beta.order(promote_plainly());
  story.settle(6'000'000, false);
  REQUIRE(story.beta.answered(ticket, Outcome::Done));
  story.beta.write(0, blocks(1), 22);
  story.pair.run();
  REQUIRE(story.beta.replies[0] == 0);
  story.pair.alpha_frozen = false;
  story.alpha.request(0, ClientOperation::Read, blocks(1));
  story.alpha.write(1, blocks(2), 33);
  story.alpha.flush(2);
  CHECK(story.alpha.replies.empty());
  story.settle(2'000'000, link_returns);
  CHECK(story.alpha.replies == std::map<uint32_t, int>{{0, ESHUTDOWN}, {1, ESHUTDOWN}, {2, ESHUTDOWN}});
  CHECK_FALSE(story.alpha.is_primary());
  CHECK_FALSE(story.alpha.export_open);
  if (!link_returns) CHECK(story.alpha.replica().status().disk_state == DiskState::Outdated);
  story.settle();
  CHECK(story.alpha.disk[1] == 22);
  CHECK(story.beta.is_primary());
}

TEST_CASE("a node that restarted is promoted when the arbiter counts it as in sync") {
  Story story;
  story.alpha.crash();
  story.beta.crash();
  story.beta.start();
  REQUIRE(story.beta.replica().status().disk_state == DiskState::Consistent);
  const uint64_t ticket = story.beta.order(promote_plainly());
  story.settle(6'000'000, false);
  CHECK(story.beta.answered(ticket, Outcome::Done));
  CHECK(story.beta.is_up_to_date());
}

TEST_CASE("a survivor that restarts before its target has heard of the resync is not sure to hold the newest") {
  Story story;
  story.alpha.crash();
  story.alpha.start();
  story.alpha.turn();
  story.pair.run();
  story.beta.holds_persists = true;  // what makes beta the source
  story.pair.connect();
  REQUIRE(story.beta.peer().decision.rule == Rule::EqualPeerCrashed);
  story.pair.holds_to_alpha = true;
  story.beta.holds_persists = false;
  story.pair.run();
  REQUIRE_FALSE(story.beta.superblock.peers[0].bitmap_generation.is_zero());
  story.beta.crash();
  story.pair.holds_to_alpha = false;
  story.pair.run();
  REQUIRE(story.alpha.superblock.current == story.beta.superblock.current);

  const uint64_t ticket = story.alpha.order(promote_plainly());
  story.settle(6'000'000, false);
  REQUIRE(story.alpha.answered(ticket, Outcome::Done));
  story.alpha.write(0, blocks(1), 11);
  story.pair.run();
  REQUIRE(story.alpha.replies.at(0) == 0);

  story.beta.start();
  CHECK(story.beta.replica().status().disk_state == DiskState::Consistent);
  OrderGiven fenced = promote_plainly();
  fenced.peer_fenced = true;
  CHECK(story.beta.answered(story.beta.order(fenced), Outcome::NotUpToDate));
  story.settle();
  CHECK(story.in_sync == std::set<int>{0, 1});
  CHECK(story.beta.disk[1] == 11);
}

TEST_CASE("a peer that is back while the arbiter is to be asked is asked first: it may know of newer data") {
  Story story;
  story.pair.lose_link();
  story.pair.run();
  story.settle(100'000, false);  // alpha goes on alone
  story.alpha.write(0, blocks(1), 11);
  story.pair.run();
  REQUIRE(story.alpha.replies[0] == 0);
  story.alpha.crash();
  const uint64_t ticket = story.beta.order(promote_plainly());
  story.alpha.start();
  story.alpha.turn();
  story.pair.connect();
  story.settle();
  CHECK_FALSE(story.beta.answered(ticket, Outcome::Done));
  CHECK(story.beta.disk[1] == 11);
}

TEST_CASE("a grant is for one order: the next one asks again") {
  Story story;
  story.pair.lose_link();
  story.alpha.crash();
  const uint64_t first = story.beta.order(promote_plainly());
  story.pair.pass(5'000'000);
  const AskArbiter ask = story.beta.asked.back();
  REQUIRE(ask.question == ArbiterQuestion::Promote);
  story.beta.next_persist_errno = 0;
  story.beta.order(OrderKind::Outdate);  // it is not UpToDate any more when the answer comes
  story.beta.feed(ArbiterAnswered{ask.ticket, ArbiterVerdict::Granted});
  story.pair.run();
  CHECK_FALSE(story.beta.answered(first, Outcome::Done));
  CHECK_FALSE(story.beta.is_primary());
}

TEST_CASE("a promotion beside a peer without a disk answers nothing before the arbiter has taken the peer out") {
  Story story;
  story.alpha.order(OrderKind::Demote);
  story.settle();
  const bool in_order = GENERATE(false, true);  // else its metadata cannot say that it is behind
  if (!in_order) story.beta.next_persist_errno = EIO;
  story.beta.order(OrderKind::Detach);
  story.settle();
  story.reachable = false;
  story.alpha.order(promote_plainly());
  story.settle();
  REQUIRE(story.alpha.is_primary());
  story.alpha.write(7, blocks(50), 5);
  story.settle(500'000);
  CHECK(story.alpha.replies.count(7) == (in_order ? 1 : 0));
  story.reachable = true;
  story.settle(6'000'000);
  CHECK(story.alpha.replies.at(7) == 0);
  CHECK(story.in_sync.count(1) == (in_order ? 1 : 0));
  // Restarted with its disk, and cut off: it is not granted what it would ask for.
  story.beta.crash();
  story.beta.start();
  const uint64_t ticket = story.beta.order(promote_plainly());
  story.settle(6'000'000, false);
  CHECK(story.beta.answers.count(ticket) == 1);
  CHECK_FALSE(story.beta.is_primary());
}

TEST_CASE("a crash between the arbiter's record and the answer leaves a node that knows what it recorded") {
  Story story;
  story.pair.lose_link();
  story.alpha.write(0, blocks(1), 11);
  story.pair.run();
  story.judge(story.alpha, 0, story.alpha.asked.back());
  story.answered_alpha = story.alpha.asked.size();
  story.alpha.crash();
  story.alpha.start();
  story.answered_alpha = story.alpha.asked.size();
  story.settle();
  CHECK(story.in_sync == std::set<int>{0, 1});
  const uint64_t ticket = story.beta.order(promote_plainly());
  story.pair.run();
  CHECK(story.beta.answered(ticket, Outcome::Done));
}

TEST_CASE("a peer that is there and refused does not keep a promotion waiting") {
  Story story;
  story.alpha.order(OrderKind::Detach);
  story.settle();
  story.pair.lose_link();
  const uint64_t first = story.beta.order(promote_plainly());
  story.settle(6'000'000, false);
  REQUIRE(story.beta.answered(first, Outcome::Done));
  story.beta.write(0, blocks(1), 22);
  story.pair.run();
  REQUIRE(story.beta.replies.at(0) == 0);
  story.beta.crash();
  story.beta.start();
  story.beta.turn();
  story.settle();
  REQUIRE(story.beta.peer().decision.rule == Rule::ServedDataElsewhere);
  REQUIRE(story.alpha.is_primary());

  const uint64_t second = story.beta.order(promote_plainly());
  story.settle(6'000'000);
  CHECK(story.beta.answered(second, Outcome::Done));
  CHECK(story.beta.is_primary());
  CHECK_FALSE(story.alpha.is_primary());
}

TEST_CASE("a node that served and takes over answers nothing before the arbiter has taken the peer out") {
  Story story;
  story.alpha.next_persist_errno = EIO;  // its metadata cannot say any more that its data is old
  story.alpha.write(0, blocks(1), 11);
  story.settle();
  REQUIRE(story.alpha.replica().status().disk_state == DiskState::Failed);
  REQUIRE(story.alpha.replica().status().served_by_peer);
  OrderGiven switchover;
  switchover.kind = OrderKind::Switchover;
  const uint64_t ticket = story.alpha.order(switchover);
  story.settle();
  REQUIRE(story.alpha.answered(ticket, Outcome::Done));
  story.beta.write(0, blocks(2), 22);
  story.settle();
  CHECK(story.beta.replies.at(0) == 0);
  CHECK(story.in_sync == std::set<int>{1});

  // With its disk again, and cut off: it is not granted what it asks for.
  story.alpha.order(OrderKind::Disconnect);
  story.alpha.attach();
  const uint64_t promotion = story.alpha.order(promote_plainly());
  story.settle(6'000'000, false);
  CHECK(story.alpha.answers.count(promotion) == 1);
  CHECK_FALSE(story.alpha.is_primary());
}

}  // namespace lockstep::repl
