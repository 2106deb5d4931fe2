#include "replicator/audit_frame.h"

#include <algorithm>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "replicator/frame_writing.h"

namespace lockstep::repl {

size_t encode_audit_frame(const AuditFrame& frame, uint64_t link_incarnation, uint64_t number, std::span<uint8_t> to) {
  LOCKSTEP_CHECK(is_audit_frame(frame.kind) && frame.line.size() <= kMaximumAuditLineBytes);
  LittleWriter writer(to.subspan(kFrameHeaderBytes));
  writer.u64(frame.stamp_us);
  writer.text(frame.line);
  LOCKSTEP_CHECK(writer.ok());
  return finish_frame({.kind = frame.kind, .link_incarnation = link_incarnation, .number = number}, to,
                      writer.position_bytes());
}

Result<AuditFrame> decode_audit_frame(const FrameHeader& header, std::span<const uint8_t> body) {
  const auto corrupt = [](const char* what) { return Error{ErrorKind::Corrupt, 0, what}; };
  if (!is_audit_frame(header.kind)) return corrupt("a frame that tells nothing of an audit log");
  LittleReader reader(body);
  AuditFrame frame{header.kind, reader.u64(), {}};
  if (!reader.ok()) return corrupt("a frame of an audit log is too short");
  const std::string_view line = reader.text(reader.left_bytes());
  const bool is_line = header.kind == FrameKind::AuditLine;
  if (line.empty() == is_line || line.size() > kMaximumAuditLineBytes) {
    return corrupt("a frame of an audit log has the wrong length");
  }
  // It ends in a file of lines, and on terminals.
  if (std::any_of(line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7F; })) {
    return corrupt("a line for the audit log holds control characters");
  }
  frame.line = std::string(line);
  return frame;
}

}  // namespace lockstep::repl
