// The NBD protocol's bytes: numbers, and encoding and decoding of every structure, field by field, big-endian.
// Source: doc/proto.md of github.com/NetworkBlockDevice/nbd (2025). Pure: nothing here allocates, except where a
// std::vector is appended to.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace lockstep::nbd {

inline constexpr uint64_t kGreetingMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;    // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kChunkMagic = 0x668e33ef;
inline constexpr uint32_t kExtendedChunkMagic = 0x6e8a278c;

inline constexpr size_t kGreetingBytes = 18;
inline constexpr size_t kClientFlagsBytes = 4;
inline constexpr size_t kOptionHeaderBytes = 16;
inline constexpr size_t kOptionReplyHeaderBytes = 20;
inline constexpr size_t kRequestBytes = 28;
inline constexpr size_t kExtendedRequestBytes = 32;
inline constexpr size_t kSimpleReplyBytes = 16;
inline constexpr size_t kChunkHeaderBytes = 20;
inline constexpr size_t kExtendedChunkHeaderBytes = 32;
inline constexpr size_t kExportNamePaddingBytes = 124;
// Names, messages and contexts: UTF-8 without NUL, at most this long.
inline constexpr size_t kMaximumStringBytes = 4096;

namespace handshake_flag {
inline constexpr uint16_t kFixedNewstyle = 1U << 0;
inline constexpr uint16_t kNoZeroes = 1U << 1;
}  // namespace handshake_flag

namespace transmission_flag {
inline constexpr uint16_t kHasFlags = 1U << 0;
inline constexpr uint16_t kReadOnly = 1U << 1;
inline constexpr uint16_t kSendFlush = 1U << 2;
inline constexpr uint16_t kSendFua = 1U << 3;
inline constexpr uint16_t kRotational = 1U << 4;
inline constexpr uint16_t kSendTrim = 1U << 5;
inline constexpr uint16_t kSendWriteZeroes = 1U << 6;
inline constexpr uint16_t kSendDf = 1U << 7;
inline constexpr uint16_t kCanMultiConn = 1U << 8;
inline constexpr uint16_t kSendCache = 1U << 10;
inline constexpr uint16_t kSendFastZero = 1U << 11;
inline constexpr uint16_t kBlockStatusPayload = 1U << 12;
}  // namespace transmission_flag

namespace command_flag {
inline constexpr uint16_t kFua = 1U << 0;
inline constexpr uint16_t kNoHole = 1U << 1;
inline constexpr uint16_t kDf = 1U << 2;
inline constexpr uint16_t kReqOne = 1U << 3;
inline constexpr uint16_t kFastZero = 1U << 4;
inline constexpr uint16_t kPayloadLength = 1U << 5;
}  // namespace command_flag

// Values outside an enumeration do arrive: these enums name the known ones, nothing more.
enum class Option : uint32_t {
  ExportName = 1,
  Abort = 2,
  List = 3,
  PeekExport = 4,
  StartTls = 5,
  Info = 6,
  Go = 7,
  StructuredReply = 8,
  ListMetaContext = 9,
  SetMetaContext = 10,
  ExtendedHeaders = 11,
};

enum class OptionReplyType : uint32_t {
  Ack = 1,
  Server = 2,
  Info = 3,
  MetaContext = 4,
  ErrUnsup = 0x80000001,
  ErrPolicy = 0x80000002,
  ErrInvalid = 0x80000003,
  ErrPlatform = 0x80000004,
  ErrTlsReqd = 0x80000005,
  ErrUnknown = 0x80000006,
  ErrShutdown = 0x80000007,
  ErrBlockSizeReqd = 0x80000008,
  ErrTooBig = 0x80000009,
  ErrExtHeaderReqd = 0x8000000a,
};

enum class InfoType : uint16_t { Export = 0, Name = 1, Description = 2, BlockSize = 3 };

enum class Command : uint16_t {
  Read = 0,
  Write = 1,
  Disconnect = 2,
  Flush = 3,
  Trim = 4,
  Cache = 5,
  WriteZeroes = 6,
  BlockStatus = 7,
};

enum class ChunkType : uint16_t {
  None = 0,
  OffsetData = 1,
  OffsetHole = 2,
  BlockStatus = 5,
  BlockStatusExt = 6,
  Error = 0x8001,
  ErrorOffset = 0x8002,
};
inline constexpr uint16_t kChunkDone = 1U << 0;

// The only error numbers that may go on the wire.
enum class WireError : uint32_t {
  None = 0,
  Eperm = 1,
  Eio = 5,
  Enomem = 12,
  Einval = 22,
  Enospc = 28,
  Eoverflow = 75,
  Enotsup = 95,
  Eshutdown = 108,
};
// The wire's error for a positive errno of this host; what the wire has no word for becomes Eio.
WireError wire_error(int system_errno);

struct Greeting {
  uint16_t flags = 0;  // handshake_flag
  friend bool operator==(const Greeting&, const Greeting&) = default;
};

struct OptionHeader {
  uint32_t option = 0;  // an Option, or unknown
  uint32_t length_bytes = 0;
  friend bool operator==(const OptionHeader&, const OptionHeader&) = default;
};

