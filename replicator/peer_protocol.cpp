#include "replicator/peer_protocol.h"

#include <algorithm>
#include <bit>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "replicator/frame_writing.h"
#include "replicator/metadata_format.h"

namespace lockstep::repl {
namespace {

constexpr size_t kNameFieldBytes = 1 + kMaximumNameBytes;

Error corrupt(std::string what) {
  return {ErrorKind::Corrupt, 0, std::move(what)};
}

void write_name(LittleWriter& writer, std::string_view name) {
  LOCKSTEP_CHECK(name.size() <= kMaximumNameBytes);
  writer.u8(static_cast<uint8_t>(name.size()));
  writer.text(name);
  writer.zeroes(kMaximumNameBytes - name.size());
}

bool read_name(LittleReader& reader, std::string& name) {
  const size_t length = reader.u8();
  const std::string_view field = reader.text(kMaximumNameBytes);
  if (length > kMaximumNameBytes || field.size() < length) return false;
  name = std::string(field.substr(0, length));
  const bool printable = std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7F; });
  return printable && !name.empty() && field.find_first_not_of('\0', length) == std::string_view::npos;
}

}  // namespace

// The header: magic 4, version 1, kind 1, zero 2, incarnation 8, number 8, body 4, payload 4, payload checksum 4,
// checksum 4, zero 4.
size_t finish_frame(const FrameHeader& header, std::span<uint8_t> to, size_t body_bytes) {
  LOCKSTEP_CHECK(to.size() >= kFrameHeaderBytes + body_bytes && body_bytes <= kMaximumBodyBytes);
  LittleWriter writer(to.first(kFrameHeaderBytes));
  writer.u32(kFrameMagic);
  writer.u8(kProtocolVersion);
  writer.u8(static_cast<uint8_t>(header.kind));
  writer.u16(0);
  writer.u64(header.link_incarnation);
  writer.u64(header.number);
  writer.u32(static_cast<uint32_t>(body_bytes));
  writer.u32(header.payload_bytes);
  writer.u32(header.payload_checksum);
  writer.u32(0);
  writer.u32(0);
  LOCKSTEP_CHECK(writer.ok() && writer.left_bytes() == 0);
  const size_t frame_bytes = kFrameHeaderBytes + body_bytes;
  LittleWriter(to.subspan(kFrameChecksumOffset, 4)).u32(crc32c(to.first(frame_bytes)));
  return frame_bytes;
}

Result<FrameHeader> decode_frame_header(std::span<const uint8_t, kFrameHeaderBytes> bytes) {
  LittleReader reader(bytes);
  if (reader.u32() != kFrameMagic) return corrupt("these are not bytes of a Lockstep replication link");
  const uint8_t version = reader.u8();
  if (version != kProtocolVersion) {
    return Error{ErrorKind::Unsupported, 0,
                 "the peer speaks version " + std::to_string(version) + " of the replication protocol, this is " +
                     std::to_string(kProtocolVersion)};
  }
  FrameHeader header;
  header.kind = static_cast<FrameKind>(reader.u8());
  const uint16_t zero = reader.u16();
  header.link_incarnation = reader.u64();
  header.number = reader.u64();
  header.body_bytes = reader.u32();
  header.payload_bytes = reader.u32();
  header.payload_checksum = reader.u32();
  header.checksum = reader.u32();
  if (zero != 0 || reader.u32() != 0) return corrupt("a frame's header has bits that this version does not know");
  if (header.body_bytes > kMaximumBodyBytes || header.payload_bytes > kMaximumPayloadBytes) {
    return corrupt("a frame is longer than any may be");
  }
  if (header.payload_bytes != 0 && header.kind != FrameKind::Write && header.kind != FrameKind::ReadReply) {
    return corrupt("a frame has a payload whose kind has none");
  }
  return header;
}

Status check_frame(const FrameHeader& header, std::span<const uint8_t> frame) {
  constexpr std::array<uint8_t, 4> kNothing{};
  LOCKSTEP_CHECK(frame.size() == kFrameHeaderBytes + header.body_bytes);
  uint32_t crc = crc32c(frame.first(kFrameChecksumOffset));
  crc = crc32c(kNothing, crc);
  crc = crc32c(frame.subspan(kFrameChecksumOffset + 4), crc);
  if (crc != header.checksum) return corrupt("a frame's checksum is wrong");
  return {};
}

uint64_t link_incarnation(uint64_t dialer_half, uint64_t listener_half) {
  const uint64_t incarnation = dialer_half ^ std::rotl(listener_half, 32);
  return incarnation == 0 ? 1 : incarnation;
}

size_t encode_hello(const Hello& hello, std::span<uint8_t> to) {
  LittleWriter writer(to.subspan(kFrameHeaderBytes));
  writer.u16(hello.version_minimum);
  writer.u16(hello.version_maximum);
  writer.u64(hello.incarnation_half);
  writer.u64(hello.resource_id.high);
  writer.u64(hello.resource_id.low);
  writer.u64(hello.size_bytes);
  writer.u64(hello.prepared_size_bytes);
  write_name(writer, hello.resource_name);
  write_name(writer, hello.node_name);
  write_name(writer, hello.peer_name);
  LOCKSTEP_CHECK(writer.ok() && writer.position_bytes() == kHelloBodyBytes);
  return finish_frame({.kind = FrameKind::Hello}, to, kHelloBodyBytes);
}

