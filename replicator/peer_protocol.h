// The bytes of the replication link, version 1: docs/protocol.md is its description. Pure.
//
// Frames: a fixed header, a body whose form its kind decides, and for Write and ReadReply a payload. Little-endian.
// Every byte is covered by a CRC32C; every length is bounded before anything is done with it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "io/base/result.h"
#include "replicator/core/message.h"
#include "replicator/core/types.h"

namespace lockstep::repl {

inline constexpr uint32_t kFrameMagic = 0x464C534C;  // "LSLF"
inline constexpr uint8_t kProtocolVersion = 1;       // the only one that we speak
inline constexpr size_t kFrameHeaderBytes = 44;
inline constexpr size_t kMaximumBodyBytes = 8 + kRunsPerMessage * 16;                // of BitmapRuns, the longest
inline constexpr size_t kMaximumFrameBytes = kFrameHeaderBytes + kMaximumBodyBytes;  // without its payload
inline constexpr uint32_t kMaximumPayloadBytes = 32 * 1024 * 1024;
inline constexpr uint64_t kSmallestRangeUnitBytes = 512;  // ranges are multiples of it
inline constexpr size_t kMaximumRefusalTextBytes = 255;

// The numbers on the wire: never reused.
enum class FrameKind : uint8_t {
  Hello = 1,
  Refusal = 2,
  StateReport = 16,
  StateChanged = 17,
  GenerationChanged = 18,
  Write = 19,
  WriteZeroes = 20,
  Barrier = 21,
  Acknowledged = 22,
  ResyncStart = 23,
  BitmapRuns = 24,
  BitmapWanted = 25,
  ResyncProgress = 37,
  ResyncDone = 26,
  GenerationStored = 27,
  PromoteRequest = 28,
  PromoteAnswer = 29,
  TakeOver = 30,
  TakeOverAnswer = 31,
  SwitchoverRequest = 32,
  SwitchoverAnswer = 33,
  Ping = 34,
  Pong = 35,
  Goodbye = 36,
  InvalidateRequest = 70,
  InvalidateAnswer = 71,
  InvalidateWanted = 72,
  Lived = 73,
  ResizePrepare = 74,
  ResizePrepared = 75,
  ResizeCommit = 76,
  ResizeCommitted = 77,
  StreamRules = 40,
  RangeDigests = 50,
  RangeCompared = 51,
  VerifyRequest = 52,
  VerifyProgress = 53,
  VerifyEnded = 54,
  ServeRequest = 60,
  ServeConfirmed = 61,
  ReadRequest = 62,
  ReadReply = 63,
  PauseWrites = 64,
  WritesPaused = 65,
  ResyncPaused = 56,
  StableThrough = 80,
  PeersInSync = 81,
  AuditWanted = 90,
  AuditLine = 91,
};

struct FrameHeader {
  FrameKind kind = FrameKind::Hello;
  uint64_t link_incarnation = 0;  // 0 in Hello and Refusal
  uint64_t number = 0;            // of the frame, by one more for each frame of a direction; Hello is 0
  uint32_t body_bytes = 0;
  uint32_t payload_bytes = 0;
  uint32_t payload_checksum = 0;
  uint32_t checksum = 0;  // over the header, with this field as zero, and the body
};

// Looks at the first kFrameHeaderBytes. Corrupt (of any kind: bad magic, lengths out of bounds), or Unsupported when
// the version is another; the checksum is looked at by check_frame, once the body is there too.
Result<FrameHeader> decode_frame_header(std::span<const uint8_t, kFrameHeaderBytes> bytes);
// `frame`: header and body. Corrupt unless the checksum is right.
Status check_frame(const FrameHeader& header, std::span<const uint8_t> frame);

// ---- the handshake's frames ----

struct Hello {
  uint16_t version_minimum = kProtocolVersion;
  uint16_t version_maximum = kProtocolVersion;
  uint64_t incarnation_half = 0;  // random, by the sender
  Generation resource_id;
  uint64_t size_bytes = 0;
  uint64_t prepared_size_bytes = 0;  // the sender can grow to it at once; 0: to none
  std::string resource_name;
  std::string node_name;  // the sender's
  std::string peer_name;  // whom the sender means to talk to
  friend bool operator==(const Hello&, const Hello&) = default;
};
inline constexpr size_t kHelloBodyBytes = 44 + 3 * 65;

// Why a Hello is not answered by a link.
enum class RefusalReason : uint8_t {
  Version = 1,
  OtherResource = 2,
  OtherSize = 3,
  UnknownNode = 4,
  NotWanted = 5,  // the operator disconnected this peer, or the node stops
};
struct Refusal {
  RefusalReason reason = RefusalReason::NotWanted;
  std::string text;  // one line for the other side's operator, at most kMaximumRefusalTextBytes
  friend bool operator==(const Refusal&, const Refusal&) = default;
};

// What both sides put into the header of each frame after Hello.
uint64_t link_incarnation(uint64_t dialer_half, uint64_t listener_half);

// Whole frames, appended at the front of `to`; the number of bytes.
size_t encode_hello(const Hello& hello, std::span<uint8_t> to);
size_t encode_refusal(const Refusal& refusal, std::span<uint8_t> to);
Result<Hello> decode_hello(std::span<const uint8_t> body);
Result<Refusal> decode_refusal(std::span<const uint8_t> body);

// ---- messages ----

struct PayloadDescription {
  uint32_t length_bytes = 0;
  uint32_t checksum = 0;  // CRC32C
};
// Header and body of a frame, into `to` (kMaximumFrameBytes are always enough); the number of bytes. The payload of a
// Write or a ReadReply follows it on the wire.
size_t encode_message(const Message& message, uint64_t link_incarnation, uint64_t number,
                      const PayloadDescription& payload, std::span<uint8_t> to);

// How long the payload is that follows the message.
uint32_t payload_bytes_of(const Message& message);

// Where what a message points to lives; valid until the next decoding.
struct BodyStorage {
  std::array<BitmapRun, kRunsPerMessage> runs;
  std::array<BlockDigest, kBlocksPerComparison> digests;
};

// The message of a checked frame. Corrupt, naming what is wrong, when the body does not have the kind's form, a range
// is not inside a device of `device_bytes`, or a payload's length is not its range's.
Result<Message> decode_message(const FrameHeader& header, std::span<const uint8_t> body, uint64_t device_bytes,
                               BodyStorage& storage);

std::string_view to_string(FrameKind kind);

}  // namespace lockstep::repl
