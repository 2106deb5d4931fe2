// The handshake's decision as a table: each row by its name. generation_surveys_test.cpp has what must hold whatever
// the reports say.
#include "replicator/core/generation_rules.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/core/generation_rules_stories.h"

namespace lockstep::repl {
namespace {

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
      // A new disk was the target of a node that nobody had written to, and got some of what came then.
      {Says(name_for_resync(kG4), kInconsistent).partial(kZero, kZero).of_three(), Says(kG2).of_three(),
       kTarget(kFull, Rule::SelfIsPartial)},
      {Says(name_for_writes(kG4), kInconsistent).partial(kZero, kZero).of_three(),
       Says(kG2).of_three(),
       {SyncKind::Unrelated, SyncExtent::Nothing, Rule::Unrelated}},
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
      // … after one that the other remembers only.
      {Says(kG2).or_since(kG1).unanswered(kG1), Says(kG3).since(kG4).after(kG1),
       kTarget(kFull, Rule::SelfIsUnanswered)},
      {Says(kG3).since(kG4).after(kG1), Says(kG2).or_since(kG1).unanswered(kG1),
       kSource(kFull, Rule::PeerIsUnanswered)},
      {Says(kG2).or_since(kG1).unanswered(kG1).primary(), Says(kG3).after(kG1), kRefuse(Rule::PrimaryWouldBeTarget)},
      {Says(kG2).after(kG1).unanswered(kG1), Says(kG3).after(kG1).unanswered(kG1), kSplit(Rule::SplitBrain)},
      {Says(kG2).after(kG1).unanswered(kG1), Says(kG3).after(kG2), kTarget(kFull, Rule::SelfIsFarBehind)},
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
