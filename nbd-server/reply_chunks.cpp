#include "nbd-server/reply_chunks.h"

#include <algorithm>
#include <cstring>

#include "io/base/bytes.h"
#include "io/base/check.h"

namespace lockstep::nbd {
namespace {

constexpr size_t kHoleUnitBytes = 4096;

bool only_zeroes(std::span<const uint8_t> bytes) {
  return bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

// Where the unit that holds `position` ends, by the export's offsets.
size_t unit_end(size_t position, uint64_t offset_bytes, size_t length_bytes) {
  const size_t into_unit = static_cast<size_t>((offset_bytes + position) % kHoleUnitBytes);
  return std::min(length_bytes, position + (kHoleUnitBytes - into_unit));
}

size_t chunk_header(ReplyForm form, const Request& request, ChunkType type, uint64_t payload_bytes, bool last,
                    std::span<uint8_t> to) {
  LOCKSTEP_CHECK(form != ReplyForm::Simple);
  const ChunkHeader header{last ? kChunkDone : uint16_t{0}, type, request.cookie, request.offset_bytes, payload_bytes};
  if (form == ReplyForm::Extended) {
    encode_extended(header, to.first<kExtendedChunkHeaderBytes>());
    return kExtendedChunkHeaderBytes;
  }
  encode_compact(header, to.first<kChunkHeaderBytes>());
  return kChunkHeaderBytes;
}

}  // namespace

ReadChunks split_read(std::span<const uint8_t> data, uint64_t offset_bytes, bool one_chunk) {
  LOCKSTEP_CHECK(!data.empty());
  ReadChunks split;
  const auto all = [&](bool hole) {
    split.chunks[0] = {0, data.size(), hole};
    split.count = 1;
    return split;
  };
  if (one_chunk) return all(only_zeroes(data));

  size_t position = 0;
  size_t data_begin = 0;  // of what is not in a chunk yet
  // A hole takes two places: its own, and that of the data before it; one is kept for the data behind it.
  while (position < data.size() && split.count + 3 <= kMaximumReadChunks) {
    size_t end = position;
    while (end < data.size()) {
      const size_t next = unit_end(end, offset_bytes, data.size());
      if (!only_zeroes(data.subspan(end, next - end))) break;
      end = next;
    }
    if (position == 0 && end == data.size()) return all(true);
    if (end - position >= kSmallestHoleBytes) {
      if (position > data_begin) split.chunks[split.count++] = {data_begin, position - data_begin, false};
      split.chunks[split.count++] = {position, end - position, true};
      data_begin = end;
    }
    position = end == data.size() ? end : unit_end(end, offset_bytes, data.size());
  }
  if (data_begin < data.size()) split.chunks[split.count++] = {data_begin, data.size() - data_begin, false};
  return split;
}

void encode_read_chunk(ReplyForm form, const Request& request, const ReadChunk& chunk, bool last, ReplyHead& head) {
  const uint64_t payload_bytes = chunk.hole ? 12 : 8 + uint64_t{chunk.length_bytes};
  const size_t start = chunk_header(form, request, chunk.hole ? ChunkType::OffsetHole : ChunkType::OffsetData,
                                    payload_bytes, last, head.bytes);
  BigWriter writer(std::span(head.bytes).subspan(start));
  writer.u64(request.offset_bytes + chunk.offset_bytes);
  if (chunk.hole) writer.u32(static_cast<uint32_t>(chunk.length_bytes));
  LOCKSTEP_CHECK(writer.ok());
  head.size_bytes = start + writer.position_bytes();
}

size_t encode_status_chunk(ReplyForm form, const Request& request, uint32_t context_id,
                           std::span<const StatusExtent> extents, bool last, std::span<uint8_t> to) {
  LOCKSTEP_CHECK(!extents.empty() && extents.size() <= kMaximumStatusExtents);
  const bool extended = form == ReplyForm::Extended;
  const size_t payload_bytes = extended ? 8 + 16 * extents.size() : 4 + 8 * extents.size();
  const size_t start = chunk_header(form, request, extended ? ChunkType::BlockStatusExt : ChunkType::BlockStatus,
                                    payload_bytes, last, to);
  BigWriter writer(to.subspan(start));
  writer.u32(context_id);
  if (extended) writer.u32(static_cast<uint32_t>(extents.size()));
  for (const StatusExtent& extent : extents) {
    LOCKSTEP_CHECK(extent.length_bytes > 0);
    if (extended) {
      writer.u64(extent.length_bytes);
      writer.u64(extent.flags);
    } else {
      LOCKSTEP_CHECK(extent.length_bytes <= UINT32_MAX);
      writer.u32(static_cast<uint32_t>(extent.length_bytes));
      writer.u32(extent.flags);
    }
  }
  LOCKSTEP_CHECK(writer.ok());
  return start + writer.position_bytes();
}

std::optional<StatusFilter> decode_status_filter(std::span<const uint8_t> payload, MetaContextSet agreed) {
  BigReader reader(payload);
  StatusFilter filter;
  filter.length_bytes = reader.u64();
  if (!reader.ok() || reader.left_bytes() % 4 != 0) return std::nullopt;
  while (reader.left_bytes() > 0) {
    const std::optional<MetaContext> context = context_of_id(reader.u32());
    if (!context || !agreed.has(*context) || filter.contexts.has(*context)) return std::nullopt;
    filter.contexts.add(*context);
  }
  if (filter.contexts.empty()) return std::nullopt;
  return filter;
}

}  // namespace lockstep::nbd
