// The decision, judged from another side: short random histories of two nodes, and an oracle that knows nothing of
// generations. It looks at which acknowledged writes each disk really holds when two nodes meet.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

class History {
 public:
  explicit History(uint64_t seed) : random_(seed) {}

  void play(int steps) {
    pair_.make_mirrored();
    for (int step = 0; step < steps; ++step) {
      one_step();
      if (!offence.empty()) return;
    }
    // Whoever can be brought together is, at the end.
    step_name_ = "the end";
    for (Side* side : {&pair_.alpha, &pair_.beta}) {
      if (!side->alive()) side->start();
    }
    cut();
    pair_.run();
    meet();
    if (offence.empty() && !met_.empty() && met_ != "split" && met_ != "refused") check_in_sync();
  }

  std::string offence;
  std::map<Rule, int> rules;
  int splits = 0;

 private:
  bool chance(unsigned percent) { return random_() % 100 < percent; }
  Side& any_side() { return chance(50) ? pair_.alpha : pair_.beta; }

  void one_step() {
    Side& side = any_side();
    switch (random_() % 16) {
      case 0:
      case 1:
      case 2:
        step_name_ = "meet";
        pair_.run();
        return meet();
      case 3:
        step_name_ = "meet, and lose the link on the way";
        pair_.frames_left = random_() % 25;
        meet();
        return cut();
      case 4:
        step_name_ = "lose the link";
        return cut();
      case 5:
        step_name_ = "promote";
        if (side.alive()) side.order(OrderKind::Promote);
        return settle();
      case 6:
      case 7: {
        step_name_ = "promote, fenced";
        OrderGiven order;
        order.kind = OrderKind::Promote;
        order.peer_fenced = true;
        if (side.alive()) side.order(order);
        return settle();
      }
      case 8:
        step_name_ = "demote";
        if (side.alive()) side.order(OrderKind::Demote);
        return settle();
      case 9:
        step_name_ = "crash";
        return crash(side, chance(30));
      case 10:
      case 11:
        step_name_ = "start";
        if (!side.alive()) side.start();
        return settle();
      case 12:
        step_name_ = "crash in the middle of a write";
        pair_.frames_left = random_() % 3;
        side.holds_persists = chance(30) && side.alive();
        write(side);
        crash(side, chance(30));
        pair_.frames_left = UINT64_MAX;
        return settle();
      case 13:
        step_name_ = "lose the link in the middle of a write";
        pair_.frames_left = random_() % 3;
        write(side);
        return cut();
      case 14:
        step_name_ = "write and flush";
        write(side);
        flush(side);
        return;
      default:
        if (chance(20) && side.alive()) {
          step_name_ = "invalidate";
          side.order(OrderKind::Invalidate);
          return settle();
        }
        step_name_ = "write";
        return write(side);
    }
  }

  void settle() {
    pair_.run();
    for (Side* side : {&pair_.alpha, &pair_.beta}) note_replies(*side);
  }

  void cut() {
    pair_.lose_link();
    pair_.frames_left = UINT64_MAX;
    settle();
  }

  // Each write has a block of its own, so a disk shows whether it holds it.
  void write(Side& side) {
    if (side.alive() && side.is_primary() && next_write_ < kTestBlocks) {
      const uint32_t id = next_write_;
      next_write_ += 257;
      const uint32_t slot = id % 8;
      in_flight_[&side][slot] = id;
      side.write(slot, blocks(id), id);
    }
    settle();
  }

  void flush(Side& side) {
    if (!side.alive() || !side.is_primary()) return;
    side.flush(15);
    settle();
    if (side.replies.count(15) != 0 && side.replies.at(15) == 0) {
      for (const uint32_t id : acknowledged_) {
        if (holds(side, id)) flushed_.insert(id);
      }
    }
  }

  void note_replies(Side& side) {
    auto& writes = in_flight_[&side];
    for (auto write = writes.begin(); write != writes.end();) {
      const auto reply = side.replies.find(write->first);
      if (reply == side.replies.end()) {
        ++write;
        continue;
      }
      if (reply->second == 0) acknowledged_.insert(write->second);
      write = writes.erase(write);
    }
  }

  // A power cut may take every write that no flush covered: of those, nothing was promised.
  void crash(Side& side, bool power_lost) {
    if (!side.alive()) return;
    side.crash(power_lost);
    in_flight_[&side].clear();
    if (power_lost) {
      power_was_lost_ = true;
      for (auto id = acknowledged_.begin(); id != acknowledged_.end();) {
        id = flushed_.count(*id) != 0 ? std::next(id) : acknowledged_.erase(id);
      }
    }
    settle();
  }

  static bool holds(const Side& side, uint32_t id) { return side.disk[id] == id; }