size_t encode_refusal(const Refusal& refusal, std::span<uint8_t> to) {
  const std::string_view text = std::string_view(refusal.text).substr(0, kMaximumRefusalTextBytes);
  LittleWriter writer(to.subspan(kFrameHeaderBytes));
  writer.u8(static_cast<uint8_t>(refusal.reason));
  writer.u8(static_cast<uint8_t>(text.size()));
  writer.text(text);
  LOCKSTEP_CHECK(writer.ok());
  return finish_frame({.kind = FrameKind::Refusal}, to, writer.position_bytes());
}

Result<Hello> decode_hello(std::span<const uint8_t> body) {
  if (body.size() != kHelloBodyBytes) return corrupt("a Hello has the wrong length");
  static_assert(kHelloBodyBytes == 44 + 3 * kNameFieldBytes);
  LittleReader reader(body);
  Hello hello;
  hello.version_minimum = reader.u16();
  hello.version_maximum = reader.u16();
  hello.incarnation_half = reader.u64();
  hello.resource_id = {reader.u64(), reader.u64()};
  hello.size_bytes = reader.u64();
  hello.prepared_size_bytes = reader.u64();
  if (!read_name(reader, hello.resource_name) || !read_name(reader, hello.node_name) ||
      !read_name(reader, hello.peer_name)) {
    return corrupt("a Hello holds a name that is none");
  }
  return hello;
}

Result<Refusal> decode_refusal(std::span<const uint8_t> body) {
  LittleReader reader(body);
  const uint8_t reason = reader.u8();
  const size_t length = reader.u8();
  const std::string_view text = reader.text(length);
  if (!reader.ok() || reader.left_bytes() != 0 || reason < static_cast<uint8_t>(RefusalReason::Version) ||
      reason > static_cast<uint8_t>(RefusalReason::NotWanted)) {
    return corrupt("a Refusal does not have its form");
  }
  // It ends in a log and on a terminal: nothing but text may get there.
  Refusal refusal{static_cast<RefusalReason>(reason), std::string(text)};
  for (char& c : refusal.text) {
    if (c < ' ' || c == 0x7F) c = '?';
  }
  return refusal;
}

std::string_view to_string(FrameKind kind) {
  switch (kind) {
    case FrameKind::Hello:
      return "Hello";
    case FrameKind::Refusal:
      return "Refusal";
    case FrameKind::StateReport:
      return "StateReport";
    case FrameKind::StateChanged:
      return "StateChanged";
    case FrameKind::GenerationChanged:
      return "GenerationChanged";
    case FrameKind::Write:
      return "Write";
    case FrameKind::WriteZeroes:
      return "WriteZeroes";
    case FrameKind::Barrier:
      return "Barrier";
    case FrameKind::Acknowledged:
      return "Acknowledged";
    case FrameKind::ResyncStart:
      return "ResyncStart";
    case FrameKind::BitmapRuns:
      return "BitmapRuns";
    case FrameKind::BitmapWanted:
      return "BitmapWanted";
    case FrameKind::ResyncProgress:
      return "ResyncProgress";
    case FrameKind::ResyncDone:
      return "ResyncDone";
    case FrameKind::GenerationStored:
      return "GenerationStored";
    case FrameKind::PromoteRequest:
      return "PromoteRequest";
    case FrameKind::PromoteAnswer:
      return "PromoteAnswer";
    case FrameKind::TakeOver:
      return "TakeOver";
    case FrameKind::TakeOverAnswer:
      return "TakeOverAnswer";
    case FrameKind::SwitchoverRequest:
      return "SwitchoverRequest";
    case FrameKind::SwitchoverAnswer:
      return "SwitchoverAnswer";
    case FrameKind::Ping:
      return "Ping";
    case FrameKind::Pong:
      return "Pong";
    case FrameKind::Goodbye:
      return "Goodbye";
    case FrameKind::ResizePrepare:
      return "ResizePrepare";
    case FrameKind::ResizePrepared:
      return "ResizePrepared";
    case FrameKind::ResizeCommit:
      return "ResizeCommit";
    case FrameKind::ResizeCommitted:
      return "ResizeCommitted";
    case FrameKind::Lived:
      return "Lived";
    case FrameKind::InvalidateWanted:
      return "InvalidateWanted";
    case FrameKind::InvalidateRequest:
      return "InvalidateRequest";
    case FrameKind::InvalidateAnswer:
      return "InvalidateAnswer";
    case FrameKind::StreamRules:
      return "StreamRules";
    case FrameKind::RangeDigests:
      return "RangeDigests";
    case FrameKind::RangeCompared:
      return "RangeCompared";
    case FrameKind::VerifyRequest:
      return "VerifyRequest";
    case FrameKind::VerifyProgress:
      return "VerifyProgress";
    case FrameKind::VerifyEnded:
      return "VerifyEnded";
    case FrameKind::ServeRequest:
      return "ServeRequest";
    case FrameKind::ServeConfirmed:
      return "ServeConfirmed";
    case FrameKind::ReadRequest:
      return "ReadRequest";
    case FrameKind::ReadReply:
      return "ReadReply";
    case FrameKind::PauseWrites:
      return "PauseWrites";
    case FrameKind::WritesPaused:
      return "WritesPaused";
    case FrameKind::ResyncPaused:
      return "ResyncPaused";
    case FrameKind::StableThrough:
      return "StableThrough";
    case FrameKind::PeersInSync:
      return "PeersInSync";
    case FrameKind::AuditWanted:
      return "AuditWanted";
    case FrameKind::AuditLine:
      return "AuditLine";
  }
  return "unknown";
}

}  // namespace lockstep::repl
