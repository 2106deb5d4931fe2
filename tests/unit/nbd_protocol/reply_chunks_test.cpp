#include "nbd-server/reply_chunks.h"

#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "io/base/bytes.h"

namespace lockstep::nbd {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kUnit = 4096;

std::vector<ReadChunk> chunks_of(const Bytes& data, uint64_t offset_bytes = 0, bool one_chunk = false) {
  const ReadChunks split = split_read(data, offset_bytes, one_chunk);
  return {split.chunks.begin(), split.chunks.begin() + static_cast<ptrdiff_t>(split.count)};
}

Bytes data_with_zeroes(size_t length, size_t begin, size_t end) {
  Bytes data(length, 7);
  std::fill(data.begin() + static_cast<ptrdiff_t>(begin), data.begin() + static_cast<ptrdiff_t>(end), uint8_t{0});
  return data;
}

}  // namespace

TEST_CASE("a READ of nothing but zeroes is one hole, however short") {
  for (const size_t length : {size_t{1}, size_t{512}, kUnit, 5 * kUnit + 1, size_t{1} << 20}) {
    CHECK(chunks_of(Bytes(length)) == std::vector<ReadChunk>{{0, length, true}});
    CHECK(chunks_of(Bytes(length), 1000, true) == std::vector<ReadChunk>{{0, length, true}});
  }
}

TEST_CASE("data without long zeroes is one chunk") {
  CHECK(chunks_of(Bytes(512, 1)) == std::vector<ReadChunk>{{0, 512, false}});
  CHECK(chunks_of(data_with_zeroes(10 * kUnit, kUnit, 4 * kUnit)) == std::vector<ReadChunk>{{0, 10 * kUnit, false}});
  CHECK(chunks_of(data_with_zeroes(10 * kUnit, kUnit, 9 * kUnit), 0, true) ==
        std::vector<ReadChunk>{{0, 10 * kUnit, false}});
}

TEST_CASE("long zeroes become holes between data") {
  CHECK(chunks_of(data_with_zeroes(10 * kUnit, kUnit, 6 * kUnit)) ==
        std::vector<ReadChunk>{{0, kUnit, false}, {kUnit, 5 * kUnit, true}, {6 * kUnit, 4 * kUnit, false}});
  CHECK(chunks_of(data_with_zeroes(8 * kUnit, 0, 4 * kUnit)) ==
        std::vector<ReadChunk>{{0, 4 * kUnit, true}, {4 * kUnit, 4 * kUnit, false}});
  CHECK(chunks_of(data_with_zeroes(8 * kUnit, 3 * kUnit, 8 * kUnit)) ==
        std::vector<ReadChunk>{{0, 3 * kUnit, false}, {3 * kUnit, 5 * kUnit, true}});
}

TEST_CASE("the chunks of a READ are all of it, in order, whatever was read") {
  std::mt19937_64 random(6);
  for (int round = 0; round < 3000; ++round) {
    Bytes data(1 + random() % (200 * kUnit / 4));
    for (size_t at = 0; at < data.size();) {
      const size_t length = std::min<size_t>(data.size() - at, 1 + random() % (8 * kUnit));
      if (random() % 2 == 0) data[at + random() % length] = 1;
      at += length;
    }
    const uint64_t offset_bytes = random() % 100000;
    const auto chunks = chunks_of(data, offset_bytes);
    REQUIRE_FALSE(chunks.empty());
    size_t position = 0;
    for (const ReadChunk& chunk : chunks) {
      REQUIRE(chunk.offset_bytes == position);
      REQUIRE(chunk.length_bytes > 0);
      if (position > 0) REQUIRE((offset_bytes + position) % kUnit == 0);
      position += chunk.length_bytes;
      REQUIRE(position <= data.size());
      if (!chunk.hole) continue;
      const auto begin = data.begin() + static_cast<ptrdiff_t>(chunk.offset_bytes);
      REQUIRE(std::all_of(begin, begin + static_cast<ptrdiff_t>(chunk.length_bytes), [](uint8_t b) { return b == 0; }));
    }
    REQUIRE(position == data.size());
  }
}

