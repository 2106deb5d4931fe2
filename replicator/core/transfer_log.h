// The writes that are not yet stable everywhere, in order of their sequence: what must be marked out of sync when a
// peer is lost, and what holds references on the activity log.
#pragma once

#include <cstdint>
#include <vector>

#include "io/base/check.h"
#include "replicator/core/types.h"

namespace lockstep::repl {

struct TransferEntry {
  ByteRange range;
  uint64_t sent_us = 0;
  uint64_t payload_bytes = 0;  // none of zeroes
  uint32_t client_slot = 0;    // of an application's write that is not answered yet, else kNoClient
  PeerMask sent_to = 0;        // linked peers that have it in their stream; a lost peer's bit is taken out
  PeerMask written_by = 0;     // of those, who have completed it
  bool resync = false;         // a copy, or a comparison, of resync or verify
  bool comparison = false;     // digests were sent, no data
  bool verify = false;         // of a verify
  bool compared = false;       // the peer has answered: `differing`
  bool fua = false;
  bool local_done = false;  // always true of a resync's copies: nothing is written here
  bool sent_again = false;  // unanswered, and under way as a later entry
  bool holds_extents = false;
  uint64_t differing = 0;     // bit i: block i of the range differs
  bool remote_only = false;   // this node has no disk, or lost it: what is stable on the peers is stable
  uint32_t peer_extents = 0;  // so many extents of the logs of peers that serve it keeps hot
  bool superseded = false;    // of a resync's copy: what it covers was written again since it was read

  static constexpr uint32_t kNoClient = UINT32_MAX;
};

class TransferLog {
 public:
  explicit TransferLog(uint32_t capacity) : entries_(capacity) {}

  bool empty() const { return first_ > last_; }
  bool full() const { return last_ + 1 - first_ == entries_.size(); }
  uint64_t size() const { return last_ + 1 - first_; }
  uint64_t capacity() const { return entries_.size(); }
  Sequence first() const { return first_; }  // of the oldest entry, where there is one
  Sequence last() const { return last_; }    // the last sequence given, 0 before the first
  bool contains(Sequence sequence) const { return first_ <= sequence && sequence <= last_; }

  Sequence append(const TransferEntry& entry) {
    LOCKSTEP_CHECK(!full());
    ++last_;
    entries_[last_ % entries_.size()] = entry;
    return last_;
  }
  TransferEntry& at(Sequence sequence) {
    LOCKSTEP_CHECK(contains(sequence));
    return entries_[sequence % entries_.size()];
  }
  const TransferEntry& at(Sequence sequence) const {
    LOCKSTEP_CHECK(contains(sequence));
    return entries_[sequence % entries_.size()];
  }
  void drop_first() {
    LOCKSTEP_CHECK(!empty());
    ++first_;
  }

 private:
  std::vector<TransferEntry> entries_;
  Sequence first_ = 1;
  Sequence last_ = 0;
};

}  // namespace lockstep::repl
