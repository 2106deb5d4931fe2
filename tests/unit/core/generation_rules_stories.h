// What the table of the handshake's decision and the surveys of it share: reports that read from left to right, and
// what a decision is when the other side makes it.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "replicator/core/generation_rules.h"

namespace lockstep::repl {

inline constexpr Generation kZero{};
inline constexpr Generation kG1{1, 0x11}, kG2{2, 0x22}, kG3{3, 0x33}, kG4{4, 0x44};

inline constexpr auto kUpToDate = DiskState::UpToDate;
inline constexpr auto kConsistent = DiskState::Consistent;
inline constexpr auto kOutdated = DiskState::Outdated;
inline constexpr auto kInconsistent = DiskState::Inconsistent;

inline constexpr std::array<DiskState, 8> kDisks = {
    DiskState::Diskless, DiskState::Attaching,  DiskState::Failed,   DiskState::Inconsistent,
    DiskState::Outdated, DiskState::Consistent, DiskState::UpToDate, DiskState::DUnknown};
inline constexpr std::array<Role, 3> kRoles = {Role::Unknown, Role::Secondary, Role::Primary};

// A report that reads from left to right.
struct Says : StateReport {
  explicit Says(Generation held, DiskState disk = kUpToDate) {
    current = held;
    disk_state = disk;
    role = Role::Secondary;
  }
  Says since(Generation generation) const {
    return with([&](Says& says) { says.bitmap_generation = generation; });
  }
  Says or_since(Generation generation) const {
    return with([&](Says& says) { says.previous_bitmap_generation = generation; });
  }
  Says after(Generation generation) const {
    return with([&](Says& says) { says.history[2] = generation; });
  }
  Says bits(uint64_t count) const {
    return with([&](Says& says) { says.out_of_sync_blocks = count; });
  }
  Says primary() const {
    return with([&](Says& says) { says.role = Role::Primary; });
  }
  Says crashed() const {
    return with([&](Says& says) { says.crashed_primary = true; });
  }
  Says crashed_ahead() const {
    return crashed().with([&](Says& says) { says.answered_ahead = true; });
  }
  // Of several nodes: not under protocol A; one that has lived on has a position in the stream.
  Says waited() const {
    return with([&](Says& says) { says.waited_for = WaitedFor::Yes; });
  }
  Says not_waited() const {
    return with([&](Says& says) { says.waited_for = WaitedFor::No; });
  }
  // The last Primary that it was in sync with, and the one of whose crash it speaks.
  Says of_term(uint32_t own, uint32_t ahead = 0) const {
    return with([&](Says& says) {
      says.term = own;
      says.ahead_term = ahead;
    });
  }
  Says of_three() const {
    return with([&](Says& says) { says.may_hold = 7; });
  }
  // How old this disk is, and how old the other was when it was met last.
  Says aged(uint64_t own, uint64_t last_met, uint64_t born = 7) const {
    return with([&](Says& says) {
      says.life = {7, own};
      says.remembered = {born, last_met};
    });
  }
  Says partial(Generation base, Generation toward) const {
    return with([&](Says& says) {
      says.sync_base = base;
      says.sync_toward = toward;
    });
  }
  Says undid(Generation generation) const {
    return with([&](Says& says) { says.undone = generation; });
  }
  Says unanswered(Generation since) const {
    return with([&](Says& says) { says.unanswered_since = since; });
  }
  Says holds(uint64_t stream, Sequence through, uint32_t of = 0) const {
    return with([&](Says& says) {
      says.position = {stream, through, of};
      says.term = std::max(says.term, of);
    });
  }
  // It was restarted, and had recorded so much as stable.
  Says recorded(uint64_t stream, Sequence through, uint32_t of = 0) const {
    return with([&](Says& says) {
      says.stable_position = {stream, through, of};
      says.term = std::max(says.term, of);
    });
  }
  Says sees_a_primary() const {
    return with([&](Says& says) { says.sees_primary = true; });
  }
  Says synced_by_another() const {
    return with([&](Says& says) { says.is_target = true; });
  }
  Says prepares() const {
    return with([&](Says& says) { says.prepares_resync = true; });
  }
  Says gives_way() const {
    return with([&](Says& says) { says.discard_my_data = true; });
  }
  // Primary, and its clients see this generation on another node's disk.
  Says serves(Generation generation, Generation before = {}) const {
    return with([&](Says& says) {
      says.role = Role::Primary;
      says.served = generation;
      says.served_previous = before;
    });
  }

