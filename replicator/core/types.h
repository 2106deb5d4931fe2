// The vocabulary of replication: DRBD's words, spelt as the command prints them.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/base/result.h"
#include "io/base/units.h"

namespace lockstep::repl {

inline constexpr size_t kMaximumPeers = 7;
inline constexpr uint64_t kBlockBytes = 4 * kKiB;   // what one bit of a dirty bitmap stands for
inline constexpr uint64_t kExtentBytes = 4 * kMiB;  // what one entry of the activity log stands for
inline constexpr size_t kHistoryGenerations = 24;

using PeerIndex = uint8_t;  // place of a peer in this node's configuration: 0 .. kMaximumPeers - 1
using PeerMask = uint8_t;   // a bit for each peer
constexpr PeerMask mask_of(PeerIndex peer) {
  return static_cast<PeerMask>(1U << peer);
}
using NodeMask = uint8_t;      // of nodes of a resource, each by the place of its name among the sorted names
using Incarnation = uint64_t;  // of a link; never 0, grows with each link to a peer
using Sequence = uint64_t;     // of a replicated write; grows by one for each while a node is Primary
using PersistId = uint64_t;    // of a metadata write, in order; 0 means "nothing to wait for"

// Names one lineage of writes: 128 random bits. Zero means "none"; on a disk, that nothing was ever written.
struct Generation {
  uint64_t high = 0;
  uint64_t low = 0;

  constexpr bool is_zero() const { return high == 0 && low == 0; }
  friend constexpr auto operator<=>(const Generation&, const Generation&) = default;
};

// Equal to no node's current generation: stands in a bitmap slot whose peer never held a generation of ours.
inline constexpr Generation kHeldByNobody{UINT64_MAX, UINT64_MAX};
constexpr bool is_a_name(const Generation& generation) {
  return !generation.is_zero() && generation != kHeldByNobody;
}
// A target's disk has a name of its own while its resync lasts. By its last bit it is told from a lineage of writes:
// nobody will have it once the target is known to hold another, so the history lets it go first.
constexpr Generation name_for_resync(const Generation& generation) {
  return {generation.high, generation.low | 1};
}
constexpr Generation name_for_writes(const Generation& generation) {
  return {generation.high, generation.low & ~uint64_t{1}};
}
constexpr bool is_for_resync(const Generation& generation) {
  return is_a_name(generation) && (generation.low & 1) != 0;
}

std::string to_string(const Generation& generation);         // 32 hex digits
Result<Generation> parse_generation(std::string_view text);  // the same; Invalid on anything else

// What stands for a block's content when two nodes compare it: equal exactly when the contents are, for all that
// anybody can do. Worked out outside of the core, which only compares.
struct BlockDigest {
  uint64_t high = 0;
  uint64_t low = 0;
  friend constexpr bool operator==(const BlockDigest&, const BlockDigest&) = default;
};
inline constexpr uint64_t kBlocksPerComparison = 64;  // at most, in one message

// Whether what was answered in a node's current generation has waited for it: No under protocol A, Unknown where nobody
// has said.
enum class WaitedFor : uint8_t { Unknown, No, Yes };

enum class Role : uint8_t { Unknown, Secondary, Primary };
enum class DiskState : uint8_t { Diskless, Attaching, Failed, Inconsistent, Outdated, Consistent, UpToDate, DUnknown };
// There is a disk that can be read and written.
constexpr bool is_disk(DiskState state) {
  return state == DiskState::Inconsistent || state == DiskState::Outdated || state == DiskState::Consistent ||
         state == DiskState::UpToDate;
}
enum class ConnectionState : uint8_t { StandAlone, Disconnecting, Connecting, Connected };
enum class ReplicationState : uint8_t {
  Off,
  Established,
  WFBitMapS,
  WFBitMapT,
  SyncSource,
  SyncTarget,
  PausedSyncS,
  PausedSyncT,
  VerifyS,
  VerifyT
};
enum class Protocol : uint8_t { A, B, C };
// What a Primary does when it has lost a peer that could take its place: go on alone; hold all answers until the peer
// is back or an operator gives it up; or until an arbiter has recorded that the peer is out.
enum class LossPolicy : uint8_t { Continue, Suspend, Arbiter };
// Which peers' promises a write or a flush waits for: those of all that get it; of the first so many in the order of
// preference; of any so many. Only such count that are in sync, and a peer that is lost is not waited for.
enum class SyncChoice : uint8_t { All, First, Any };
struct SyncSet {
  SyncChoice kind = SyncChoice::All;
  uint8_t count = 0;
  friend bool operator==(const SyncSet&, const SyncSet&) = default;
};
// Why a Primary answers nothing; spelt as `status` prints it.
enum class Suspension : uint8_t { No, PeerLoss, NoData, Operator };

std::string_view to_string(Role role);
std::string_view to_string(DiskState state);
std::string_view to_string(ConnectionState state);
std::string_view to_string(ReplicationState state);
std::string_view to_string(Protocol protocol);
std::string_view to_string(Suspension suspension);

}  // namespace lockstep::repl
