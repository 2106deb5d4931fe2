// The handshake's decision over all that two reports may say: every pair of lineages, every pair of conditions, and
// both together, sampled. What must hold of each, whatever the row that decides it.
#include <array>
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/core/generation_rules_stories.h"

namespace lockstep::repl {
namespace {

// What must hold of any two reports; the name of the first thing that does not, or nothing.
const char* broken_by(const StateReport& self, const StateReport& peer, Decision decision) {
  const bool equal = !self.current.is_zero() && self.current == peer.current;
  if (decision.kind == SyncKind::Source || decision.kind == SyncKind::Target) {
    const StateReport& source = decision.kind == SyncKind::Source ? self : peer;
    const StateReport& target = decision.kind == SyncKind::Source ? peer : self;
    if (source.disk_state == kInconsistent) return "an Inconsistent disk is source";
    const bool takes_everything = decision.rule == Rule::SelfJustCreated || decision.rule == Rule::PeerJustCreated;
    if (source.disk_state == kOutdated && source.role != Role::Primary && takes_everything && target.served.is_zero() &&
        source.remembered.birth != target.life.birth) {
      return "an empty disk makes an Outdated one the newest";
    }
    if (target.role == Role::Primary && target.served.is_zero()) return "a Primary is target";
    if (!target.served.is_zero() && target.served != source.current) return "a Primary becomes what it did not serve";
    if (!source.served.is_zero()) return "a Primary without data of its own is source";
    const bool target_was_invalidated = target.disk_state == kInconsistent && target.out_of_sync_blocks > 0;
    const bool target_had_zeroes = target.disk_state == kInconsistent && target.unanswered_since == kHeldByNobody;
    if (source.current.is_zero() && !(target.current.is_zero() && target_was_invalidated) && !target_had_zeroes)
      return "a disk that was never written to is source";
    if (decision.extent == SyncExtent::Nothing) return "a resync of nothing";
  } else if (decision.extent != SyncExtent::Nothing) {
    return "no resync, of something";
  }
  const bool is_served = !self.served.is_zero() || !peer.served.is_zero();
  if (is_served && decision.kind != SyncKind::Serve && decision.kind != SyncKind::Source &&
      decision.kind != SyncKind::Target && decision.kind != SyncKind::Refuse) {
    return "a Primary without data of its own goes on";
  }
  if (decision.kind == SyncKind::Serve) {
    const StateReport& client = self.served.is_zero() ? peer : self;
    const StateReport& server = self.served.is_zero() ? self : peer;
    if (server.disk_state != kUpToDate && server.disk_state != kConsistent && server.disk_state != kOutdated)
      return "clients see a copy that is not whole";
    if (server.current != client.served && server.current != client.served_previous) return "clients see other data";
  }
  const bool goes_on = decision.kind == SyncKind::None || decision.kind == SyncKind::Source ||
                       decision.kind == SyncKind::Target || decision.kind == SyncKind::Prepare;
  if (goes_on && !is_served && self.role != peer.role) {
    if (self.role != Role::Primary && peer.role == Role::Primary && self.sees_primary)
      return "it follows two Primaries";
    if (peer.role != Role::Primary && self.role == Role::Primary && peer.sees_primary)
      return "it follows two Primaries";
  }
  if (decision.kind == SyncKind::Wait) {
    if (self.role == Role::Primary || peer.role == Role::Primary) return "a Primary waits";
    if (!self.sees_primary && !peer.sees_primary && !self.is_target && !peer.is_target) return "they wait for nobody";
  }
  if (decision.kind == SyncKind::Prepare) {
    const bool self_prepares = decision.rule == Rule::SelfPrepares;
    if (!(self_prepares ? self : peer).prepares_resync) return "who is ready prepares";
    if ((self_prepares ? self : peer).role == Role::Primary) return "a Primary prepares to be target";
    if ((self_prepares ? peer : self).disk_state == kInconsistent) return "an Inconsistent disk is to be source";
  } else if (decision.kind == SyncKind::Target
                 ? self.prepares_resync && self.served.is_zero()
                 : decision.kind == SyncKind::Source && peer.prepares_resync && peer.served.is_zero()) {
    return "a target was not prepared";
  }
  if (decision.kind == SyncKind::None) {
    if (self.role == Role::Primary && peer.role == Role::Primary) return "two Primaries get along";
    if (!(self.current == peer.current)) return "nothing to do between different generations";
    if (equal && (self.out_of_sync_blocks != 0 || peer.out_of_sync_blocks != 0)) return "bits are ignored";
    const bool self_counts = self.crashed_primary && peer.term <= self.ahead_term;
    const bool peer_counts = peer.crashed_primary && self.term <= peer.ahead_term;
    if (equal && (self_counts || peer_counts)) return "a crash is ignored";
    if (equal && (self.disk_state == kInconsistent || peer.disk_state == kInconsistent)) {
      return "an Inconsistent disk stays as it is";
    }
  }
  if (equal && (decision.kind == SyncKind::SplitBrain || decision.kind == SyncKind::Unrelated)) {
    return "one generation, and called different data";
  }
  if (decision.kind == SyncKind::SplitBrain && self.discard_my_data != peer.discard_my_data) {
    return "the operator's word is ignored";
  }
  return nullptr;
}

// Collects over millions of pairs what single assertions would be too slow for.
struct Survey {
  uint64_t pairs = 0;
  std::string first_offence;
  std::set<Rule> seen;