  void meet() {
    met_.clear();
    if (pair_.linked() || !pair_.alpha.alive() || !pair_.beta.alive()) return;
    const bool cut_short = pair_.frames_left != UINT64_MAX;
    bool only_alpha = false, only_beta = false;
    for (const uint32_t id : acknowledged_) {
      only_alpha = only_alpha || (holds(pair_.alpha, id) && !holds(pair_.beta, id));
      only_beta = only_beta || (holds(pair_.beta, id) && !holds(pair_.alpha, id));
    }
    const bool equal_disks = pair_.alpha.disk == pair_.beta.disk;
    const size_t acknowledged = acknowledged_.size();

    pair_.connect();
    settle();
    const PeerStatus here = pair_.alpha.peer();
    const PeerStatus there = pair_.beta.peer();
    if (!here.decided || !there.decided || cut_short) return;
    // What was in flight was answered by the way: the oracle knows of the writes before, not of these.
    if (acknowledged_.size() != acknowledged) return;
    ++rules[here.decision.rule];

    switch (here.decision.kind) {
      case SyncKind::Source:
        met_ = "source";
        if (there.decision.kind != SyncKind::Target) fail("alpha is source, and beta is no target");
        if (only_beta) fail("alpha is source, and lacks a write that beta acknowledged");
        break;
      case SyncKind::Target:
        met_ = "target";
        if (there.decision.kind != SyncKind::Source) fail("alpha is target, and beta is no source");
        if (only_alpha) fail("beta is source, and lacks a write that alpha acknowledged");
        break;
      case SyncKind::None:
        met_ = "none";
        if (there.decision.kind != SyncKind::None) fail("alpha sees nothing to do, and beta does");
        if (!equal_disks) fail("nothing to do, and the disks differ");
        break;
      case SyncKind::SplitBrain:
        met_ = "split";
        ++splits;
        if (there.decision.kind != SyncKind::SplitBrain) fail("only alpha sees a split brain");
        if (!power_was_lost_ && !only_alpha && !only_beta) fail("a split brain of equal sets of writes");
        break;
      case SyncKind::Unrelated:
        fail("two nodes of one lineage are called unrelated");
        break;
      case SyncKind::Wait:
        fail("two nodes wait for a third");
        break;
      case SyncKind::Prepare:
        fail("a node waits for a handler that it has not");
        break;
      case SyncKind::Refuse:
        met_ = "refused";
        if (there.decision.kind != SyncKind::Refuse) fail("only alpha refuses");
        break;
      case SyncKind::Serve:
      case SyncKind::NoDisk:
        fail("a disk is missing in a history without errors");
        break;
    }
    if (only_alpha && only_beta && met_ != "split") fail("both wrote apart, and it is not called a split brain");
    if (offence.empty() && (met_ == "source" || met_ == "target" || met_ == "none")) check_in_sync();
  }

  void check_in_sync() {
    if (pair_.alpha.peer().replication != ReplicationState::Established ||
        pair_.beta.peer().replication != ReplicationState::Established) {
      fail("the nodes met and are not Established");
    } else if (pair_.alpha.disk != pair_.beta.disk) {
      fail("the nodes are Established, and their disks differ");
    } else if (!pair_.alpha.is_up_to_date() || !pair_.beta.is_up_to_date()) {
      fail("the nodes are Established, and not both UpToDate");
    }
  }

  void fail(const std::string& what) {
    if (!offence.empty()) return;
    std::ostringstream out;
    out << what << " (" << step_name_ << "; alpha says " << to_string(pair_.alpha.peer().decision.rule)
        << ", beta says " << to_string(pair_.beta.peer().decision.rule) << ")";
    offence = out.str();
  }

  std::mt19937_64 random_;
  Pair pair_;
  std::string step_name_;
  std::string met_;
  uint32_t next_write_ = 1;
  std::map<Side*, std::map<uint32_t, uint32_t>> in_flight_;  // slot → write
  std::set<uint32_t> acknowledged_, flushed_;
  bool power_was_lost_ = false;
};

}  // namespace

TEST_CASE("histories of two nodes: the decision never gives up an acknowledged write, nor sees a split that is none") {
  std::map<Rule, int> rules;
  int splits = 0;
  for (uint64_t seed = 1; seed <= 1500; ++seed) {
    History history(seed);
    history.play(14);
    INFO("history " << seed);
    REQUIRE(history.offence == "");
    for (const auto& [rule, count] : history.rules) rules[rule] += count;
    splits += history.splits;
  }
  // The histories are of use only if they lead to every kind of meeting.
  for (const Rule rule : {Rule::EqualClean, Rule::EqualSelfCrashed, Rule::EqualPeerCrashed, Rule::EqualSelfCrashedAlone,
                          Rule::EqualSelfHasBits, Rule::EqualSelfPrimary, Rule::PeerIsBehind, Rule::SelfIsBehind,
                          Rule::EqualPeerInconsistent}) {
    INFO(to_string(rule));
    CHECK(rules[rule] > 0);
  }
  CHECK(splits > 20);
}

}  // namespace lockstep::repl
