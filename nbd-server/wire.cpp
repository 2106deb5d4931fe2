#include "nbd-server/wire.h"

#include <algorithm>
#include <cerrno>

#include "io/base/bytes.h"
#include "io/base/check.h"

namespace lockstep::nbd {
namespace {

constexpr size_t kMaximumErrorTextBytes = 100;
static_assert(sizeof(ReplyHead::bytes) >= kExtendedChunkHeaderBytes + 6 + kMaximumErrorTextBytes);

// Each fixed structure fills its span exactly: the writer's end is where the protocol says that it is.
void check_filled(const BigWriter& writer) {
  LOCKSTEP_CHECK(writer.ok() && writer.left_bytes() == 0);
}

void request_fields(BigWriter& writer, const Request& request) {
  writer.u16(request.flags);
  writer.u16(request.command);
  writer.u64(request.cookie);
  writer.u64(request.offset_bytes);
}

Request request_fields(BigReader& reader) {
  Request request;
  request.flags = reader.u16();
  request.command = reader.u16();
  request.cookie = reader.u64();
  request.offset_bytes = reader.u64();
  return request;
}

// Room for `more` bytes at the end of `to`.
BigWriter append(std::vector<uint8_t>& to, size_t more) {
  const size_t start = to.size();
  to.resize(start + more);
  return BigWriter(std::span(to).subspan(start));
}

void option_reply_header(BigWriter& writer, uint32_t option, OptionReplyType type, size_t payload_bytes) {
  writer.u64(kOptionReplyMagic);
  writer.u32(option);
  writer.u32(static_cast<uint32_t>(type));
  writer.u32(static_cast<uint32_t>(payload_bytes));
}

}  // namespace

WireError wire_error(int system_errno) {
  switch (system_errno) {
    case 0:
      return WireError::None;
    case EPERM:
    case EROFS:
    case EACCES:
      return WireError::Eperm;
    case ENOMEM:
      return WireError::Enomem;
    case EINVAL:
      return WireError::Einval;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return WireError::Enospc;
    case EOVERFLOW:
      return WireError::Eoverflow;
    case ESHUTDOWN:
      return WireError::Eshutdown;
    default:
      // ENOTSUP, too: it may answer nothing but a fast zero request.
      return WireError::Eio;
  }
}

void encode(const Greeting& greeting, std::span<uint8_t, kGreetingBytes> to) {
  BigWriter writer(to);
  writer.u64(kGreetingMagic);
  writer.u64(kOptionMagic);
  writer.u16(greeting.flags);
  check_filled(writer);
}

std::optional<Greeting> decode_greeting(std::span<const uint8_t> from) {
  BigReader reader(from);
  const bool magic = reader.u64() == kGreetingMagic && reader.u64() == kOptionMagic;
  Greeting greeting;
  greeting.flags = reader.u16();
  if (!magic || !reader.ok()) return std::nullopt;
  return greeting;
}

void encode(const OptionHeader& header, std::span<uint8_t, kOptionHeaderBytes> to) {
  BigWriter writer(to);
  writer.u64(kOptionMagic);
  writer.u32(header.option);
  writer.u32(header.length_bytes);
  check_filled(writer);
}

std::optional<OptionHeader> decode_option_header(std::span<const uint8_t> from) {
  BigReader reader(from);
  const bool magic = reader.u64() == kOptionMagic;
  OptionHeader header;
  header.option = reader.u32();
  header.length_bytes = reader.u32();
  if (!magic || !reader.ok()) return std::nullopt;
  return header;
}

void encode(const OptionReplyHeader& header, std::span<uint8_t, kOptionReplyHeaderBytes> to) {
  BigWriter writer(to);
  option_reply_header(writer, header.option, header.type, header.length_bytes);
  check_filled(writer);
}

std::optional<OptionReplyHeader> decode_option_reply_header(std::span<const uint8_t> from) {
  BigReader reader(from);
  const bool magic = reader.u64() == kOptionReplyMagic;
  OptionReplyHeader header;
  header.option = reader.u32();
  header.type = static_cast<OptionReplyType>(reader.u32());
  header.length_bytes = reader.u32();
  if (!magic || !reader.ok()) return std::nullopt;
  return header;
}

void encode(const SimpleReply& reply, std::span<uint8_t, kSimpleReplyBytes> to) {
  BigWriter writer(to);
  writer.u32(kSimpleReplyMagic);
  writer.u32(static_cast<uint32_t>(reply.error));
  writer.u64(reply.cookie);
  check_filled(writer);
}

std::optional<SimpleReply> decode_simple_reply(std::span<const uint8_t> from) {
  BigReader reader(from);
  const bool magic = reader.u32() == kSimpleReplyMagic;
  SimpleReply reply;
  reply.error = static_cast<WireError>(reader.u32());
  reply.cookie = reader.u64();
  if (!magic || !reader.ok()) return std::nullopt;
  return reply;
}

void encode_compact(const Request& request, std::span<uint8_t, kRequestBytes> to) {
  LOCKSTEP_CHECK(request.length_bytes <= UINT32_MAX);
  BigWriter writer(to);
  writer.u32(kRequestMagic);
  request_fields(writer, request);
  writer.u32(static_cast<uint32_t>(request.length_bytes));
  check_filled(writer);
}

std::optional<Request> decode_compact_request(std::span<const uint8_t> from) {
  BigReader reader(from);
  const bool magic = reader.u32() == kRequestMagic;
  Request request = request_fields(reader);
  request.length_bytes = reader.u32();
  if (!magic || !reader.ok()) return std::nullopt;
  return request;
}

void encode_extended(const Request& request, std::span<uint8_t, kExtendedRequestBytes> to) {
  BigWriter writer(to);
  writer.u32(kExtendedRequestMagic);
  request_fields(writer, request);
  writer.u64(request.length_bytes);
  check_filled(writer);
}

std::optional<Request> decode_extended_request(std::span<const uint8_t> from) {
  BigReader reader(from);
  const bool magic = reader.u32() == kExtendedRequestMagic;
  Request request = request_fields(reader);
  request.length_bytes = reader.u64();
  if (!magic || !reader.ok()) return std::nullopt;
  return request;
}

void encode_compact(const ChunkHeader& header, std::span<uint8_t, kChunkHeaderBytes> to) {
  LOCKSTEP_CHECK(header.length_bytes <= UINT32_MAX);
  BigWriter writer(to);
  writer.u32(kChunkMagic);
  writer.u16(header.flags);
  writer.u16(static_cast<uint16_t>(header.type));
  writer.u64(header.cookie);
  writer.u32(static_cast<uint32_t>(header.length_bytes));
  check_filled(writer);
}

std::optional<ChunkHeader> decode_compact_chunk(std::span<const uint8_t> from) {
  BigReader reader(from);
  const bool magic = reader.u32() == kChunkMagic;
  ChunkHeader header;
  header.flags = reader.u16();
  header.type = static_cast<ChunkType>(reader.u16());
  header.cookie = reader.u64();
  header.length_bytes = reader.u32();
  if (!magic || !reader.ok()) return std::nullopt;
  return header;
}

void encode_extended(const ChunkHeader& header, std::span<uint8_t, kExtendedChunkHeaderBytes> to) {
  BigWriter writer(to);
  writer.u32(kExtendedChunkMagic);
  writer.u16(header.flags);
  writer.u16(static_cast<uint16_t>(header.type));
  writer.u64(header.cookie);
  writer.u64(header.offset_bytes);
  writer.u64(header.length_bytes);
  check_filled(writer);
}

std::optional<ChunkHeader> decode_extended_chunk(std::span<const uint8_t> from) {
  BigReader reader(from);
  const bool magic = reader.u32() == kExtendedChunkMagic;
  ChunkHeader header;
  header.flags = reader.u16();
  header.type = static_cast<ChunkType>(reader.u16());
  header.cookie = reader.u64();
  header.offset_bytes = reader.u64();
  header.length_bytes = reader.u64();
  if (!magic || !reader.ok()) return std::nullopt;
  return header;
}

std::optional<InfoRequest> decode_info_request(std::span<const uint8_t> from) {
  BigReader reader(from);
  InfoRequest request;
  request.name = reader.text(reader.u32());
  const uint16_t wanted = reader.u16();
  if (!reader.ok() || reader.left_bytes() != size_t{2} * wanted || !valid_string(request.name)) return std::nullopt;
  for (uint16_t i = 0; i < wanted; ++i) {
    switch (static_cast<InfoType>(reader.u16())) {
      case InfoType::Name:
        request.name_wanted = true;
        break;
      case InfoType::Description:
        request.description_wanted = true;
        break;
      case InfoType::BlockSize:
        request.block_size_wanted = true;
        break;
      case InfoType::Export:  // is always given
      default:
        break;
    }
  }
  return request;
}

bool valid_string(std::string_view text) {
  if (text.size() > kMaximumStringBytes) return false;
  size_t i = 0;
  while (i < text.size()) {
    const auto first = static_cast<uint8_t>(text[i]);
    if (first == 0) return false;
    size_t more = 0;
    uint32_t point = first;
    uint32_t least = 0;  // an encoding longer than necessary is no UTF-8
    if (first >= 0xf0 && first <= 0xf4) {
      more = 3, point = first & 0x07U, least = 0x10000;
    } else if (first >= 0xe0 && first < 0xf0) {
      more = 2, point = first & 0x0fU, least = 0x800;
    } else if (first >= 0xc2 && first < 0xe0) {
      more = 1, point = first & 0x1fU, least = 0x80;
    } else if (first >= 0x80) {
      return false;
    }
    if (text.size() - i <= more) return false;
    for (size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<uint8_t>(text[i + k]);
      if ((next & 0xc0U) != 0x80) return false;
      point = (point << 6) | (next & 0x3fU);
    }
    if (point < least || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return false;
    i += more + 1;
  }
  return true;
}

void append_option_reply(std::vector<uint8_t>& to, uint32_t option, OptionReplyType type,
                         std::span<const uint8_t> payload) {
  BigWriter writer = append(to, kOptionReplyHeaderBytes + payload.size());
  option_reply_header(writer, option, type, payload.size());
  writer.bytes(payload);
  check_filled(writer);
}

void append_option_error(std::vector<uint8_t>& to, uint32_t option, OptionReplyType type, std::string_view text) {
  const std::string_view cut = text.substr(0, kMaximumStringBytes);
  append_option_reply(to, option, type, {reinterpret_cast<const uint8_t*>(cut.data()), cut.size()});
}

void append_server_reply(std::vector<uint8_t>& to, uint32_t option, std::string_view name,
                         std::string_view description) {
  const size_t payload_bytes = 4 + name.size() + description.size();
  BigWriter writer = append(to, kOptionReplyHeaderBytes + payload_bytes);
  option_reply_header(writer, option, OptionReplyType::Server, payload_bytes);
  writer.u32(static_cast<uint32_t>(name.size()));
  writer.text(name);
  writer.text(description);
  check_filled(writer);
}

void append_info_export(std::vector<uint8_t>& to, uint32_t option, uint64_t size_bytes, uint16_t transmission_flags) {
  BigWriter writer = append(to, kOptionReplyHeaderBytes + 12);
  option_reply_header(writer, option, OptionReplyType::Info, 12);
  writer.u16(static_cast<uint16_t>(InfoType::Export));
  writer.u64(size_bytes);
  writer.u16(transmission_flags);
  check_filled(writer);
}

void append_info_text(std::vector<uint8_t>& to, uint32_t option, InfoType type, std::string_view text) {
  BigWriter writer = append(to, kOptionReplyHeaderBytes + 2 + text.size());
  option_reply_header(writer, option, OptionReplyType::Info, 2 + text.size());
  writer.u16(static_cast<uint16_t>(type));
  writer.text(text);
  check_filled(writer);
}

void append_info_block_size(std::vector<uint8_t>& to, uint32_t option, uint32_t minimum_bytes, uint32_t preferred_bytes,
                            uint32_t maximum_payload_bytes) {
  BigWriter writer = append(to, kOptionReplyHeaderBytes + 14);
  option_reply_header(writer, option, OptionReplyType::Info, 14);
  writer.u16(static_cast<uint16_t>(InfoType::BlockSize));
  writer.u32(minimum_bytes);
  writer.u32(preferred_bytes);
  writer.u32(maximum_payload_bytes);
  check_filled(writer);
}

void append_export_name_answer(std::vector<uint8_t>& to, uint64_t size_bytes, uint16_t transmission_flags,
                               bool zeroes) {
  const size_t padding_bytes = zeroes ? kExportNamePaddingBytes : 0;
  BigWriter writer = append(to, 10 + padding_bytes);
  writer.u64(size_bytes);
  writer.u16(transmission_flags);
  writer.zeroes(padding_bytes);
  check_filled(writer);
}

namespace {

// Writes a chunk's header for `payload_bytes` and returns where its payload begins.
size_t chunk_header(ReplyForm form, const Request& request, ChunkType type, uint64_t payload_bytes, ReplyHead& head) {
  ChunkHeader header;
  header.flags = kChunkDone;
  header.type = type;
  header.cookie = request.cookie;
  header.offset_bytes = request.offset_bytes;
  header.length_bytes = payload_bytes;
  if (form == ReplyForm::Extended) {
    encode_extended(header, std::span(head.bytes).first<kExtendedChunkHeaderBytes>());
    return kExtendedChunkHeaderBytes;
  }
  encode_compact(header, std::span(head.bytes).first<kChunkHeaderBytes>());
  return kChunkHeaderBytes;
}

}  // namespace

void encode_reply(ReplyForm form, const Request& request, WireError error, std::string_view text, ReplyHead& head) {
  if (form == ReplyForm::Simple) {
    encode(SimpleReply{error, request.cookie}, std::span(head.bytes).first<kSimpleReplyBytes>());
    head.size_bytes = kSimpleReplyBytes;
    return;
  }
  if (error == WireError::None) {
    head.size_bytes = chunk_header(form, request, ChunkType::None, 0, head);
    return;
  }
  const std::string_view cut = text.substr(0, kMaximumErrorTextBytes);
  const size_t start = chunk_header(form, request, ChunkType::Error, 6 + cut.size(), head);
  BigWriter writer(std::span(head.bytes).subspan(start));
  writer.u32(static_cast<uint32_t>(error));
  writer.u16(static_cast<uint16_t>(cut.size()));
  writer.text(cut);
  LOCKSTEP_CHECK(writer.ok());
  head.size_bytes = start + writer.position_bytes();
}

void encode_read_head(ReplyForm form, const Request& request, ReplyHead& head) {
  LOCKSTEP_CHECK(request.length_bytes > 0);
  if (form == ReplyForm::Simple) {
    encode(SimpleReply{WireError::None, request.cookie}, std::span(head.bytes).first<kSimpleReplyBytes>());
    head.size_bytes = kSimpleReplyBytes;
    return;
  }
  const size_t start = chunk_header(form, request, ChunkType::OffsetData, 8 + request.length_bytes, head);
  BigWriter writer(std::span(head.bytes).subspan(start));
  writer.u64(request.offset_bytes);
  LOCKSTEP_CHECK(writer.ok());
  head.size_bytes = start + writer.position_bytes();
}

}  // namespace lockstep::nbd