struct OptionReplyHeader {
  uint32_t option = 0;
  OptionReplyType type = OptionReplyType::Ack;
  uint32_t length_bytes = 0;
  friend bool operator==(const OptionReplyHeader&, const OptionReplyHeader&) = default;
};

struct Request {
  uint16_t flags = 0;    // command_flag
  uint16_t command = 0;  // a Command, or unknown
  uint64_t cookie = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;  // at most 32 bits of it in the compact form
  friend bool operator==(const Request&, const Request&) = default;
};

struct SimpleReply {
  WireError error = WireError::None;
  uint64_t cookie = 0;
  friend bool operator==(const SimpleReply&, const SimpleReply&) = default;
};

struct ChunkHeader {
  uint16_t flags = 0;
  ChunkType type = ChunkType::None;
  uint64_t cookie = 0;
  uint64_t offset_bytes = 0;  // travels in the extended form only: the request's offset
  uint64_t length_bytes = 0;  // of the payload; at most 32 bits of it in the compact form
  friend bool operator==(const ChunkHeader&, const ChunkHeader&) = default;
};

// What INFO and GO ask for. `name` points into the decoded bytes. Unknown information types are ignored.
struct InfoRequest {
  std::string_view name;
  bool name_wanted = false;
  bool description_wanted = false;
  bool block_size_wanted = false;
  friend bool operator==(const InfoRequest&, const InfoRequest&) = default;
};

void encode(const Greeting& greeting, std::span<uint8_t, kGreetingBytes> to);
void encode(const OptionHeader& header, std::span<uint8_t, kOptionHeaderBytes> to);
void encode(const OptionReplyHeader& header, std::span<uint8_t, kOptionReplyHeaderBytes> to);
void encode(const SimpleReply& reply, std::span<uint8_t, kSimpleReplyBytes> to);
// The compact forms need lengths below 2^32.
void encode_compact(const Request& request, std::span<uint8_t, kRequestBytes> to);
void encode_compact(const ChunkHeader& header, std::span<uint8_t, kChunkHeaderBytes> to);
void encode_extended(const Request& request, std::span<uint8_t, kExtendedRequestBytes> to);
void encode_extended(const ChunkHeader& header, std::span<uint8_t, kExtendedChunkHeaderBytes> to);

// Empty when the magic number is wrong or bytes are missing. Only the structure's bytes are looked at.
std::optional<Greeting> decode_greeting(std::span<const uint8_t> from);
std::optional<OptionHeader> decode_option_header(std::span<const uint8_t> from);
std::optional<OptionReplyHeader> decode_option_reply_header(std::span<const uint8_t> from);
std::optional<Request> decode_compact_request(std::span<const uint8_t> from);
std::optional<Request> decode_extended_request(std::span<const uint8_t> from);
std::optional<SimpleReply> decode_simple_reply(std::span<const uint8_t> from);
std::optional<ChunkHeader> decode_compact_chunk(std::span<const uint8_t> from);
std::optional<ChunkHeader> decode_extended_chunk(std::span<const uint8_t> from);
// `from` is the whole of the option's data: bytes that are missing or left over make it empty.
std::optional<InfoRequest> decode_info_request(std::span<const uint8_t> from);

// True for UTF-8 without NUL, at most kMaximumStringBytes long.
bool valid_string(std::string_view text);

// One whole option reply, appended to `to`. `text` of an error is for people; it is cut to kMaximumStringBytes.
void append_option_reply(std::vector<uint8_t>& to, uint32_t option, OptionReplyType type,
                         std::span<const uint8_t> payload = {});
void append_option_error(std::vector<uint8_t>& to, uint32_t option, OptionReplyType type, std::string_view text);
void append_server_reply(std::vector<uint8_t>& to, uint32_t option, std::string_view name,
                         std::string_view description);
void append_info_export(std::vector<uint8_t>& to, uint32_t option, uint64_t size_bytes, uint16_t transmission_flags);
void append_info_text(std::vector<uint8_t>& to, uint32_t option, InfoType type, std::string_view text);
void append_info_block_size(std::vector<uint8_t>& to, uint32_t option, uint32_t minimum_bytes, uint32_t preferred_bytes,
                            uint32_t maximum_payload_bytes);
// The answer to EXPORT_NAME, with 124 zero bytes unless both sides agreed to leave them away.
void append_export_name_answer(std::vector<uint8_t>& to, uint64_t size_bytes, uint16_t transmission_flags, bool zeroes);

// How requests are answered, as negotiated.
enum class ReplyForm : uint8_t { Simple, Structured, Extended };

// Everything of one reply that precedes its data (only READ has data).
struct ReplyHead {
  std::array<uint8_t, 160> bytes;
  size_t size_bytes = 0;
  std::span<const uint8_t> span() const { return {bytes.data(), size_bytes}; }
};

// The reply to `request` that carries no data: success, or `error` with a text of at most 100 bytes (cut) for people.
// A READ that succeeds goes through encode_read_head, except one of no bytes.
void encode_reply(ReplyForm form, const Request& request, WireError error, std::string_view text, ReplyHead& head);
// Success of a READ whose data, all of it and at least one byte, follows the head on the wire.
void encode_read_head(ReplyForm form, const Request& request, ReplyHead& head);

}  // namespace lockstep::nbd
