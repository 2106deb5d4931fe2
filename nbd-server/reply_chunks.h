// Replies that are more than one head and one piece of data: READ in chunks with holes, and BLOCK_STATUS. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "nbd-server/meta_context.h"
#include "nbd-server/wire.h"

namespace lockstep::nbd {

// ---- READ ----

// One chunk of what was read: data, or zeroes that need not travel. Offsets count from the request's own.
struct ReadChunk {
  size_t offset_bytes = 0;
  size_t length_bytes = 0;
  bool hole = false;
  friend bool operator==(const ReadChunk&, const ReadChunk&) = default;
};

inline constexpr size_t kMaximumReadChunks = 8;
struct ReadChunks {
  std::array<ReadChunk, kMaximumReadChunks> chunks;
  size_t count = 0;
};

// Zeroes shorter than this travel as data, except where they are all that was read.
inline constexpr size_t kSmallestHoleBytes = size_t{16} * 1024;

// How `data`, which was read at `offset_bytes`, is best sent. Together the chunks are all of it, in order; a border
// between two lies at a multiple of 4096 of the export. One chunk where `one_chunk` (DF) says so.
ReadChunks split_read(std::span<const uint8_t> data, uint64_t offset_bytes, bool one_chunk);

// The head of one chunk of a READ; its data, unless it is a hole, follows on the wire. `last` ends the reply.
// Structured and extended forms only.
void encode_read_chunk(ReplyForm form, const Request& request, const ReadChunk& chunk, bool last, ReplyHead& head);

// ---- BLOCK_STATUS ----

struct StatusExtent {
  uint64_t length_bytes = 0;
  uint32_t flags = 0;
};

// The most extents of one context in one reply: a client asks on where a reply stops short.
inline constexpr size_t kMaximumStatusExtents = 1000;
// Room for one context's chunk.
inline constexpr size_t kStatusChunkBytes = kExtendedChunkHeaderBytes + 8 + 16 * kMaximumStatusExtents;

// One context's chunk, whole. `extents` is not empty, none is, and their lengths fit the form. Returns its bytes in
// `to`, which has room for kStatusChunkBytes.
size_t encode_status_chunk(ReplyForm form, const Request& request, uint32_t context_id,
                           std::span<const StatusExtent> extents, bool last, std::span<uint8_t> to);

// The payload that BLOCK_STATUS may have with extended headers: which of the contexts that were agreed are wanted.
struct StatusFilter {
  uint64_t length_bytes = 0;
  MetaContextSet contexts;
};
inline constexpr size_t kMaximumStatusFilterBytes = 8 + 4 * kMetaContexts;
// Empty when it is malformed, or names a context that was not agreed, or one twice, or none.
std::optional<StatusFilter> decode_status_filter(std::span<const uint8_t> payload, MetaContextSet agreed);

}  // namespace lockstep::nbd
