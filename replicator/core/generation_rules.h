// The handshake's decision: who is source, who target, and by which rule. Pure and symmetric: decide(a, b) and
// decide(b, a) name the same rule and opposite sides. The table is in docs/states.md.
#pragma once

#include <cstdint>
#include <string_view>

#include "replicator/core/message.h"
#include "replicator/core/metadata_image.h"
#include "replicator/core/types.h"

namespace lockstep::repl {

// Serve: the Primary's clients see the other side's disk; nothing is copied. NoDisk: connected, nothing replicates.
// Wait: the two stay connected and copy nothing; somebody else decides what they hold. Prepare: the same, while the
// target is made ready.
enum class SyncKind : uint8_t { None, Source, Target, SplitBrain, Unrelated, Refuse, Serve, NoDisk, Wait, Prepare };
enum class SyncExtent : uint8_t { Nothing, Bitmap, Full };

// Spelt as `explain` prints them.
enum class Rule : uint8_t {
  BothDiskless,
  SelfDiskless,  // connected for the sake of what each knows of the other
  PeerDiskless,
  SelfDisklessPeerIsBehind,  // … and the disk that can be read lacks what this node has answered
  PeerDisklessSelfIsBehind,
  SelfServedByPeer,  // this node is Primary, and its clients see the peer's disk
  PeerServedBySelf,
  ServedDataElsewhere,  // … which is not what they have seen until now: refused
  BothInconsistent,     // no copy that could be the source
  BothJustCreated,
  SelfJustCreated,
  PeerJustCreated,
  EqualClean,  // one generation, nothing out of sync
  EqualSelfInconsistent,
  EqualPeerInconsistent,
  EqualSelfCrashed,  // one generation, this node crashed as Primary, the peer lived on: the peer is source
  EqualPeerCrashed,
  EqualSelfCrashedAhead,  // … but under protocol A it may have answered what the peer lacks: it is source
  EqualPeerCrashedAhead,
  EqualSelfCrashedAlone,  // the peer restarted as well: the crashed Primary is source
  EqualPeerCrashedAlone,
  EqualSelfReceivedMore,  // one generation, and of one Primary's stream this node holds more
  EqualPeerReceivedMore,
  EqualSelfMayLack,  // one generation, and the Primary may have answered what is not here: the peer is source
  EqualPeerMayLack,
  EqualSelfHasBits,  // one generation, blocks left out of sync on one side only
  EqualPeerHasBits,
  EqualSelfPrimary,  // one generation, blocks left on both sides: the Primary is source
  EqualPeerPrimary,
  EqualSelfFresher,  // … the one whose disk is UpToDate
  EqualPeerFresher,
  EqualSelfFirst,  // … else the node whose name sorts first
  EqualPeerFirst,
  PeerIsBehind,  // the peer holds a generation since which our bitmap knows every change
  SelfIsBehind,
  PeerIsFarBehind,  // the peer holds a generation of our history: full sync
  SelfIsFarBehind,
  SelfIsPartial,  // the target of a resync that did not end, and the peer knows the generation it was on its way to
  PeerIsPartial,
  SelfIsUnanswered,  // this node made its generation and answered nothing in it; the peer went on from the one before
  PeerIsUnanswered,
  SplitBrain,              // both wrote apart from each other
  SplitBrainSelfGivesWay,  // … and the operator gave up this node's data
  SplitBrainPeerGivesWay,
  Unrelated,
  UnrelatedSelfGivesWay,  // … and the operator gave up this node's data
  UnrelatedPeerGivesWay,
  PrimaryWouldBeTarget,  // the data of a Primary would be overwritten: refused
  InconsistentWouldBeSource,
  BothPrimary,
  SelfRolledBack,  // this disk is an older copy of what the peer has seen: full sync, if the peer's data is the newest
  PeerRolledBack,
  BothRolledBack,
  SelfMayBeStale,  // this node is Outdated or Consistent, and the peer's disk, which may have held newer data, is gone
  PeerMayBeStale,
  PrimaryDecides,              // one of two Secondaries is connected to a Primary
  PrimaryDecidesSelfIsBehind,  // … and this node is known to hold older data
  PrimaryDecidesPeerIsBehind,
  SelfPrepares,  // this node would be target, and prepares itself first
  PeerPrepares,
  TargetOfAnother,     // the target is being synced from another node already
  SelfFollowsAnother,  // the peer is Primary, and so is another that this node is connected to: refused until one is
                       // left
  PeerFollowsAnother,
};
std::string_view to_string(Rule rule);

struct Decision {
  SyncKind kind = SyncKind::Refuse;
  SyncExtent extent = SyncExtent::Nothing;
  Rule rule = Rule::Unrelated;
  friend bool operator==(const Decision&, const Decision&) = default;
};

// At a start: a generation in which nothing was answered is as if it had not been made, so that it sets this node
// apart from nobody. True if there was one.
bool undo_unanswered(SuperblockImage& image);

// At a start: every peer holds older data than this disk. A target that has not confirmed the resync that was begun
// does not count: it may have been promoted with what it held.
bool all_known_behind(const SuperblockImage& image, uint8_t peer_count);

// A restarted node does not know how much of a Primary's stream it lacks, but how much it had made stable.
StreamPosition holds_at_least(const StateReport& report);

Decision decide(const StateReport& self, const StateReport& peer);

}  // namespace lockstep::repl