  void look(StateReport self, StateReport peer) {
    self.node_order = 0;
    peer.node_order = 1;
    ++pairs;
    const Decision here = decide(self, peer);
    const Decision there = decide(peer, self);
    seen.insert(here.rule);
    seen.insert(there.rule);
    const char* broken = here == mirrored(there) ? broken_by(self, peer, here) : "the sides do not mirror each other";
    if (broken != nullptr && first_offence.empty()) {
      first_offence = std::string(broken) + ": " + text_of(self) + " | " + text_of(peer) + " → " +
                      std::string(to_string(here.rule)) + " | " + std::string(to_string(there.rule));
    }
  }
};

constexpr std::array<Generation, 6> kNames = {kZero, kG1, kG2, kG3, kG4, kHeldByNobody};
constexpr std::array<Generation, 5> kCurrents = {kZero, kG1, kG2, kG3, kG4};  // nobody's is nobody's current

std::vector<StateReport> every_lineage() {
  std::vector<StateReport> reports;
  for (const Generation& current : kCurrents) {
    for (const Generation& bitmap : kNames) {
      for (const Generation& previous : kNames) {
        for (const Generation& history : kNames) {
          StateReport report = Says(current).since(bitmap).or_since(previous);
          report.history[0] = history;
          reports.push_back(report);
        }
      }
    }
  }
  return reports;
}

// Every disk state, role, flag and count of bits, put upon a lineage.
std::vector<StateReport> every_condition(const StateReport& lineage) {
  std::vector<StateReport> reports;
  for (const DiskState disk : kDisks) {
    for (const Role role : kRoles) {
      for (unsigned flags = 0; flags < (role == Role::Primary ? 32 : 16); ++flags) {
        if ((flags & 9) == 8) continue;  // ahead without a crash is never reported
        StateReport report = lineage;
        report.answered_ahead = (flags & 8) != 0;
        report.disk_state = disk;
        report.role = role;
        report.crashed_primary = (flags & 1) != 0;
        report.discard_my_data = (flags & 2) != 0;
        report.out_of_sync_blocks = (flags & 4) != 0 ? 5 : 0;
        if ((flags & 16) != 0) report.served = kG2;
        reports.push_back(report);
        if (report.discard_my_data || role == Role::Unknown) continue;
        report.sees_primary = true;
        reports.push_back(report);
        report.sees_primary = false;
        report.is_target = true;
        reports.push_back(report);
        if ((flags & 3) != 0) continue;
        report.is_target = false;
        report.prepares_resync = true;
        reports.push_back(report);
      }
    }
  }
  return reports;
}

}  // namespace

TEST_CASE("every pair of lineages is decided safely and the same from both sides") {
  const std::vector<StateReport> lineages = every_lineage();
  Survey survey;
  for (size_t i = 0; i < lineages.size(); ++i) {
    for (size_t j = i; j < lineages.size(); ++j) survey.look(lineages[i], lineages[j]);
  }
  CHECK(survey.first_offence == "");
  CHECK(survey.pairs == lineages.size() * (lineages.size() + 1) / 2);
}

TEST_CASE("every pair of conditions is decided safely for each kind of lineage") {
  // Each way in which two lineages can stand to each other, once.
  const std::vector<std::pair<Says, Says>> lineages = {
      {Says(kZero), Says(kZero)},
      {Says(kG1), Says(kZero)},
      {Says(kG1), Says(kG1)},
      {Says(kG1).since(kG2), Says(kG1).or_since(kG3)},
      {Says(kG2).since(kG1), Says(kG1)},
      {Says(kG2).since(kG3).or_since(kG1), Says(kG1).since(kHeldByNobody)},
      {Says(kG2).after(kG1), Says(kG1)},
      {Says(kG2).since(kG1), Says(kG3).since(kG1)},
      {Says(kG2).after(kG1), Says(kG3).after(kG1)},
      {Says(kG1), Says(kG2)},
      {Says(kG1).holds(7, 1), Says(kG1).holds(7, 2)},
      {Says(kG1).of_three().not_waited(), Says(kG1).of_three().waited()},
      {Says(kG1).aged(4, 9), Says(kG1).aged(9, 5)},
      {Says(kG2).since(kG1).aged(4, 9), Says(kG1).aged(8, 5)},
      {Says(kG1).aged(4, 9), Says(kZero).aged(9, 5)},
      {Says(kG1).aged(9, 5, 6), Says(kZero).aged(1, 5)},
      {Says(kG2), Says(kG4).partial(kG1, kG2)},
      {Says(kG2).or_since(kG1).unanswered(kG1), Says(kG3).since(kG1)},
  };
  Survey survey;
  for (const auto& [first, second] : lineages) {
    const std::vector<StateReport> peers = every_condition(second);
    for (const StateReport& self : every_condition(first)) {
      for (const StateReport& peer : peers) survey.look(self, peer);
    }
  }
  CHECK(survey.first_offence == "");
  for (const Rule rule : all_rules()) {
    INFO(to_string(rule));
    CHECK(survey.seen.count(rule) == 1);
  }
}

TEST_CASE("lineages and conditions together, sampled, are decided safely") {
  const std::vector<StateReport> lineages = every_lineage();
  std::mt19937_64 random(20240229);
  Survey survey;
  const auto any = [&random, &lineages] {
    StateReport report = lineages[random() % lineages.size()];
    report.disk_state = kDisks[random() % 4 == 0 ? random() % kDisks.size() : 3 + random() % 4];
    report.role = kRoles[random() % kRoles.size()];
    report.crashed_primary = random() % 3 == 0;
    report.answered_ahead = report.crashed_primary && random() % 2 == 0;
    report.discard_my_data = random() % 3 == 0;
    report.out_of_sync_blocks = random() % 2 == 0 ? 5 : 0;
    if (report.role == Role::Primary && random() % 3 == 0) {
      report.served = lineages[random() % lineages.size()].current;
      if (random() % 2 == 0) report.served_previous = lineages[random() % lineages.size()].current;
    }
    report.life = {random() % 2, random() % 4};
    report.remembered = {random() % 2, random() % 4};
    report.sees_primary = random() % 3 == 0;
    report.prepares_resync = random() % 4 == 0;
    report.is_target = random() % 3 == 0;
    report.sync_base = kNames[random() % kNames.size()];
    report.sync_toward = kNames[random() % kNames.size()];
    report.position = {random() % 3, random() % 3, static_cast<uint32_t>(random() % 3)};
    report.stable_position = {random() % 3, random() % 3, static_cast<uint32_t>(random() % 3)};
    report.term = static_cast<uint32_t>(random() % 3);
    report.ahead_term = static_cast<uint32_t>(random() % 3);
    report.may_hold = random() % 2 == 0 ? 0 : 7;
    report.waited_for = static_cast<WaitedFor>(random() % 3);
    report.unanswered_since = kNames[random() % kNames.size()];
    report.undone = kNames[random() % kNames.size()];
    for (size_t i = 1; i < report.history.size(); ++i) {
      if (random() % 4 == 0) report.history[i] = kNames[random() % kNames.size()];
    }
    return report;
  };
  for (int i = 0; i < 400'000; ++i) survey.look(any(), any());
  CHECK(survey.first_offence == "");
}

}  // namespace lockstep::repl