TEST_CASE("heads of chunks") {
  const Request request{0, 0, 42, 8192, 16384};
  ReplyHead head;
  encode_read_chunk(ReplyForm::Structured, request, {4096, 4096, true}, false, head);
  auto header = decode_compact_chunk(head.span());
  REQUIRE(header.has_value());
  CHECK(*header == ChunkHeader{0, ChunkType::OffsetHole, 42, 0, 12});
  BigReader hole(head.span().subspan(kChunkHeaderBytes));
  CHECK(hole.u64() == 12288);
  CHECK(hole.u32() == 4096);
  CHECK((hole.ok() && hole.left_bytes() == 0));

  encode_read_chunk(ReplyForm::Extended, request, {8192, 8192, false}, true, head);
  header = decode_extended_chunk(head.span());
  REQUIRE(header.has_value());
  CHECK(*header == ChunkHeader{kChunkDone, ChunkType::OffsetData, 42, 8192, 8 + 8192});
}

TEST_CASE("a chunk of BLOCK_STATUS in both forms") {
  const Request request{0, 7, 42, 4096, 1 << 20};
  const std::vector<StatusExtent> extents{{4096, 0}, {1 << 16, 3}};
  Bytes bytes(kStatusChunkBytes);
  const size_t compact = encode_status_chunk(ReplyForm::Structured, request, 2, extents, true, bytes);
  CHECK(compact == kChunkHeaderBytes + 4 + 16);
  CHECK(*decode_compact_chunk(bytes) == ChunkHeader{kChunkDone, ChunkType::BlockStatus, 42, 0, 20});
  BigReader reader(std::span<const uint8_t>(bytes).subspan(kChunkHeaderBytes));
  CHECK(reader.u32() == 2);
  CHECK(reader.u32() == 4096);
  CHECK(reader.u32() == 0);
  CHECK(reader.u32() == 1 << 16);
  CHECK(reader.u32() == 3);

  const std::vector<StatusExtent> large{{uint64_t{1} << 40, 1}};
  const size_t extended = encode_status_chunk(ReplyForm::Extended, request, 1, large, false, bytes);
  CHECK(extended == kExtendedChunkHeaderBytes + 8 + 16);
  CHECK(*decode_extended_chunk(bytes) == ChunkHeader{0, ChunkType::BlockStatusExt, 42, 4096, 24});
  BigReader wide(std::span<const uint8_t>(bytes).subspan(kExtendedChunkHeaderBytes));
  CHECK(wide.u32() == 1);
  CHECK(wide.u32() == 1);
  CHECK(wide.u64() == uint64_t{1} << 40);
  CHECK(wide.u64() == 1);

  const std::vector<StatusExtent> many(kMaximumStatusExtents, {512, 1});
  CHECK(encode_status_chunk(ReplyForm::Extended, request, 1, many, true, bytes) == kStatusChunkBytes);
}

TEST_CASE("the payload of BLOCK_STATUS") {
  constexpr MetaContextSet kAgreed{MetaContext::Allocation, MetaContext::Dirty};
  const auto decode = [&](const Bytes& bytes) { return decode_status_filter(bytes, kAgreed); };
  const Bytes one{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2};
  REQUIRE(decode(one).has_value());
  CHECK(decode(one)->length_bytes == uint64_t{1} << 32);
  CHECK(decode(one)->contexts == MetaContextSet{MetaContext::Dirty});
  CHECK(decode({0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 2})->contexts == kAgreed);
  CHECK_FALSE(decode({0, 0, 0, 0, 0, 0, 2, 0}).has_value());                          // none
  CHECK_FALSE(decode({0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3}).has_value());              // unknown
  CHECK_FALSE(decode({0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 1}).has_value());  // twice
  CHECK_FALSE(decode({0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1}).has_value());                 // torn
  CHECK_FALSE(decode({0, 0, 0}).has_value());
  CHECK_FALSE(decode_status_filter(one, {MetaContext::Allocation}).has_value());  // not agreed
}

}  // namespace lockstep::nbd
