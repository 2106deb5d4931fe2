// What a replica remembers of one peer: the link, the promises of both sides about their streams, a resync, a verify,
// and who serves whose clients. Private to the core.
#pragma once

#include <cstdint>
#include <optional>

#include "replicator/core/dirty_bitmap.h"
#include "replicator/core/generation_rules.h"
#include "replicator/core/progress.h"
#include "replicator/core/replica.h"
#include "replicator/core/slots.h"
#include "replicator/core/verify.h"

namespace lockstep::repl {

struct Peer {
  explicit Peer(uint64_t size_bytes) : bitmap(size_bytes) {}

  DirtyBitmap bitmap;
  ConnectionState connection = ConnectionState::StandAlone;
  ReplicationState replication = ReplicationState::Off;
  Role role = Role::Unknown;
  DiskState disk_state = DiskState::DUnknown;
  bool known_behind = false;  // as it says itself: StateChanged

  // The link.
  Incarnation incarnation = 0;  // 0: none
  bool report_sent = false;
  bool report_arrived = false;
  bool decided = false;  // on this link
  bool ever_decided = false;
  bool split_brain = false;      // the last handshake found one, or unrelated data: shown as StandAlone
  bool discard_my_data = false;  // the operator's word for the next handshake
  StateReport own_report, peer_report;
  Decision decision;
  PersistId send_floor = 0;    // sends wait for this persist, so that order on the link is kept
  uint64_t proved_us = 0;      // the last time at which it is known to have been this node's peer, on this link
  PersistId leaves_after = 0;  // the link ends when that is durable
  GoodbyeReason leaves_because = GoodbyeReason::Stopping;
  uint64_t pings = 0, pongs = 0;  // on this link, each answered in its turn
  uint64_t last_received_us = 0, last_ping_us = 0, round_trip_us = 0, absent_since_us = 0;
  uint64_t brought_up_us = 0;  // when a resync with this node as its source ended; on whichever link

  // Protocol.
  Protocol protocol = Protocol::C;       // of writes that start now
  Protocol protocol_kept = Protocol::C;  // the weakest under which something was answered that is not stable there
  Sequence protocol_drains_through = 0;  // … until that is; 0: nothing to wait for
  StreamRules rules_told;                // on this link
  // It was told that answers do not wait for it: they do until it has answered this Ping, which came behind that.
  uint64_t unaware_until = 0;
  Sequence records_after = 0;  // what it makes stable behind this is in its metadata
  StreamRules rules_obeyed;    // what the peer told us

  // Its promises about our stream.
  Sequence sent = 0, received = 0, written = 0, flushed = 0;
  Sequence barrier_sent = 0;
  Sequence barrier_due = 0;  // at the end of the turn: one barrier for all FUA writes of it
  uint64_t barrier_sent_us = 0;
  uint64_t unwritten_bytes = 0;
  uint64_t unreceived_payload_bytes = 0;
  // When it last went on, or was given something to go on with.
  uint64_t receiving_since_us = 0, writing_since_us = 0, flushing_since_us = 0;

  bool lacks_answered = false;  // lost, and never received what was answered in our current generation: protocol A

  // Our promises about its stream.
  Sequence stream_received = 0, stream_written = 0, stream_flushed = 0, barrier_wanted = 0;
  Sequence stream_stable = 0;  // of what was flushed here: where it is to be recorded, stream_flushed follows that
  bool acknowledge = false;

  // As resync target, of several nodes: the start that waits for a round trip.
  std::optional<ResyncStart> start_waits;
  uint64_t start_asked = 0;  // which Ping

  // As resync source.
  uint64_t cursor_block = 0;
  uint32_t reading_slots = 0;
  uint64_t resync_unwritten_bytes = 0;
  uint64_t resync_unflushed_bytes = 0;
  uint32_t comparisons_in_flight = 0;  // being read here, or sent and not answered
  Sequence resync_sent = 0;            // the last copy or comparison
  Asking asking;
  uint64_t resync_total_blocks = 0, resync_started_us = 0;
  PersistId resync_gate = 0;       // nothing is cleared before this persist
  uint64_t resync_gate_cycle = 0;  // … nor before this flush cycle made stable what we copy from
  bool resync_done_sent = false;
  // As resync target.
  uint64_t bitmap_send_cursor = 0;
  uint64_t resync_left_blocks = 0;                              // as the source said last
  enum class Preparation : uint8_t { None, Runs, Held, Done };  // of the next resync from this peer
  Preparation preparation = Preparation::None;
  // As either. The operator of this node, or of the peer, wants it to wait.
  bool paused_here = false, paused_there = false;
  ProgressMeter progress;
  uint64_t progress_told_us = 0;

  Verify verify;
  bool resync_read_failed = false;  // as source: paused by that

  // It serves our clients.
  bool serve_asked = false;      // on this link
  bool serve_confirmed = false;  // … and it has everything that was acknowledged on stable storage
  uint32_t reads_out = 0;
  bool lost_unflushed = false;   // the link ended with acknowledged writes that it had not made stable
  bool lost_unreceived = false;  // … that it may never have got: protocol A
  bool lost_as_target = false;   // … in a resync from this node's disk: it lacks what was not copied
  // It may get its data from the last peer that served, whose cache held answered writes up to here.
  Sequence handed_on_through = 0;
  uint64_t run = 0;  // of its daemon, and its disk, when it was sent something last

  // We serve its clients.
  bool served_here = false;
  bool reads_here = false;  // … or did on this link: reads that it asked for before it heard of the end still come
  bool serve_confirm_owed = false;
  bool serve_takes = false;  // first what came before is made stable, then serve_generation is taken
  Generation serve_generation, serve_previous;
  PersistId serve_persist = 0;
  Sequence serve_after = 0;  // what came before in the stream must be written first
  uint64_t serve_cycle = 0;
  uint64_t save_cycle = 0;  // after that what it counted in memory is kept on disk again
  enum class CutOver : uint8_t { None, Asked, Paused, Withdrawn };
  CutOver cut_over = CutOver::None;  // the end of a resync to it

  PersistId restart_after = 0;  // the link ends once this is durable: what the handshake was about has changed

  // With several peers.
  Sequence stream_from = 1;              // the first of our stream that it got on this link
  uint16_t told_in_sync = kNothingTold;  // the NodeMask of the last PeersInSync
  uint64_t generation_sent_us = 0;       // it was asked then to take our new generation
  uint64_t decided_us = 0;
  bool in_sync_by_primary = false;  // the Primary, another node, says that this peer holds what we hold

  // We granted its promotion and wait to hear how that went.
  bool granted = false;
  WaitedFor waited_for_before = WaitedFor::Unknown;  // what we said of ourselves until then
};

}  // namespace lockstep::repl
