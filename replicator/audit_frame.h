// What the operators of one node do, told to the others on the link: lines for their audit logs (tools/audit_log.h).
// Not for the replica: nothing waits for them, and none of them changes what happens to data. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "io/base/result.h"
#include "replicator/peer_protocol.h"

namespace lockstep::repl {

inline constexpr size_t kMaximumAuditLineBytes = 2048;

struct AuditFrame {
  // AuditWanted: the sender wants the receiver's own lines that are newer than `stamp_us`. AuditLine: one of them.
  FrameKind kind = FrameKind::AuditWanted;
  uint64_t stamp_us = 0;  // of the line: grows from line to line of a node
  std::string line;       // one JSON object, without the line's end; empty in AuditWanted
  friend bool operator==(const AuditFrame&, const AuditFrame&) = default;
};

inline bool is_audit_frame(FrameKind kind) {
  return kind == FrameKind::AuditWanted || kind == FrameKind::AuditLine;
}

// The whole frame, at the front of `to` (kMaximumFrameBytes are enough); the number of bytes.
size_t encode_audit_frame(const AuditFrame& frame, uint64_t link_incarnation, uint64_t number, std::span<uint8_t> to);
// Of a checked frame of such a kind. Corrupt when the body does not have the kind's form.
Result<AuditFrame> decode_audit_frame(const FrameHeader& header, std::span<const uint8_t> body);

}  // namespace lockstep::repl
