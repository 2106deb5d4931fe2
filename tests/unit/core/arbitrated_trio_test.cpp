// on-peer-loss = arbiter with three nodes, told as stories. The arbiter of these tests keeps a set of nodes as
// docs/arbiter.md asks.
#include <array>
#include <catch2/catch.hpp>
#include <set>

#include "tests/unit/core/arbiter_stories.h"
#include "tests/unit/core/trio.h"

namespace lockstep::repl {
namespace {

ReplicaOptions arbitrated(int number) {
  ReplicaOptions options = trio_options(number);
  options.on_peer_loss = LossPolicy::Arbiter;
  return options;
}

struct Story {
  Trio trio{arbitrated(0), arbitrated(1), arbitrated(2)};
  Side& alpha = trio.alpha;
  Side& beta = trio.beta;
  Side& gamma = trio.gamma;
  // The record; each side's name is its number.
  bool exists = false;
  std::set<int> in_sync;
  Generation generation;
  std::array<bool, 3> reaches{true, true, true};  // the arbiter
  std::array<size_t, 3> answered{};

  Story() {
    trio.make_mirrored();
    answer();
    REQUIRE(exists);
  }

  Side& side(int number) { return number == 0 ? alpha : number == 1 ? beta : gamma; }

  ArbiterVerdict judge(int number, const AskArbiter& ask) {
    std::set<int> about;
    for (PeerIndex peer = 0; peer < 2; ++peer) {
      if (((ask.peers | ask.behind) & mask_of(peer)) != 0) about.insert(peer < number ? peer : peer + 1);
    }
    if (ask.question == ArbiterQuestion::PeersInSync) {
      if (exists && !knows_generation(side(number), generation)) return ArbiterVerdict::Denied;
      about.insert(number);
      if (!exists && about.size() < 3) return ArbiterVerdict::Unclear;
      exists = true;
      in_sync.insert(about.begin(), about.end());
      generation = ask.generation;
      return ArbiterVerdict::Granted;
    }
    if (!exists) return ArbiterVerdict::Unclear;
    if (in_sync.count(number) == 0) return ArbiterVerdict::Denied;
    for (const int out : about) in_sync.erase(out);
    generation = ask.generation;
    return ArbiterVerdict::Granted;
  }
  void answer() {
    for (int number = 0; number < 3; ++number) {
      const auto place = static_cast<size_t>(number);
      while (reaches[place] && side(number).alive() && answered[place] < side(number).asked.size()) {
        const AskArbiter ask = side(number).asked[answered[place]++];
        side(number).feed(ArbiterAnswered{ask.ticket, judge(number, ask)});
        trio.run();
      }
    }
  }
  void pass(uint64_t time_us) {
    for (uint64_t passed = 0; passed < time_us; passed += 100'000) {
      trio.pass(100'000);
      answer();
    }
  }
  void promote(Side& side) {
    const uint64_t ticket = side.order(promote_plainly());
    pass(6'000'000);
    REQUIRE(side.answered(ticket, Outcome::Done));
  }
  // Beta is promoted with gamma. Alpha, which reaches neither them nor the arbiter, notices nothing.
  void replace_alpha() {
    reaches[0] = false;
    trio.lose_link(alpha, beta);
    trio.lose_link(alpha, gamma);
    trio.run();
    trio.connect(beta, gamma);
    REQUIRE(trio.peer(gamma, beta).connection == ConnectionState::Connected);
    promote(beta);
    REQUIRE(alpha.is_primary());
  }
};

}  // namespace

TEST_CASE("a Primary that was replaced, and does not know it yet, takes nothing with it when its link is lost") {
  Story story;
  Trio& trio = story.trio;
  story.replace_alpha();
  story.beta.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(story.beta.replies.at(0) == 0);
  REQUIRE(story.alpha.is_primary());

  trio.connect(story.alpha, story.gamma);
  CHECK_FALSE(story.alpha.is_primary());  // refused, it knows
  CHECK(trio.peer(story.gamma, story.beta).replication == ReplicationState::Established);
  CHECK(trio.bits(story.gamma, story.beta) == 0);
}

// The arbiter does not answer beta. alpha comes back: as Primary, which ends the promotion, or restarted, and all are
// asked once more.
TEST_CASE("a promotion that fails when another node has come back gives back what was granted") {
  Story story;
  Trio& trio = story.trio;
  const bool is_asked = GENERATE(false, true);
  story.reaches = {false, false, false};
  trio.lose_link(story.alpha, story.beta);
  trio.lose_link(story.alpha, story.gamma);
  trio.run();
  trio.connect(story.beta, story.gamma);
  REQUIRE(story.gamma.superblock.waited_for == WaitedFor::Yes);
  const uint64_t ticket = story.beta.order(promote_plainly());
  trio.run();
  REQUIRE(story.gamma.superblock.waited_for == WaitedFor::Unknown);
  if (is_asked) {
    story.alpha.crash();
    story.alpha.start();
    trio.run();
    story.alpha.order(promote_plainly());  // of two that ask it comes first
  }
  trio.connect(story.alpha, story.beta);
  REQUIRE_FALSE(story.beta.is_primary());
  REQUIRE(story.beta.answers.count(ticket) == 1);
  CHECK_FALSE(story.beta.answered(ticket, Outcome::Done));
  CHECK(story.gamma.superblock.waited_for == WaitedFor::Yes);
}

TEST_CASE("a node that follows a Primary is refused by another that was replaced, and has noticed nothing") {
  Story story;
  Trio& trio = story.trio;
  story.replace_alpha();
  REQUIRE(story.alpha.is_primary());

  // Nothing was written, so the generations tell nobody which of the two it is.
  trio.connect(story.alpha, story.gamma);
  CHECK(trio.peer(story.gamma, story.alpha).decision.rule == Rule::SelfFollowsAnother);
  CHECK(trio.peer(story.alpha, story.gamma).decision.rule == Rule::PeerFollowsAnother);
  trio.connect(story.alpha, story.beta);
  story.reaches[0] = true;
  trio.settle();
  story.answer();
  CHECK_FALSE(story.alpha.is_primary());
  story.beta.write(0, blocks(5), 1);
  trio.run();
  CHECK(story.beta.replies.at(0) == 0);
  CHECK(story.gamma.disk[5] == 1);
  CHECK(story.alpha.disk[5] == 1);
}

TEST_CASE("a Primary without a disk loses nothing to the one that it replaced, which has noticed nothing") {
  Story story;
  Trio& trio = story.trio;
  story.replace_alpha();
  // Beta's disk is given up; gamma is lost before it has stored the generation in which it is to serve, and meets
  // alpha.
  story.gamma.holds_persists = true;
  story.beta.order(OrderKind::Detach);
  trio.run();
  trio.lose_link(story.beta, story.gamma);
  story.gamma.crash();
  story.gamma.holds_persists = false;
  story.gamma.start();
  trio.run();
  trio.connect(story.alpha, story.gamma);
  trio.connect(story.beta, story.gamma);
  REQUIRE(trio.peer(story.beta, story.gamma).decision.rule == Rule::PeerFollowsAnother);
  story.beta.write(0, blocks(5), 1);
  trio.run();
  CHECK(story.beta.replies.count(0) == 0);
  SECTION("the server comes back") {
    story.alpha.crash();
    trio.settle();
    REQUIRE(story.beta.replies.count(0) == 1);
    CHECK(story.beta.replies.at(0) == 0);
    CHECK(story.gamma.disk[5] == 1);
  }
  SECTION("the two meet") {
    trio.connect(story.alpha, story.beta);
    CHECK_FALSE(story.alpha.is_primary());
    CHECK(story.beta.is_primary());
    CHECK(story.beta.replies.count(0) == 0);
  }
}

TEST_CASE("what was held is not answered on the word of a peer that has lost it since, and is not missed yet") {
  Story story;
  Trio& trio = story.trio;
  // A resync tells beta how far it is in alpha's stream; gamma knows less of itself.
  trio.lose_link(story.alpha, story.beta);
  trio.run();
  story.alpha.write(1, blocks(6), 2);
  story.pass(1'000'000);
  trio.connect(story.alpha, story.beta);
  story.pass(1'000'000);
  REQUIRE(trio.are_alike(story.alpha, story.beta));

  story.reaches = {false, false, false};
  trio.holds[0][1] = true;
  story.alpha.write(0, blocks(5), 1, true);
  trio.run();
  REQUIRE(story.gamma.stable_disk[5] == 1);
  // Both are restarted; alpha knows so only of beta, which has not got it, and gives gamma its data.
  trio.lose_link(story.alpha, story.beta);
  trio.lose_link_unnoticed(story.gamma, story.alpha);
  trio.holds[0][1] = false;
  story.beta.crash(true);
  story.gamma.crash(true);
  story.beta.start();
  story.gamma.start();
  trio.run();
  trio.connect(story.beta, story.gamma);
  REQUIRE(story.gamma.disk[5] == 0);
  trio.connect(story.alpha, story.beta);
  CHECK(story.beta.disk[5] == 1);
  CHECK(story.alpha.replies.count(0) == 0);
  trio.connect(story.alpha, story.gamma);
  CHECK(story.gamma.disk[5] == 1);
  CHECK(story.alpha.replies.count(0) == 1);
}

TEST_CASE("a target that another node has completed meanwhile is taken out of the set before anything is answered") {
  Story story;
  Trio& trio = story.trio;
  trio.lose_link(story.alpha, story.gamma);
  trio.lose_link(story.beta, story.gamma);
  trio.run();
  story.answer();
  story.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(story.alpha.replies.at(0) == 0);
  REQUIRE(story.in_sync == std::set<int>{0, 1});
  story.alpha.holds_reads = true;  // the resync does not end
  trio.connect(story.alpha, story.gamma);
  REQUIRE(trio.peer(story.gamma, story.alpha).replication == ReplicationState::SyncTarget);
  // alpha loses both, and cannot ask; beta does for gamma what alpha had begun.
  story.reaches[0] = false;
  trio.lose_link(story.alpha, story.gamma);
  trio.lose_link(story.alpha, story.beta);
  trio.run();
  trio.connect(story.beta, story.gamma);
  trio.run();
  REQUIRE(story.gamma.is_up_to_date());
  story.pass(3'000'000);
  REQUIRE(story.in_sync == std::set<int>{0, 1, 2});
  trio.lose_link(story.beta, story.gamma);
  trio.connect(story.alpha, story.beta);
  trio.run();
  story.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK(story.alpha.replies.count(1) == 0);
  story.reaches[0] = true;
  story.pass(3'000'000);
  CHECK(story.in_sync.count(2) == 0);
  CHECK(story.alpha.replies.count(1) == 1);
  CHECK(story.beta.disk[6] == 2);
}

TEST_CASE("a Primary without a disk answers nothing that one of its servers lacks, whom the arbiter counts") {
  Story story;
  story.alpha.order(OrderKind::Detach);
  story.trio.run();
  story.answer();
  story.alpha.write(0, blocks(5), 1);
  story.trio.run();
  REQUIRE(story.alpha.replies.at(0) == 0);      // through both
  const bool was_sent = GENERATE(true, false);  // to beta, before gamma is lost
  INFO((was_sent ? "sent" : "not sent"));
  story.trio.holds[0][2] = true;
  if (was_sent) story.alpha.write(1, blocks(6), 2);
  story.trio.run();
  story.trio.lose_link(story.alpha, story.gamma);
  story.trio.lose_link(story.beta, story.gamma);
  story.trio.holds[0][2] = false;
  story.trio.run();
  story.answer();
  if (!was_sent) story.alpha.write(1, blocks(6), 2);
  story.trio.run();
  story.answer();
  CHECK(story.alpha.replies.count(1) == 0);
  CHECK(story.alpha.replica().status().suspension != Suspension::No);
  SECTION("which may be promoted") {
    REQUIRE(story.in_sync.count(2) == 1);
    const uint64_t ticket = story.gamma.order(promote_plainly());
    for (int second = 0; second < 5; ++second) {
      story.trio.pass(1'000'000);
      story.answer();
      story.trio.run();
    }
    CHECK(story.gamma.answered(ticket, Outcome::Done));
    CHECK(story.alpha.replies.count(1) == 0);
  }
  SECTION("until that one is back") {
    story.trio.connect();
    story.trio.settle();
    REQUIRE(story.alpha.replies.count(1) == 1);
    CHECK(story.alpha.replies.at(1) == 0);
    CHECK(story.gamma.disk[6] == 2);
  }
  SECTION("until its disk is back, with which it can record who lacks it") {
    story.alpha.attach();
    story.trio.run();
    for (int second = 0; second < 5 && story.alpha.replies.count(1) == 0; ++second) {
      story.trio.connect(story.alpha, story.beta);
      story.trio.pass(1'000'000);
      story.answer();
      story.trio.run();
    }
    CHECK(story.in_sync.count(2) == 0);
    CHECK(story.alpha.replies.count(1) == 1);
  }
  SECTION("or an operator vouches for it") {
    OrderGiven resume;
    resume.kind = OrderKind::Resume;
    resume.alone = true;
    story.alpha.order(resume);
    story.trio.run();
    CHECK(story.alpha.replies.count(1) == 1);
    CHECK(story.alpha.replies.at(1) == 0);
  }
}

TEST_CASE("a question is asked again when this node has gone on in the name that it gave the record") {
  Story story;
  Trio& trio = story.trio;
  // beta is being brought up to date; gamma is lost, and comes back while the arbiter takes its time. The next write
  // begins a generation, for beta's sake.
  story.beta.order(OrderKind::Disconnect);
  trio.run();
  write(trio, story.alpha, blocks(7), 3);
  story.alpha.holds_reads = true;
  story.beta.order(OrderKind::Connect);
  trio.connect(story.alpha, story.beta);
  REQUIRE(trio.peer(story.alpha, story.beta).replication == ReplicationState::SyncSource);
  trio.lose_link(story.alpha, story.gamma);
  trio.run();
  REQUIRE(story.answered[0] + 1 == story.alpha.asked.size());
  trio.connect(story.alpha, story.gamma);
  story.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(story.alpha.replies.at(0) == 0);
  REQUIRE(story.gamma.superblock.current == story.alpha.asked.back().generation);
  // gamma is lost again, and only then comes the answer.
  trio.lose_link(story.alpha, story.gamma);
  trio.run();
  story.reaches[1] = story.reaches[2] = false;
  story.alpha.write(1, blocks(6), 2);
  story.pass(1'000'000);
  REQUIRE(story.alpha.replies.at(1) == 0);
  CHECK(story.in_sync == std::set<int>{0});
  CHECK_FALSE(story.generation == story.gamma.superblock.current);
}

TEST_CASE("a Primary that was promoted before it was put into the set is put in before it steps down") {
  Story story;
  Trio& trio = story.trio;
  trio.lose_link(story.alpha, story.beta);
  trio.lose_link(story.beta, story.gamma);
  story.alpha.write(0, blocks(5), 1);
  trio.run();
  story.answer();
  REQUIRE(story.in_sync == std::set<int>{0, 2});
  // Beta is brought up to date and takes the role over, all of which needs no arbiter.
  story.reaches = {false, false, false};
  trio.connect();
  trio.settle();
  REQUIRE(trio.are_alike(story.alpha, story.beta));
  story.alpha.order(OrderKind::Demote);
  trio.run();
  story.beta.order(promote_plainly());
  trio.settle();
  REQUIRE(story.beta.is_primary());
  // It loses alpha. The question whether it is in sync was not answered, and gives way to the one that clients wait
  // for.
  trio.lose_link(story.alpha, story.beta);
  trio.run();
  REQUIRE(story.beta.asked.back().question == ArbiterQuestion::FencePeers);
  story.answered[1] = story.beta.asked.size() - 1;
  story.reaches[1] = true;
  const bool is_replaced = GENERATE(false, true);
  if (is_replaced) {
    story.in_sync = {0};
    story.generation = Generation{77, 77};
  }
  story.answer();
  story.beta.write(0, blocks(6), 2);
  story.pass(3'000'000);
  CHECK(story.beta.is_primary() == !is_replaced);
  CHECK(story.in_sync == (is_replaced ? std::set<int>{0} : std::set<int>{1, 2}));
  if (!is_replaced) CHECK(story.beta.replies.at(0) == 0);
  if (!is_replaced) CHECK(story.gamma.disk[6] == 2);
}

TEST_CASE("who left in good order is counted no more when another is taken out, which would bring it up to date") {
  Story story;
  Trio& trio = story.trio;
  story.gamma.order(OrderKind::Disconnect);
  trio.run();
  REQUIRE(story.gamma.superblock.disk_state == DiskState::Outdated);
  story.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(story.alpha.replies.at(0) == 0);  // nobody had to be asked
  story.reaches[1] = story.reaches[2] = false;
  trio.lose_link(story.alpha, story.beta);
  trio.run();
  story.answer();
  story.alpha.write(1, blocks(6), 2);
  trio.run();
  REQUIRE(story.alpha.replies.at(1) == 0);
  CHECK(story.in_sync == std::set<int>{0});

  // Beta does not know that it is behind, and gamma neither, when it has what beta has.
  story.gamma.order(OrderKind::Connect);
  trio.connect(story.beta, story.gamma);
  REQUIRE(story.gamma.is_up_to_date());
  story.reaches[2] = true;
  const uint64_t ticket = story.gamma.order(promote_plainly());
  story.pass(6'000'000);
  CHECK(story.gamma.answered(ticket, Outcome::ArbiterDenied));
  CHECK_FALSE(story.gamma.is_primary());
}

TEST_CASE("who leaves while the arbiter is asked is taken out, too, before anything is answered") {
  Story story;
  Trio& trio = story.trio;
  trio.lose_link(story.alpha, story.beta);
  story.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(story.alpha.asked.back().question == ArbiterQuestion::FencePeers);
  story.gamma.order(OrderKind::Disconnect);
  trio.run();
  story.reaches[1] = story.reaches[2] = false;
  story.answer();
  REQUIRE(story.alpha.replies.at(0) == 0);
  CHECK(story.in_sync == std::set<int>{0});
}

TEST_CASE("a generation in which nothing is answered is handed to no target while another peer may be promoted") {
  Story story;
  Trio& trio = story.trio;
  trio.lose_link(story.beta, story.gamma);
  trio.lose_link(story.alpha, story.beta);
  trio.lose_link_unnoticed(story.gamma, story.alpha);
  trio.run();
  story.answer();  // beta is taken out, and gamma does not hear of the generation that follows
  story.reaches[0] = false;
  trio.connect(story.alpha, story.beta);
  REQUIRE(trio.peer(story.alpha, story.beta).replication == ReplicationState::SyncSource);

  // Alpha notices that gamma is lost, and waits for the arbiter; gamma asks first.
  story.promote(story.gamma);
  story.gamma.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(story.gamma.replies.at(0) == 0);
  CHECK(story.beta.superblock.disk_state == DiskState::Inconsistent);
  story.alpha.crash();
  trio.connect(story.beta, story.gamma);
  trio.run();
  CHECK(trio.are_alike(story.beta, story.gamma));

  // The one that was to be handed on was never used.
  story.alpha.start();
  story.reaches[0] = true;
  trio.settle();
  CHECK(trio.are_alike(story.alpha, story.gamma));
}

TEST_CASE("a peer that is counted as in sync again does not let back in who was taken out for the promotion") {
  Story story;
  Trio& trio = story.trio;
  story.alpha.order(OrderKind::Demote);
  trio.run();
  trio.lose_link(story.alpha, story.gamma);
  trio.lose_link(story.beta, story.gamma);
  trio.run();
  story.reaches[1] = false;
  story.promote(story.alpha);
  REQUIRE(story.in_sync == std::set<int>{0, 1});
  // The link flaps, and beta is counted anew before the first write.
  trio.lose_link(story.alpha, story.beta);
  trio.connect(story.alpha, story.beta);
  story.pass(3'000'000);
  REQUIRE(story.in_sync == std::set<int>{0, 1});
  // beta might have brought gamma up to date in between, so the arbiter is asked once more.
  story.alpha.write(0, blocks(5), 1);
  story.pass(1'000'000);
  REQUIRE(story.alpha.replies.at(0) == 0);
  story.reaches[0] = false;
  story.beta.crash();
  story.alpha.crash();

  // What it asked when it was in sync, and what it asks now: it is not.
  AskArbiter late;
  late.question = ArbiterQuestion::PeersInSync;
  late.peers = mask_of(Trio::place(story.gamma, story.beta));
  CHECK(story.judge(2, late) == ArbiterVerdict::Denied);
  const uint64_t ticket = story.gamma.order(promote_plainly());
  story.pass(6'000'000);
  CHECK(story.gamma.answered(ticket, Outcome::ArbiterDenied));
}

TEST_CASE("a Primary that was replaced, and is back between the grants and the promotion, breaks no rule") {
  Story story;
  Trio& trio = story.trio;
  story.reaches[0] = story.reaches[1] = false;
  trio.lose_link(story.alpha, story.beta);
  trio.lose_link(story.alpha, story.gamma);
  trio.run();
  trio.connect(story.beta, story.gamma);
  const uint64_t ticket = story.beta.order(promote_plainly());
  story.pass(6'000'000);
  REQUIRE(story.beta.asked.back().question == ArbiterQuestion::Promote);
  // Gamma knows what it has of alpha, which does not know it yet.
  trio.holds[2][0] = true;
  trio.connect(story.alpha, story.gamma);
  REQUIRE(trio.peer(story.gamma, story.alpha).decision.rule == Rule::EqualClean);
  story.reaches[1] = true;
  story.answer();
  REQUIRE(story.beta.answered(ticket, Outcome::Done));
  trio.holds[2][0] = false;
  story.alpha.write(0, blocks(5), 1);
  trio.run();
  const auto& notes = story.gamma.notes;
  CHECK(std::none_of(notes.begin(), notes.end(), [](const Note& one) { return one.kind == NoteKind::RuleBroken; }));
  CHECK(story.gamma.disk[5] == 0);
  CHECK(story.alpha.replies.count(0) == 0);
  trio.connect(story.alpha, story.gamma);
  CHECK(trio.peer(story.gamma, story.alpha).decision.rule == Rule::SelfFollowsAnother);
}

TEST_CASE("who left in good order is asked about when another one, that was away, may have brought it up to date") {
  Story story;
  Trio& trio = story.trio;
  story.gamma.order(OrderKind::Disconnect);
  trio.run();
  write(trio, story.alpha, blocks(5), 1);
  story.reaches[0] = false;
  trio.lose_link(story.alpha, story.beta);
  trio.run();
  REQUIRE(story.alpha.replica().status().suspension == Suspension::PeerLoss);
  story.gamma.order(OrderKind::Connect);
  trio.connect(story.beta, story.gamma);
  story.pass(1'000'000);
  REQUIRE(story.gamma.is_up_to_date());
  trio.lose_link(story.beta, story.gamma);
  trio.connect(story.alpha, story.beta);
  trio.run();
  story.alpha.write(1, blocks(6), 2);
  trio.run();
  CHECK(story.alpha.replies.count(1) == 0);  // gamma may be promoted with what it has
  REQUIRE(story.in_sync.count(2) == 1);
  story.reaches[0] = true;
  story.pass(40'000'000);
  CHECK(story.alpha.replies.count(1) == 1);
  CHECK(story.in_sync.count(2) == 0);
}

TEST_CASE("a Primary that another one has taken out of the set steps down, though a third node follows it") {
  Story story;
  Trio& trio = story.trio;
  story.reaches[0] = false;
  trio.lose_link(story.alpha, story.beta);
  trio.lose_link(story.alpha, story.gamma);
  trio.run();
  story.promote(story.beta);
  trio.lose_link(story.beta, story.gamma);
  story.beta.write(0, blocks(5), 1);
  story.pass(3'000'000);
  REQUIRE(story.beta.replies.at(0) == 0);
  story.beta.holds_reads = true;  // no resync ends
  trio.connect(story.beta, story.gamma);
  REQUIRE(trio.peer(story.gamma, story.beta).replication == ReplicationState::SyncTarget);
  trio.lose_link(story.beta, story.gamma);
  story.alpha.holds_reads = true;
  trio.connect(story.alpha, story.gamma);
  REQUIRE(trio.peer(story.alpha, story.gamma).replication == ReplicationState::SyncSource);
  REQUIRE(story.alpha.is_primary());
  story.reaches[0] = true;
  story.pass(40'000'000);
  CHECK_FALSE(story.alpha.is_primary());
  CHECK(story.alpha.superblock.disk_state == DiskState::Outdated);
}

}  // namespace lockstep::repl
