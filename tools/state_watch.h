// What an operator sees of a node, now and before, and what of its changes handlers are run for. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "replicator/core/types.h"
#include "tools/handler_events.h"

namespace lockstep::tools {

struct WatchedPeer {
  repl::ConnectionState connection = repl::ConnectionState::Connecting;
  repl::ReplicationState replication = repl::ReplicationState::Off;
  repl::Role role = repl::Role::Unknown;
  repl::DiskState disk_state = repl::DiskState::DUnknown;
  friend bool operator==(const WatchedPeer&, const WatchedPeer&) = default;
};

struct WatchedState {
  repl::Role role = repl::Role::Secondary;
  repl::DiskState disk_state = repl::DiskState::Attaching;
  repl::Suspension suspension = repl::Suspension::No;
  std::vector<WatchedPeer> peers;
  friend bool operator==(const WatchedState&, const WatchedState&) = default;
};

struct Happening {
  HandlerEvent event = HandlerEvent::Promoted;
  std::optional<repl::PeerIndex> peer;
  friend bool operator==(const Happening&, const Happening&) = default;
};

class StateWatch {
 public:
  // A link that is back so soon was not lost for an operator: nodes take it down and up again when a state that a
  // handshake rests on has changed.
  static constexpr uint64_t kLostAfterUs = 500'000;

  explicit StateWatch(size_t peer_count);

  // Everything but split-brain, local-io-error and before-resync-target, which are no changes of a state alone.
  std::vector<Happening> update(const WatchedState& now, uint64_t now_us);
  // When update() is to be called at the latest, also if nothing changes.
  std::optional<uint64_t> due_us() const;

  const WatchedState& now() const { return now_; }
  // Each value as it was before it changed last.
  const WatchedState& before() const { return before_; }

 private:
  WatchedState now_, before_;
  struct Seen {
    bool connected = false;  // as was told
    std::optional<uint64_t> lost_us;
  };
  std::vector<Seen> peers_;
};

}  // namespace lockstep::tools
