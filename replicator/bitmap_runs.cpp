#include "replicator/bitmap_runs.h"

#include <algorithm>
#include <array>

namespace lockstep::repl {
namespace {

constexpr uint8_t kLengths = 1;
constexpr uint8_t kBits = 2;

size_t number_bytes(uint64_t value) {
  size_t bytes = 1;
  while ((value >>= 7) != 0) ++bytes;
  return bytes;
}

void write_number(uint64_t value, LittleWriter& writer) {
  for (; value > 0x7F; value >>= 7) writer.u8(static_cast<uint8_t>(value | 0x80));
  writer.u8(static_cast<uint8_t>(value));
}

// The shortest form only, so that each value has one.
std::optional<uint64_t> read_number(LittleReader& reader) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 56; shift += 7) {
    const uint8_t digit = reader.u8();
    value |= uint64_t{digit & 0x7FU} << shift;
    if ((digit & 0x80) != 0) continue;
    if (!reader.ok() || (digit == 0 && shift > 0)) return {};
    return value;
  }
  return {};
}

size_t bytes_of_lengths(std::span<const BitmapRun> runs) {
  size_t bytes = 0;
  uint64_t from = 0;
  for (const BitmapRun& run : runs) {
    bytes += number_bytes(run.first_block - from) + number_bytes(run.block_count);
    from = run.first_block + run.block_count;
  }
  return bytes;
}

void write_bits(std::span<const BitmapRun> runs, uint64_t bit_count, LittleWriter& writer) {
  const uint64_t base = runs.front().first_block;
  uint8_t byte = 0;
  uint64_t bit = 0;
  const auto put = [&](bool dirty) {
    byte = static_cast<uint8_t>(byte | (dirty ? 1U << (bit % 8) : 0));
    if (++bit % 8 == 0 || bit == bit_count) {
      writer.u8(byte);
      byte = 0;
    }
  };
  for (const BitmapRun& run : runs) {
    while (base + bit < run.first_block) put(false);
    while (base + bit < run.first_block + run.block_count) put(true);
  }
}

std::optional<size_t> read_bits(LittleReader& reader, uint64_t first, uint64_t bit_count, std::span<BitmapRun> into) {
  const auto bytes = reader.bytes((bit_count + 7) / 8);
  if (bytes.empty()) return {};
  const auto is_dirty = [&bytes](uint64_t bit) { return (bytes[bit / 8] >> (bit % 8) & 1) != 0; };
  if (!is_dirty(0) || !is_dirty(bit_count - 1)) return {};
  if (bit_count % 8 != 0 && bytes.back() >> (bit_count % 8) != 0) return {};
  size_t count = 0;
  for (uint64_t bit = 0; bit < bit_count; ++bit) {
    if (!is_dirty(bit)) continue;
    if (bit > 0 && is_dirty(bit - 1)) {
      ++into[count - 1].block_count;
    } else {
      if (count == into.size()) return {};
      into[count++] = {first + bit, 1};
    }
  }
  return count;
}

std::optional<size_t> read_lengths(LittleReader& reader, uint64_t device_blocks, std::span<BitmapRun> into) {
  const size_t count = reader.u16();
  if (count > into.size()) return {};
  uint64_t from = 0;
  for (size_t i = 0; i < count; ++i) {
    const std::optional<uint64_t> gap = read_number(reader);
    const std::optional<uint64_t> length = read_number(reader);
    if (!gap || !length || *length == 0 || (*gap == 0 && i > 0)) return {};
    if (!ByteRange::fits(*gap, *length, device_blocks - from)) return {};
    into[i] = {from + *gap, *length};
    from += *gap + *length;
  }
  return count;
}

}  // namespace

void write_bitmap_runs(std::span<const BitmapRun> runs, LittleWriter& writer) {
  const size_t length_bytes = bytes_of_lengths(runs);
  if (!runs.empty()) {
    const uint64_t first = runs.front().first_block;
    const uint64_t bit_count = runs.back().first_block + runs.back().block_count - first;
    // Far more blocks than that are never shorter as bits.
    if (bit_count != 0 && bit_count < length_bytes * 8 &&
        number_bytes(first) + number_bytes(bit_count) + (bit_count + 7) / 8 < 2 + length_bytes) {
      writer.u8(kBits);
      write_number(first, writer);
      write_number(bit_count, writer);
      write_bits(runs, bit_count, writer);
      return;
    }
  }
  writer.u8(kLengths);
  writer.u16(static_cast<uint16_t>(runs.size()));
  uint64_t from = 0;
  for (const BitmapRun& run : runs) {
    write_number(run.first_block - from, writer);
    write_number(run.block_count, writer);
    from = run.first_block + run.block_count;
  }
}

std::optional<std::span<const BitmapRun>> read_bitmap_runs(LittleReader& reader, uint64_t device_blocks,
                                                           std::span<BitmapRun> into) {
  std::optional<size_t> count;
  const uint8_t form = reader.u8();
  if (form == kLengths) {
    count = read_lengths(reader, device_blocks, into);
  } else if (form == kBits) {
    const std::optional<uint64_t> first = read_number(reader);
    const std::optional<uint64_t> bit_count = read_number(reader);
    if (!first || !bit_count || *bit_count == 0 || !ByteRange::fits(*first, *bit_count, device_blocks)) return {};
    if (*bit_count > reader.left_bytes() * 8) return {};
    count = read_bits(reader, *first, *bit_count, into);
  }
  if (!count || !reader.ok()) return {};
  // Of the two forms only the one that is written.
  std::array<uint8_t, 1> written{};
  LittleWriter writer(written);
  write_bitmap_runs(into.first(*count), writer);
  if (written[0] != form) return {};
  return into.first(*count);
}

}  // namespace lockstep::repl
