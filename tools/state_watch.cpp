#include "tools/state_watch.h"

#include <algorithm>

namespace lockstep::tools {
namespace {

using repl::ConnectionState;
using repl::ReplicationState;
using repl::Role;
using repl::Suspension;

// True if it changed.
template <typename Value>
bool follow(Value& now, Value& before, Value value) {
  if (now == value) return false;
  before = now;
  now = value;
  return true;
}

bool is_target(ReplicationState state) {
  return state == ReplicationState::WFBitMapT || state == ReplicationState::SyncTarget ||
         state == ReplicationState::PausedSyncT;
}

}  // namespace

StateWatch::StateWatch(size_t peer_count) : peers_(peer_count) {
  now_.peers.resize(peer_count);
  before_.peers.resize(peer_count);
}

std::vector<Happening> StateWatch::update(const WatchedState& now, uint64_t now_us) {
  std::vector<Happening> happened;
  if (follow(now_.role, before_.role, now.role)) {
    happened.push_back({now.role == Role::Primary ? HandlerEvent::Promoted : HandlerEvent::Demoted, {}});
  }
  follow(now_.disk_state, before_.disk_state, now.disk_state);
  if (follow(now_.suspension, before_.suspension, now.suspension)) {
    if (before_.suspension == Suspension::No) happened.push_back({HandlerEvent::Suspended, {}});
    if (now.suspension == Suspension::No) happened.push_back({HandlerEvent::Resumed, {}});
  }
  for (size_t i = 0; i < peers_.size(); ++i) {
    const auto index = static_cast<repl::PeerIndex>(i);
    const WatchedPeer& value = now.peers[i];
    WatchedPeer& peer = now_.peers[i];
    WatchedPeer& before = before_.peers[i];
    follow(peer.connection, before.connection, value.connection);
    follow(peer.role, before.role, value.role);
    follow(peer.disk_state, before.disk_state, value.disk_state);
    const bool replication_changed = follow(peer.replication, before.replication, value.replication);

    Seen& seen = peers_[i];
    if (value.connection == ConnectionState::Connected) {
      seen.lost_us.reset();
      if (!seen.connected) happened.push_back({HandlerEvent::PeerConnected, index});
      seen.connected = true;
    } else if (seen.connected) {
      if (!seen.lost_us) seen.lost_us = now_us;
      if (now_us >= *seen.lost_us + kLostAfterUs) {
        happened.push_back({HandlerEvent::PeerLost, index});
        seen = Seen{};
      }
    }
    if (replication_changed && value.replication == ReplicationState::Established && is_target(before.replication)) {
      happened.push_back({HandlerEvent::AfterResyncTarget, index});
    }
  }
  return happened;
}

std::optional<uint64_t> StateWatch::due_us() const {
  std::optional<uint64_t> due;
  for (const Seen& seen : peers_) {
    if (seen.lost_us) due = std::min(due.value_or(UINT64_MAX), *seen.lost_us + kLostAfterUs);
  }
  return due;
}

}  // namespace lockstep::tools