 private:
  template <typename Change>
  Says with(Change change) const {
    Says copy = *this;
    change(copy);
    return copy;
  }
};

inline std::vector<Rule> all_rules() {
  std::vector<Rule> rules;
  for (int number = 0; to_string(static_cast<Rule>(number)) != "unknown"; ++number) {
    rules.push_back(static_cast<Rule>(number));
  }
  return rules;
}

inline Rule mirrored(Rule rule) {
  static const std::map<Rule, Rule> kOpposites = [] {
    const std::vector<std::pair<Rule, Rule>> pairs = {
        {Rule::SelfDiskless, Rule::PeerDiskless},
        {Rule::SelfDisklessPeerIsBehind, Rule::PeerDisklessSelfIsBehind},
        {Rule::SelfServedByPeer, Rule::PeerServedBySelf},
        {Rule::SelfJustCreated, Rule::PeerJustCreated},
        {Rule::EqualSelfInconsistent, Rule::EqualPeerInconsistent},
        {Rule::EqualSelfCrashed, Rule::EqualPeerCrashed},
        {Rule::EqualSelfCrashedAhead, Rule::EqualPeerCrashedAhead},
        {Rule::EqualSelfCrashedAlone, Rule::EqualPeerCrashedAlone},
        {Rule::EqualSelfMayLack, Rule::EqualPeerMayLack},
        {Rule::EqualSelfHasBits, Rule::EqualPeerHasBits},
        {Rule::EqualSelfPrimary, Rule::EqualPeerPrimary},
        {Rule::EqualSelfFresher, Rule::EqualPeerFresher},
        {Rule::EqualSelfFirst, Rule::EqualPeerFirst},
        {Rule::EqualSelfReceivedMore, Rule::EqualPeerReceivedMore},
        {Rule::PeerIsBehind, Rule::SelfIsBehind},
        {Rule::PeerIsFarBehind, Rule::SelfIsFarBehind},
        {Rule::SelfIsPartial, Rule::PeerIsPartial},
        {Rule::SelfIsUnanswered, Rule::PeerIsUnanswered},
        {Rule::PrimaryDecidesSelfIsBehind, Rule::PrimaryDecidesPeerIsBehind},
        {Rule::SplitBrainSelfGivesWay, Rule::SplitBrainPeerGivesWay},
        {Rule::SelfRolledBack, Rule::PeerRolledBack},
        {Rule::SelfPrepares, Rule::PeerPrepares},
        {Rule::SelfFollowsAnother, Rule::PeerFollowsAnother},
        {Rule::SelfMayBeStale, Rule::PeerMayBeStale},
        {Rule::UnrelatedSelfGivesWay, Rule::UnrelatedPeerGivesWay},
    };
    std::map<Rule, Rule> opposites;
    for (const auto& [one, other] : pairs) {
      opposites[one] = other;
      opposites[other] = one;
    }
    return opposites;
  }();
  const auto found = kOpposites.find(rule);
  return found == kOpposites.end() ? rule : found->second;
}

inline Decision mirrored(Decision decision) {
  if (decision.kind == SyncKind::Source) {
    decision.kind = SyncKind::Target;
  } else if (decision.kind == SyncKind::Target) {
    decision.kind = SyncKind::Source;
  }
  decision.rule = mirrored(decision.rule);
  return decision;
}

inline std::string text_of(const StateReport& report) {
  std::ostringstream out;
  out << "current " << report.current.high << ", bitmap " << report.bitmap_generation.high << ", previous "
      << report.previous_bitmap_generation.high << ", history " << report.history[0].high << ", "
      << to_string(report.disk_state) << " " << to_string(report.role) << ", bits " << report.out_of_sync_blocks
      << (report.crashed_primary ? ", crashed" : "") << (report.answered_ahead ? " ahead" : "")
      << (report.discard_my_data ? ", gives way" : "");
  return out.str();
}

}  // namespace lockstep::repl
