#include "io/base/bytes.h"

#include <array>
#include <catch2/catch.hpp>
#include <random>
#include <string_view>
#include <vector>

namespace lockstep {
namespace {

constexpr size_t kRecordBytes = 1 + 2 + 4 + 8 + 3 + 4 + 2;

template <ByteOrder Order>
void write_record(ByteWriter<Order>& writer) {
  writer.u8(0x01);
  writer.u16(0x0203);
  writer.u32(0x04050607);
  writer.u64(0x08090A0B0C0D0E0F);
  writer.text("abc");
  writer.bytes(std::array<uint8_t, 4>{1, 2, 3, 4});
  writer.zeroes(2);
}

// True when every field was as written.
template <ByteOrder Order>
bool read_record(ByteReader<Order>& reader) {
  bool same = reader.u8() == 0x01;
  same = (reader.u16() == 0x0203) && same;
  same = (reader.u32() == 0x04050607) && same;
  same = (reader.u64() == 0x08090A0B0C0D0E0F) && same;
  same = (reader.text(3) == "abc") && same;
  const std::span<const uint8_t> raw = reader.bytes(4);
  same = raw.size() == 4 && raw[0] == 1 && raw[3] == 4 && same;
  reader.skip(2);
  return same;
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("what was written is read back", "", ((ByteOrder Order), Order), ByteOrder::Little,
                       ByteOrder::Big) {
  std::array<uint8_t, kRecordBytes> memory{};
  ByteWriter<Order> writer(memory);
  write_record(writer);
  CHECK(writer.ok());
  CHECK(writer.left_bytes() == 0);
  CHECK(writer.written().size() == kRecordBytes);
  ByteReader<Order> reader(memory);
  CHECK(read_record(reader));
  CHECK(reader.ok());
  CHECK(reader.left_bytes() == 0);
  CHECK(reader.position_bytes() == kRecordBytes);
}

TEST_CASE("the orders are what their names say") {
  std::array<uint8_t, 4> memory{};
  LittleWriter little(memory);
  little.u32(0x01020304);
  CHECK(memory == std::array<uint8_t, 4>{4, 3, 2, 1});
  BigWriter big(memory);
  big.u32(0x01020304);
  CHECK(memory == std::array<uint8_t, 4>{1, 2, 3, 4});
}

TEMPLATE_TEST_CASE_SIG("truncation at every byte fails, and stays failed", "", ((ByteOrder Order), Order),
                       ByteOrder::Little, ByteOrder::Big) {
  std::vector<uint8_t> whole(kRecordBytes);
  ByteWriter<Order> writer{std::span<uint8_t>(whole)};
  write_record(writer);
  for (size_t length = 0; length < kRecordBytes; ++length) {
    INFO(length);
    const std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    ByteReader<Order> reader{std::span<const uint8_t>(cut)};
    read_record(reader);
    CHECK_FALSE(reader.ok());
    CHECK(reader.u64() == 0);
    CHECK(reader.bytes(0).empty());
    CHECK_FALSE(reader.ok());

    std::vector<uint8_t> little_room(length);
    ByteWriter<Order> short_writer{std::span<uint8_t>(little_room)};
    write_record(short_writer);
    CHECK_FALSE(short_writer.ok());
    CHECK(short_writer.written().size() <= length);
  }
}

TEST_CASE("lengths that would wrap fail") {
  const volatile size_t longest = SIZE_MAX;  // volatile: or the compiler warns of what is tested here
  std::array<uint8_t, 8> memory{};
  LittleReader reader(memory);
  reader.u8();
  CHECK(reader.bytes(longest).empty());
  CHECK_FALSE(reader.ok());
  LittleWriter writer(memory);
  writer.u8(1);
  writer.zeroes(longest);
  CHECK_FALSE(writer.ok());
  CHECK(writer.position_bytes() == 1);
}

TEST_CASE("random integers go round") {
  std::mt19937_64 random(99);
  std::array<uint8_t, 15> memory{};
  bool all_same = true;
  for (int i = 0; i < 2000; ++i) {
    const uint64_t value = random();
    BigWriter writer(memory);
    writer.u64(value);
    writer.u32(static_cast<uint32_t>(value));
    writer.u16(static_cast<uint16_t>(value));
    writer.u8(static_cast<uint8_t>(value));
    BigReader reader(memory);
    all_same = all_same && reader.u64() == value && reader.u32() == static_cast<uint32_t>(value) &&
               reader.u16() == static_cast<uint16_t>(value) && reader.u8() == static_cast<uint8_t>(value);
  }
  CHECK(all_same);
}

}  // namespace lockstep
