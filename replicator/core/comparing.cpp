// Comparing by digests, as a part of the stream: the sender reads a range while no write is in flight in it, and sends
// its digests in the place where a copy would stand; the receiver reads the same range after all that came before and
// before anything that comes behind. Both have then read the same moment, whatever is written meanwhile.
#include <algorithm>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

void Replica::State::range_digests_arrived(PeerIndex index, const MessageArrived& event, const RangeDigests& message) {
  Peer& peer = peers[index];
  const ByteRange& range = message.range;
  const bool gives_up = peer.replication == ReplicationState::Off && peer.disk_state == DiskState::Inconsistent;
  const bool follows = peer.replication == ReplicationState::Off && sees_primary(index) &&
                       !LOCKSTEP_MUTANT("unseen-primary-breaks-a-rule");
  if (peer.decided && !message.resync && (role == Role::Primary || gives_up || follows)) {
    // It has not heard yet that this node is Primary, gives up its data, or follows a Primary that the other is not
    // linked to; and compares no further from then on.
    act(ReleaseApply{event.apply_slot});
    return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
  const char* broken = nullptr;
  const auto free = std::find_if(comparisons.begin(), comparisons.end(),
                                 [](const Comparison& comparison) { return !comparison.used; });
  if (!peer.decided) {
    broken = "digests before the handshake's decision";
  } else if (message.resync ? !is_resync_target(peer) || apply_floor == 0
                            : peer.replication != ReplicationState::Established) {
    broken = "digests for a node that is not compared";
  } else if (message.sequence <= peer.stream_received) {
    broken = "a sequence that does not grow";
  } else if (range.empty() || range.offset_bytes % kBlockBytes != 0 || range.length_bytes % kBlockBytes != 0 ||
             !ByteRange::fits(range.offset_bytes, range.length_bytes, options.size_bytes) ||
             message.digests.size() != range.length_bytes / kBlockBytes ||
             message.digests.size() > kBlocksPerComparison) {
    broken = "digests of another range";
  } else if (free == comparisons.end()) {
    broken = "more digests at once than are allowed";
  }
  if (broken != nullptr) {
    act(ReleaseApply{event.apply_slot});
    return drop_peer(index, LinkEnd::BrokenRule, broken);
  }
  free->used = true;
  free->resync = message.resync;
  std::copy(message.digests.begin(), message.digests.end(), free->digests.begin());

  peer.stream_received = message.sequence;
  stream_peer = index;
  ApplySlot apply;
  apply.peer = index;
  apply.incarnation = peer.incarnation;
  apply.sequence = message.sequence;
  apply.range = range;
  apply.comparison = static_cast<uint32_t>(free - comparisons.begin());
  enqueue_apply(event.apply_slot, apply);
}

// Before the sequence is called written: the sender still has its entry when the answer arrives.
void Replica::State::comparison_read(uint32_t slot, const LocalIoCompleted& event) {
  ApplySlot& apply = applies[slot];
  Comparison& comparison = comparisons[apply.comparison];
  comparison.used = false;
  apply.comparison =
      ApplySlot::kNoComparison;  // somebody else's from here on, while this slot waits for its turn to end
  Peer& peer = peers[apply.peer];
  if (event.error_errno != 0 || peer.incarnation != apply.incarnation) return;
  const uint64_t count = apply.range.length_bytes / kBlockBytes;
  LOCKSTEP_CHECK(event.digests.size() == count);
  uint64_t differing = 0;
  for (uint64_t i = 0; i < count; ++i) {
    if (event.digests[i] != comparison.digests[i]) differing |= uint64_t{1} << i;
  }
  send(apply.peer, RangeCompared{apply.sequence, differing});
  if (!comparison.resync && differing != 0 && peer.verify.runs) {
    found_differences(apply.peer, apply.range.offset_bytes / kBlockBytes, differing);
  }
}

void Replica::State::range_compared(PeerIndex index, const RangeCompared& message) {
  Peer& peer = peers[index];
  TransferEntry* entry = transfer_log.contains(message.sequence) ? &transfer_log.at(message.sequence) : nullptr;
  if (entry == nullptr || !entry->comparison || entry->compared || (entry->sent_to & mask_of(index)) == 0) {
    return drop_peer(index, LinkEnd::BrokenRule, "an answer to digests that were not sent");
  }
  const uint64_t count = entry->range.length_bytes / kBlockBytes;
  if (count < 64 && message.differing >> count != 0) {
    return drop_peer(index, LinkEnd::BrokenRule, "an answer to digests that were not sent");
  }
  entry->compared = true;
  entry->differing = message.differing;
  --peer.comparisons_in_flight;
  if (entry->verify) {
    if (peer.verify.runs && message.differing != 0) {
      found_differences(index, entry->range.offset_bytes / kBlockBytes, message.differing);
      for (uint64_t i = 0; i < count; ++i) {
        if ((message.differing >> i & 1) != 0) peer.bitmap.set_blocks(entry->range.offset_bytes / kBlockBytes + i, 1);
      }
      peer.verify.marked = true;
    }
    return;
  }
  peer.asking.answered(message.differing, count);
}

// The peer has what the entry stands for on stable storage: a copy, or blocks that it was found to hold already.
void Replica::State::clear_what_is_stable(Peer& peer, const TransferEntry& entry) {
  if (!is_durable(peer.resync_gate)) return;
  if (!entry.comparison) return peer.bitmap.clear(entry.range);
  if (entry.verify || !entry.compared) return;
  const uint64_t first = entry.range.offset_bytes / kBlockBytes;
  for (uint64_t i = 0; i < entry.range.length_bytes / kBlockBytes; ++i) {
    if ((entry.differing >> i & 1) == 0) peer.bitmap.clear({(first + i) * kBlockBytes, kBlockBytes});
  }
}

}  // namespace lockstep::repl
