// The handshake's decision as a table: each row by its name, then what must hold whatever the reports say.
#include "replicator/core/generation_rules.h"

#include <array>
#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace lockstep::repl {
namespace {

constexpr Generation kZero{};
constexpr Generation kG1{1, 0x11}, kG2{2, 0x22}, kG3{3, 0x33}, kG4{4, 0x44};

constexpr auto kUpToDate = DiskState::UpToDate;
constexpr auto kConsistent = DiskState::Consistent;
constexpr auto kOutdated = DiskState::Outdated;
constexpr auto kInconsistent = DiskState::Inconsistent;

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

constexpr Decision kNone(Rule rule) {
  return {SyncKind::None, SyncExtent::Nothing, rule};
}
constexpr Decision kSplit(Rule rule) {
  return {SyncKind::SplitBrain, SyncExtent::Nothing, rule};
}
constexpr Decision kWait(Rule rule) {
  return {SyncKind::Wait, SyncExtent::Nothing, rule};
}
constexpr Decision kPrepare(Rule rule) {
  return {SyncKind::Prepare, SyncExtent::Nothing, rule};
}
constexpr Decision kRefuse(Rule rule) {
  return {SyncKind::Refuse, SyncExtent::Nothing, rule};
}
constexpr Decision kNoDisk(Rule rule) {
  return {SyncKind::NoDisk, SyncExtent::Nothing, rule};
}
constexpr Decision kServe(Rule rule) {
  return {SyncKind::Serve, SyncExtent::Nothing, rule};
}
constexpr Decision kSource(SyncExtent extent, Rule rule) {
  return {SyncKind::Source, extent, rule};
}
constexpr Decision kTarget(SyncExtent extent, Rule rule) {
  return {SyncKind::Target, extent, rule};
}
constexpr auto kBitmap = SyncExtent::Bitmap;
constexpr auto kFull = SyncExtent::Full;

struct Row {
  StateReport self;
  StateReport peer;
  Decision decision;
};

// Self is the node whose name sorts first.
std::vector<Row> table() {
  return {
      // No disk, nothing to replicate.
      {Says(kG1), Says(kG1, DiskState::Failed), kNoDisk(Rule::PeerDiskless)},
      {Says(kG1, DiskState::Diskless), Says(kG1), kNoDisk(Rule::SelfDiskless)},
      {Says(kG1, DiskState::Attaching), Says(kG2), kNoDisk(Rule::SelfDiskless)},
      {Says(kG1), Says(kG1, DiskState::DUnknown), kNoDisk(Rule::PeerDiskless)},
      {Says(kG1, DiskState::Failed).primary(), Says(kG1), kNoDisk(Rule::SelfDiskless)},
      {Says(kG1, DiskState::Failed), Says(kG1, DiskState::Diskless), kNoDisk(Rule::BothDiskless)},
      // The disk that is left is not what the other side has answered.
      {Says(kG2, DiskState::Failed).since(kG1), Says(kG1), kNoDisk(Rule::SelfDisklessPeerIsBehind)},
      {Says(kG1), Says(kG3, DiskState::Diskless).after(kG1), kNoDisk(Rule::PeerDisklessSelfIsBehind)},
      {Says(kG1), Says(kG1, DiskState::Diskless).crashed_ahead(), kNoDisk(Rule::PeerDisklessSelfIsBehind)},
      // A mixture that was on its way to what this node holds, or to what it lacks.
      {Says(kG1), Says(kG2, DiskState::Failed).after(kG1).partial(kG1, kG1), kNoDisk(Rule::PeerDiskless)},
      {Says(kG1), Says(kG2, DiskState::Failed).after(kG1).partial(kG1, kG3), kNoDisk(Rule::PeerDisklessSelfIsBehind)},
      {Says(kG1), Says(kG1, DiskState::Diskless).crashed(), kNoDisk(Rule::PeerDiskless)},
      {Says(kG1, DiskState::Failed), Says(kG2).since(kG1), kNoDisk(Rule::SelfDiskless)},
      {Says(kG1).primary(), Says(kG2, DiskState::Failed).since(kG1), kNoDisk(Rule::PeerDiskless)},
      {Says(kG2).since(kG1), Says(kG3, DiskState::Failed).since(kG1), kNoDisk(Rule::PeerDiskless)},

      // A Primary without data of its own is served by who has the data that its clients saw, and by nobody else.
      {Says(kG1, DiskState::Failed).serves(kG2), Says(kG2).since(kG1), kServe(Rule::SelfServedByPeer)},
      {Says(kG2, kConsistent).since(kG1), Says(kG1, DiskState::Diskless).serves(kG2), kServe(Rule::PeerServedBySelf)},
      {Says(kG1, DiskState::Failed).serves(kG2, kG1), Says(kG1), kServe(Rule::SelfServedByPeer)},
      {Says(kG1, kOutdated).serves(kG2, kG1), Says(kG1), kServe(Rule::SelfServedByPeer)},
      {Says(kG1, DiskState::Failed).serves(kG2), Says(kG1), kRefuse(Rule::ServedDataElsewhere)},
      {Says(kG1, DiskState::Failed).serves(kG2), Says(kG3).since(kG2), kRefuse(Rule::ServedDataElsewhere)},
      {Says(kG1, DiskState::Failed).serves(kG2), Says(kG2, kInconsistent), kRefuse(Rule::ServedDataElsewhere)},
      {Says(kG1, DiskState::Failed).serves(kG2), Says(kG2, kOutdated), kServe(Rule::SelfServedByPeer)},
      {Says(kG1, DiskState::Failed).serves(kG2), Says(kG2).sees_a_primary(), kRefuse(Rule::PeerFollowsAnother)},
      {Says(kG1, DiskState::Failed).serves(kG2), Says(kG2, DiskState::Failed), kRefuse(Rule::ServedDataElsewhere)},
      {Says(kG1, DiskState::Failed).serves(kG2), Says(kG3).since(kG2).primary(), kRefuse(Rule::BothPrimary)},
      // … whose disk is there again.
      {Says(kG1, kOutdated).serves(kG2), Says(kG2).since(kG1), kTarget(kBitmap, Rule::SelfIsBehind)},
      {Says(kG2).since(kG1), Says(kG1, kInconsistent).serves(kG2), kSource(kBitmap, Rule::PeerIsBehind)},
      {Says(kZero, kInconsistent).serves(kG2), Says(kG2).since(kG1), kTarget(kFull, Rule::SelfJustCreated)},
      {Says(kG3, kOutdated).since(kG2).serves(kG2), Says(kG2), kRefuse(Rule::ServedDataElsewhere)},

      // Never written to.
      {Says(kZero, kInconsistent), Says(kZero, kInconsistent), kNone(Rule::BothJustCreated)},
      {Says(kZero), Says(kZero), kNone(Rule::BothJustCreated)},
      {Says(kZero, kInconsistent), Says(kG1), kTarget(kFull, Rule::SelfJustCreated)},
      {Says(kG1), Says(kZero, kInconsistent), kSource(kFull, Rule::PeerJustCreated)},
      {Says(kG1).primary(), Says(kZero), kSource(kFull, Rule::PeerJustCreated)},
      {Says(kZero), Says(kG1, kInconsistent), kRefuse(Rule::InconsistentWouldBeSource)},
      // … and another disk than the one that was met: that may have held what an Outdated or Consistent one lacks.
      {Says(kG1, kOutdated).aged(9, 5, 6), Says(kZero, kInconsistent).aged(1, 9), kRefuse(Rule::SelfMayBeStale)},
      {Says(kG1, kConsistent).aged(9, 5, 6), Says(kZero, kInconsistent).aged(1, 9), kRefuse(Rule::SelfMayBeStale)},
      {Says(kZero, kInconsistent).aged(1, 9), Says(kG1, kOutdated).aged(9, 5), kRefuse(Rule::PeerMayBeStale)},
      {Says(kG1).aged(9, 5, 6), Says(kZero, kInconsistent).aged(1, 9), kSource(kFull, Rule::PeerJustCreated)},
      {Says(kG1, kConsistent).aged(9, 5), Says(kZero, kInconsistent).aged(5, 9), kSource(kFull, Rule::PeerJustCreated)},
      {Says(kG1, kOutdated).aged(9, 5, 6), Says(kG2).aged(9, 9).gives_way(), kRefuse(Rule::SelfMayBeStale)},
      {Says(kG1, kOutdated).since(kG2), Says(kG2), kSource(kBitmap, Rule::PeerIsBehind)},
      {Says(kZero, kInconsistent), Says(kG1, kInconsistent), kRefuse(Rule::BothInconsistent)},
      {Says(kZero).primary(), Says(kG1), kRefuse(Rule::PrimaryWouldBeTarget)},

      // One generation.
      {Says(kG1), Says(kG1), kNone(Rule::EqualClean)},
      {Says(kG1, kConsistent), Says(kG1, kOutdated), kNone(Rule::EqualClean)},
      {Says(kG1).primary(), Says(kG1, kConsistent), kNone(Rule::EqualClean)},
      {Says(kG1).primary(), Says(kG1).primary(), kRefuse(Rule::BothPrimary)},
      {Says(kG1, kInconsistent), Says(kG1), kTarget(kBitmap, Rule::EqualSelfInconsistent)},
      {Says(kG1), Says(kG1, kInconsistent), kSource(kBitmap, Rule::EqualPeerInconsistent)},
      {Says(kG1, kInconsistent).bits(9), Says(kG1, kInconsistent), kRefuse(Rule::BothInconsistent)},
      {Says(kG1, kInconsistent).primary(), Says(kG1), kRefuse(Rule::PrimaryWouldBeTarget)},
      {Says(kG1).crashed(), Says(kG1), kTarget(kBitmap, Rule::EqualSelfCrashed)},
      {Says(kG1), Says(kG1).crashed(), kSource(kBitmap, Rule::EqualPeerCrashed)},
      {Says(kG1).crashed().bits(4), Says(kG1).bits(2), kTarget(kBitmap, Rule::EqualSelfCrashed)},
      {Says(kG1).crashed_ahead(), Says(kG1), kSource(kBitmap, Rule::EqualSelfCrashedAhead)},
      {Says(kG1), Says(kG1).crashed_ahead().bits(3), kTarget(kBitmap, Rule::EqualPeerCrashedAhead)},
      {Says(kG1).crashed_ahead().of_term(2, 2), Says(kG1).of_term(2), kSource(kBitmap, Rule::EqualSelfCrashedAhead)},
      {Says(kG1).crashed_ahead().of_term(2, 1), Says(kG1).of_term(2), kNone(Rule::EqualClean)},
      {Says(kG1).crashed_ahead().of_term(1, 1), Says(kG1).bits(1).of_term(2), kTarget(kBitmap, Rule::EqualPeerHasBits)},
      {Says(kG1, kConsistent).crashed().of_term(1, 1), Says(kG1).bits(1).not_waited().of_term(2),
       kTarget(kBitmap, Rule::EqualPeerHasBits)},
      {Says(kG1).crashed_ahead(), Says(kG1).crashed(), kSource(kBitmap, Rule::EqualSelfCrashedAhead)},
      {Says(kG1).crashed_ahead(), Says(kG1).primary(), kTarget(kBitmap, Rule::EqualPeerPrimary)},
      {Says(kG1, kInconsistent).crashed_ahead(), Says(kG1), kTarget(kBitmap, Rule::EqualSelfInconsistent)},
      {Says(kG1).crashed(), Says(kG1, kConsistent), kSource(kBitmap, Rule::EqualSelfCrashedAlone)},
      {Says(kG1, kOutdated), Says(kG1).crashed(), kTarget(kBitmap, Rule::EqualPeerCrashedAlone)},
      {Says(kG1).crashed(), Says(kG1).of_three().waited(), kSource(kBitmap, Rule::EqualSelfCrashedAlone)},
      {Says(kG1).crashed(), Says(kG1).of_three().waited().holds(7, 20), kTarget(kBitmap, Rule::EqualSelfCrashed)},
      {Says(kG1).crashed(), Says(kG1).of_three().holds(7, 20).not_waited(),
       kSource(kBitmap, Rule::EqualSelfCrashedAhead)},
      {Says(kG1).crashed_ahead().holds(7, 20), Says(kG1).bits(1).holds(7, 21),
       kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      {Says(kG1).crashed().holds(7, 21), Says(kG1).holds(7, 20), kSource(kBitmap, Rule::EqualSelfReceivedMore)},
      {Says(kG1).crashed().waited(), Says(kG1).crashed().not_waited(), kSource(kBitmap, Rule::EqualPeerMayLack)},
      {Says(kG1, kConsistent).waited(), Says(kG1).bits(1).not_waited(), kSource(kBitmap, Rule::EqualPeerMayLack)},
      {Says(kG1).not_waited(), Says(kG1, kConsistent).bits(1).waited(), kTarget(kBitmap, Rule::EqualSelfMayLack)},
      {Says(kG1).bits(1).holds(7, 20).waited(), Says(kG1).bits(1).holds(7, 21).not_waited(),
       kSource(kBitmap, Rule::EqualPeerMayLack)},
      {Says(kG1).bits(1), Says(kG1).holds(7, 21), kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      {Says(kG1).waited(), Says(kG1).not_waited(), kNone(Rule::EqualClean)},
      {Says(kG1).bits(1), Says(kG1), kSource(kBitmap, Rule::EqualSelfHasBits)},
      {Says(kG1), Says(kG1).bits(1), kTarget(kBitmap, Rule::EqualPeerHasBits)},
      {Says(kG1).primary(), Says(kG1).bits(1), kSource(kBitmap, Rule::EqualSelfPrimary)},
      {Says(kG1).crashed(), Says(kG1).primary(), kTarget(kBitmap, Rule::EqualPeerPrimary)},
      {Says(kG1).bits(1).primary(), Says(kG1).bits(1).primary(), kRefuse(Rule::PrimaryWouldBeTarget)},
      {Says(kG1).bits(1), Says(kG1, kConsistent).bits(1), kSource(kBitmap, Rule::EqualSelfFresher)},
      // Of three one left, which comes before what it has under bits and who is named first.
      {Says(kG1, kOutdated).of_three().bits(1), Says(kG1, kConsistent).of_three(),
       kTarget(kBitmap, Rule::EqualPeerFresher)},
      {Says(kG1, kConsistent).of_three(), Says(kG1, kOutdated).of_three().bits(1),
       kSource(kBitmap, Rule::EqualSelfFresher)},
      {Says(kG1, kOutdated).bits(1), Says(kG1).bits(1), kTarget(kBitmap, Rule::EqualPeerFresher)},
      {Says(kG1).bits(1), Says(kG1).bits(1), kSource(kBitmap, Rule::EqualSelfFirst)},
      {Says(kG1).bits(1).holds(7, 20), Says(kG1).bits(1).holds(7, 21), kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      {Says(kG1).bits(1), Says(kG1).bits(1).holds(7, 21), kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      {Says(kG1).holds(7, 22), Says(kG1).bits(1).holds(7, 21), kSource(kBitmap, Rule::EqualSelfReceivedMore)},
      {Says(kG1).bits(1).holds(7, 20), Says(kG1).bits(1).holds(8, 21), kSource(kBitmap, Rule::EqualSelfFirst)},
      {Says(kG1).bits(1).holds(7, 20), Says(kG1).bits(1).holds(7, 20), kSource(kBitmap, Rule::EqualSelfFirst)},
      // Of two Primaries' streams, the first of which may have been the same daemon's.
      {Says(kG1).bits(1).holds(8, 30, 1), Says(kG1).bits(1).holds(7, 20, 2),
       kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      {Says(kG1).bits(1).holds(7, 0, 2), Says(kG1).bits(1).holds(7, 20, 1),
       kSource(kBitmap, Rule::EqualSelfReceivedMore)},
      {Says(kG1, kConsistent).bits(1).recorded(8, 30, 1), Says(kG1, kConsistent).bits(1).recorded(7, 20, 2),
       kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      // … of the later of which a restarted one has recorded nothing.
      {Says(kG1, kConsistent).bits(1).recorded(8, 30, 1), Says(kG1, kConsistent).bits(1).recorded(7, 20, 1).of_term(2),
       kSource(kBitmap, Rule::EqualSelfFirst)},
      {Says(kG1, kConsistent).bits(1).recorded(7, 10, 1), Says(kG1, kConsistent).bits(1).recorded(7, 20, 1).of_term(2),
       kSource(kBitmap, Rule::EqualSelfFirst)},
      {Says(kG1).crashed(), Says(kG1).crashed(), kSource(kBitmap, Rule::EqualSelfFirst)},
      // It crashed once as Primary, and a later one has not waited for it.
      {Says(kG1).crashed().of_three().not_waited(), Says(kG1, kConsistent).of_three().waited(),
       kTarget(kBitmap, Rule::EqualSelfMayLack)},
      // One does not know, since it has granted a promotion.
      {Says(kG1, kConsistent).crashed().recorded(7, 20), Says(kG1, kConsistent).crashed().recorded(8, 2).waited(),
       kTarget(kBitmap, Rule::EqualSelfMayLack)},
      {Says(kG1, kConsistent).bits(1), Says(kG1).of_three().waited().holds(7, 20),
       kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      {Says(kG1, kConsistent).waited(), Says(kG1).bits(1).holds(7, 20), kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      // Restarted, and it is known how much they had made stable.
      {Says(kG1, kConsistent).recorded(7, 20), Says(kG1, kConsistent).bits(1).recorded(7, 21),
       kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      {Says(kG1, kConsistent).bits(1).recorded(7, 21), Says(kG1).holds(7, 20).recorded(7, 3),
       kSource(kBitmap, Rule::EqualSelfReceivedMore)},
      {Says(kG1, kConsistent).bits(1).recorded(7, 20), Says(kG1).holds(7, 20),
       kTarget(kBitmap, Rule::EqualPeerReceivedMore)},
      {Says(kG1, kConsistent).recorded(7, 2), Says(kG1, kConsistent).bits(1),
       kSource(kBitmap, Rule::EqualSelfReceivedMore)},
      // … but one that was Primary a moment ago has no position.
      {Says(kG1, kConsistent).recorded(7, 2), Says(kG1).bits(1), kTarget(kBitmap, Rule::EqualPeerHasBits)},
      {Says(kG1, kConsistent).bits(1).recorded(7, 2), Says(kG1, kConsistent).bits(1).recorded(8, 3),
       kSource(kBitmap, Rule::EqualSelfFirst)},

      // One of them wrote alone.
      {Says(kG2).since(kG1), Says(kG1), kSource(kBitmap, Rule::PeerIsBehind)},
      {Says(kG2).since(kG3).or_since(kG1), Says(kG1), kSource(kBitmap, Rule::PeerIsBehind)},
      {Says(kG1), Says(kG2).since(kG1), kTarget(kBitmap, Rule::SelfIsBehind)},
      {Says(kG1).primary(), Says(kG2).since(kG1), kRefuse(Rule::PrimaryWouldBeTarget)},
      {Says(kG2, kInconsistent).since(kG1), Says(kG1), kRefuse(Rule::InconsistentWouldBeSource)},
      {Says(kG3).since(kG2).after(kG1), Says(kG1), kSource(kFull, Rule::PeerIsFarBehind)},
      {Says(kG1), Says(kG3).after(kG1), kTarget(kFull, Rule::SelfIsFarBehind)},

      // Both did.
      {Says(kG2).since(kG1), Says(kG3).since(kG1), kSplit(Rule::SplitBrain)},
      {Says(kG2).since(kG1), Says(kG1).since(kG2), kSplit(Rule::SplitBrain)},
      {Says(kG2).after(kG1), Says(kG1).after(kG2), kSplit(Rule::SplitBrain)},
      {Says(kG2).after(kG1), Says(kG3).after(kG1), kSplit(Rule::SplitBrain)},
      {Says(kG2).since(kG1), Says(kG3).after(kG1), kSplit(Rule::SplitBrain)},
      {Says(kG2).since(kG1).gives_way(), Says(kG3).since(kG1), kTarget(kBitmap, Rule::SplitBrainSelfGivesWay)},
      {Says(kG2).since(kG1), Says(kG3).since(kG1).gives_way(), kSource(kBitmap, Rule::SplitBrainPeerGivesWay)},
      {Says(kG2).after(kG1).gives_way(), Says(kG3).since(kG1), kTarget(kFull, Rule::SplitBrainSelfGivesWay)},
      {Says(kG2).since(kG1).gives_way(), Says(kG3).since(kG1).gives_way(), kSplit(Rule::SplitBrain)},
      {Says(kG2).since(kG1).gives_way().primary(), Says(kG3).since(kG1), kRefuse(Rule::PrimaryWouldBeTarget)},
      {Says(kG2).since(kG1).gives_way(), Says(kG3, kInconsistent).since(kG1), kRefuse(Rule::InconsistentWouldBeSource)},

      // An older copy of a disk, which its own record takes for the present one.
      {Says(kG1).aged(4, 9), Says(kG1).aged(9, 5), kTarget(kFull, Rule::SelfRolledBack)},
      {Says(kG1).aged(9, 5), Says(kG1).aged(4, 9), kSource(kFull, Rule::PeerRolledBack)},
      {Says(kG1).aged(5, 9), Says(kG1).aged(9, 5), kNone(Rule::EqualClean)},
      {Says(kG1).aged(4, 9), Says(kG1).aged(9, 5, 8), kNone(Rule::EqualClean)},  // it has another disk now
      {Says(kG2).since(kG1).aged(4, 9), Says(kG1).aged(9, 5), kTarget(kFull, Rule::SelfRolledBack)},
      {Says(kG2).aged(4, 9), Says(kG1).aged(9, 5), kTarget(kFull, Rule::SelfRolledBack)},
      {Says(kZero).aged(4, 9), Says(kG1).aged(9, 5), kTarget(kFull, Rule::SelfJustCreated)},
      {Says(kG1).aged(4, 9), Says(kG1, kConsistent).aged(9, 5), kRefuse(Rule::SelfRolledBack)},
      {Says(kG1, kOutdated).aged(9, 5), Says(kG1).aged(4, 9), kRefuse(Rule::PeerRolledBack)},
      {Says(kG1).aged(4, 9), Says(kG1).aged(8, 5), kRefuse(Rule::BothRolledBack)},
      {Says(kG1).aged(4, 9).primary(), Says(kG1).aged(9, 5), kRefuse(Rule::PrimaryWouldBeTarget)},
      // A resync from a third node that broke off: whoever knows what it was on its way to completes it.
      {Says(kG4, kInconsistent).partial(kG1, kG2), Says(kG2).since(kG1), kTarget(kBitmap, Rule::SelfIsPartial)},
      {Says(kG1), Says(kG4, kInconsistent).partial(kG1, kG1), kSource(kBitmap, Rule::PeerIsPartial)},
      {Says(kG2), Says(kG4, kInconsistent).partial(kG1, kG2), kSource(kFull, Rule::PeerIsPartial)},
      {Says(kG3).after(kG2), Says(kG4, kInconsistent).partial(kZero, kG2), kSource(kFull, Rule::PeerIsPartial)},
      {Says(kG2).undid(kG3), Says(kG4, kInconsistent).partial(kG1, kG3), kSource(kFull, Rule::PeerIsPartial)},
      // … or to a node without a name, and whoever holds what it had before.
      {Says(kG1), Says(kG4, kInconsistent).partial(kG1, kZero), kSource(kFull, Rule::PeerIsPartial)},
      {Says(kG4, kInconsistent).partial(kG1, kZero), Says(kG2).after(kG1), kTarget(kFull, Rule::SelfIsPartial)},
      {Says(kG2),
       Says(kG4, kInconsistent).partial(kG1, kZero),
       {SyncKind::Unrelated, SyncExtent::Nothing, Rule::Unrelated}},
      {Says(kG2).since(kG4), Says(kG4, kInconsistent).since(kG2).partial(kG1, kG2),
       kSource(kBitmap, Rule::PeerIsBehind)},
      {Says(kG3).after(kG4), Says(kG4, kInconsistent).partial(kG1, kG2), kSource(kFull, Rule::PeerIsPartial)},
      {Says(kG1), Says(kG4, kInconsistent).partial(kG1, kG2), kRefuse(Rule::InconsistentWouldBeSource)},
      {Says(kG3, kInconsistent), Says(kG4, kInconsistent).partial(kG1, kG2), kRefuse(Rule::BothInconsistent)},
      // … unless somebody vouched for what is left.
      {Says(kG1).primary(), Says(kG4, kInconsistent).partial(kG1, kG2), kSource(kFull, Rule::PeerIsPartial)},
      {Says(kG4, kInconsistent).partial(kZero, kG2), Says(kG1).primary(), kTarget(kFull, Rule::SelfIsPartial)},
      {Says(kG4, kInconsistent).partial(kG1, kG2), Says(kG1, DiskState::Outdated).primary(),
       kRefuse(Rule::InconsistentWouldBeSource)},

      // A generation in which nothing was answered.
      {Says(kG2).or_since(kG1).unanswered(kG1), Says(kG3).since(kG1), kTarget(kBitmap, Rule::SelfIsUnanswered)},
      {Says(kG3).since(kG1), Says(kG2).or_since(kG1).unanswered(kG1), kSource(kBitmap, Rule::PeerIsUnanswered)},
      // One undid a generation that the other holds, and another one after it.
      {Says(kG1).or_since(kG2).of_three(), Says(kG2).or_since(kG1).of_three(),
       kSource(kBitmap, Rule::PeerIsUnanswered)},
      {Says(kG1).or_since(kG2).of_three(), Says(kG2).or_since(kG1).of_three().bits(1).holds(7, 4),
       kTarget(kBitmap, Rule::SelfIsUnanswered)},
      {Says(kG1).since(kG2).of_three(),
       Says(kG2).or_since(kG1).of_three(),
       {SyncKind::SplitBrain, SyncExtent::Nothing, Rule::SplitBrain}},
      // Neither answered anything in the generation that it made: as before, by what they are.
      {Says(kG2).since(kG1).unanswered(kG1), Says(kG3).since(kG1).unanswered(kG1),
       kSource(kBitmap, Rule::PeerIsUnanswered)},
      {Says(kG2).since(kG1).unanswered(kG1), Says(kG3).since(kG1).unanswered(kG1).primary(),
       kTarget(kBitmap, Rule::SelfIsUnanswered)},
      {Says(kG2).since(kG1).unanswered(kG1), Says(kG3).since(kG1).unanswered(kG1).bits(4),
       kTarget(kBitmap, Rule::SelfIsUnanswered)},
      {Says(kG2).since(kG1).unanswered(kG1),
       Says(kG3).since(kG4).unanswered(kG4),
       {SyncKind::Unrelated, SyncExtent::Nothing, Rule::Unrelated}},
      // A first generation in which nothing was written.
      {Says(kG1).unanswered(kHeldByNobody), Says(kG2), kTarget(kFull, Rule::SelfIsUnanswered)},
      {Says(kG1), Says(kG2).unanswered(kHeldByNobody), kSource(kFull, Rule::PeerIsUnanswered)},
      {Says(kG1).unanswered(kHeldByNobody), Says(kG2).since(kG1), kTarget(kBitmap, Rule::SelfIsBehind)},
      {Says(kG1).unanswered(kHeldByNobody), Says(kG1), kNone(Rule::EqualClean)},
      {Says(kG1).unanswered(kHeldByNobody), Says(kG4, kInconsistent).partial(kZero, kG2).unanswered(kHeldByNobody),
       kSource(kFull, Rule::PeerIsUnanswered)},
      {Says(kG4, kInconsistent).after(kG3).unanswered(kHeldByNobody), Says(kG1).after(kG3).unanswered(kHeldByNobody),
       kTarget(kFull, Rule::SelfIsUnanswered)},
      {Says(kZero).of_three(), Says(kG4, kInconsistent).unanswered(kHeldByNobody).of_three(),
       kSource(kFull, Rule::PeerIsUnanswered)},
      {Says(kG4, kInconsistent).partial(kZero, kG2).unanswered(kHeldByNobody).of_three(),
       Says(kZero, kOutdated).of_three(), kTarget(kFull, Rule::SelfIsUnanswered)},
      {Says(kZero).of_three(), Says(kG4, kInconsistent).of_three(), kRefuse(Rule::InconsistentWouldBeSource)},

      // Two Secondaries, and a third node that decides.
      {Says(kG1).sees_a_primary(), Says(kG1), kWait(Rule::PrimaryDecides)},
      {Says(kG1).bits(3), Says(kG1).bits(2).sees_a_primary(), kWait(Rule::PrimaryDecides)},
      {Says(kG1), Says(kG2).since(kG1).sees_a_primary(), kWait(Rule::PrimaryDecidesSelfIsBehind)},
      {Says(kG2).since(kG1).sees_a_primary(), Says(kG1), kWait(Rule::PrimaryDecidesPeerIsBehind)},
      {Says(kG2).since(kG1), Says(kG3).since(kG1).sees_a_primary(), kSplit(Rule::SplitBrain)},
      {Says(kG1).primary(), Says(kG1).sees_a_primary(), kRefuse(Rule::PeerFollowsAnother)},
      {Says(kG1).sees_a_primary(), Says(kG2).since(kG1).primary(), kRefuse(Rule::SelfFollowsAnother)},
      {Says(kG2).since(kG1).sees_a_primary(), Says(kG1).primary(), kRefuse(Rule::PrimaryWouldBeTarget)},
      {Says(kG1).bits(1), Says(kG1, kInconsistent).synced_by_another(), kWait(Rule::TargetOfAnother)},
      {Says(kG3, kInconsistent).synced_by_another(), Says(kG4, kInconsistent).partial(kG1, kG2),
       kWait(Rule::TargetOfAnother)},

      // Who would be target is not ready.
      {Says(kG1).prepares(), Says(kG2).since(kG1), kPrepare(Rule::SelfPrepares)},
      {Says(kG2).since(kG1).prepares(), Says(kG1), kSource(kBitmap, Rule::PeerIsBehind)},
      {Says(kG2).since(kG1), Says(kG1).prepares(), kPrepare(Rule::PeerPrepares)},
      {Says(kZero, kInconsistent).prepares(), Says(kG1).prepares(), kPrepare(Rule::SelfPrepares)},
      {Says(kG1).prepares(), Says(kG1).prepares(), kNone(Rule::EqualClean)},
      {Says(kG1).prepares().primary(), Says(kG2).since(kG1), kRefuse(Rule::PrimaryWouldBeTarget)},
      {Says(kG1).prepares(), Says(kG2, kInconsistent).since(kG1), kRefuse(Rule::InconsistentWouldBeSource)},
      {Says(kG2).since(kG1).gives_way().prepares(), Says(kG3).since(kG1), kPrepare(Rule::SelfPrepares)},
      {Says(kG1, kInconsistent).serves(kG2).prepares(), Says(kG2).since(kG1), kTarget(kBitmap, Rule::SelfIsBehind)},

      // Nothing in common; "held by nobody" and "none" are no names that two nodes could share.
      {Says(kG1), Says(kG2), {SyncKind::Unrelated, SyncExtent::Nothing, Rule::Unrelated}},
      {Says(kG1).gives_way(), Says(kG2), kTarget(kFull, Rule::UnrelatedSelfGivesWay)},
      {Says(kG1), Says(kG2).gives_way(), kSource(kFull, Rule::UnrelatedPeerGivesWay)},
      {Says(kG1).gives_way(), Says(kG2).gives_way(), {SyncKind::Unrelated, SyncExtent::Nothing, Rule::Unrelated}},
      {Says(kG1).gives_way().primary(), Says(kG2), kRefuse(Rule::PrimaryWouldBeTarget)},
      {Says(kG1).gives_way(), Says(kG2, kInconsistent), kRefuse(Rule::InconsistentWouldBeSource)},
      {Says(kG1).since(kHeldByNobody),
       Says(kG2).since(kHeldByNobody),
       {SyncKind::Unrelated, SyncExtent::Nothing, Rule::Unrelated}},
  };
}

std::vector<Rule> all_rules() {
  std::vector<Rule> rules;
  for (int number = 0; to_string(static_cast<Rule>(number)) != "unknown"; ++number) {
    rules.push_back(static_cast<Rule>(number));
  }
  return rules;
}

Rule mirrored(Rule rule) {
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

Decision mirrored(Decision decision) {
  if (decision.kind == SyncKind::Source) {
    decision.kind = SyncKind::Target;
  } else if (decision.kind == SyncKind::Target) {
    decision.kind = SyncKind::Source;
  }
  decision.rule = mirrored(decision.rule);
  return decision;
}

std::string text_of(const StateReport& report) {
  std::ostringstream out;
  out << "current " << report.current.high << ", bitmap " << report.bitmap_generation.high << ", previous "
      << report.previous_bitmap_generation.high << ", history " << report.history[0].high << ", "
      << to_string(report.disk_state) << " " << to_string(report.role) << ", bits " << report.out_of_sync_blocks
      << (report.crashed_primary ? ", crashed" : "") << (report.answered_ahead ? " ahead" : "")
      << (report.discard_my_data ? ", gives way" : "");
  return out.str();
}

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
constexpr std::array<DiskState, 8> kDisks = {DiskState::Diskless,     DiskState::Attaching, DiskState::Failed,
                                             DiskState::Inconsistent, DiskState::Outdated,  DiskState::Consistent,
                                             DiskState::UpToDate,     DiskState::DUnknown};
constexpr std::array<Role, 3> kRoles = {Role::Unknown, Role::Secondary, Role::Primary};

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

TEST_CASE("each row of the decision table decides as it says, seen from both sides") {
  for (const Row& row : table()) {
    StateReport self = row.self;
    StateReport peer = row.peer;
    self.node_order = 0;
    peer.node_order = 1;
    INFO(text_of(self) << " | " << text_of(peer));
    const Decision here = decide(self, peer);
    CHECK(to_string(here.rule) == to_string(row.decision.rule));
    CHECK(here == row.decision);
    CHECK(decide(peer, self) == mirrored(row.decision));
  }
}

TEST_CASE("the table has a row for each rule") {
  std::set<Rule> shown;
  for (const Row& row : table()) {
    shown.insert(row.decision.rule);
    shown.insert(mirrored(row.decision.rule));
  }
  for (const Rule rule : all_rules()) {
    INFO(to_string(rule));
    CHECK(shown.count(rule) == 1);
  }
}

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

TEST_CASE("docs/states.md names every rule and every state") {
  std::ifstream file(LOCKSTEP_SOURCE_FOLDER "/docs/states.md");
  REQUIRE(file.good());
  std::stringstream stream;
  stream << file.rdbuf();
  const std::string text = stream.str();

  const auto is_named = [&text](std::string_view name) {
    return text.find("`" + std::string(name) + "`") != std::string::npos;
  };
  REQUIRE(all_rules().size() == 63);
  for (const Rule rule : all_rules()) {
    INFO(to_string(rule));
    CHECK(is_named(to_string(rule)));
  }
  for (const Role role : kRoles) CHECK(is_named(to_string(role)));
  for (const DiskState disk : kDisks) CHECK(is_named(to_string(disk)));
  for (int state = 0; state <= static_cast<int>(ConnectionState::Connected); ++state) {
    CHECK(is_named(to_string(static_cast<ConnectionState>(state))));
  }
  for (int state = 0; state <= static_cast<int>(ReplicationState::VerifyT); ++state) {
    CHECK(is_named(to_string(static_cast<ReplicationState>(state))));
  }
}

TEST_CASE("who starts beside a peer that may have been promoted with the same data is not sure of its own") {
  SuperblockImage image;
  image.current = Generation{1, 2};
  image.peers[0].bitmap_generation = Generation{3, 4};
  CHECK(all_known_behind(image, 1));
  CHECK_FALSE(all_known_behind(image, 2));
  image.peers[0].previous_bitmap_generation = Generation{5, 6};
  CHECK(all_known_behind(image, 1));
  image.peers[0].previous_bitmap_generation = image.current;  // it has not heard of the resync that begins
  CHECK_FALSE(all_known_behind(image, 1));
  image.peers[0] = PeerRecord{};
  image.peers[0].bitmap_generation = kHeldByNobody;
  CHECK(all_known_behind(image, 1));
  image.unanswered_since = kHeldByNobody;  // with what create left
  CHECK_FALSE(all_known_behind(image, 1));
}

}  // namespace lockstep::repl
