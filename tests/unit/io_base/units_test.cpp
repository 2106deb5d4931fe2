#include "io/base/units.h"

#include <catch2/catch.hpp>
#include <string>

namespace lockstep {

TEST_CASE("sizes as people write them") {
  CHECK(*parse_size("0") == 0);
  CHECK(*parse_size("4096") == 4096);
  CHECK(*parse_size("64K") == 64 * kKiB);
  CHECK(*parse_size("64k") == 64 * kKiB);
  CHECK(*parse_size("3m") == 3 * kMiB);
  CHECK(*parse_size("20G") == 20 * kGiB);
  CHECK(*parse_size("2T") == 2048 * kGiB);
  CHECK(*parse_size("18446744073709551615") == UINT64_MAX);
  CHECK(*parse_size("16777215T") == uint64_t{16777215} << 40);
}

TEST_CASE("what is no size is Invalid, and the message holds it") {
  for (const char* text : {"", " ", "K", "-1", "+1", "1.5G", "4 K", " 4", "4K ", "4KB", "4P", "0x10",
                           "18446744073709551616", "16777216T", "18014398509481984K"}) {
    INFO(text);
    const Result<uint64_t> size = parse_size(text);
    REQUIRE_FALSE(size.ok());
    CHECK(size.error().kind == ErrorKind::Invalid);
    CHECK(size.error().message.find("'" + std::string(text) + "'") != std::string::npos);
  }
}

TEST_CASE("sizes for people") {
  CHECK(format_size(0) == "0B");
  CHECK(format_size(1023) == "1023B");
  CHECK(format_size(1024) == "1.0K");
  CHECK(format_size(1536 * kMiB) == "1.5G");
  CHECK(format_size(20 * kGiB) == "20.0G");
  CHECK(format_size(UINT64_MAX) == "16384.0P");
}

TEST_CASE("ranges are half open") {
  const ByteRange range{4096, 8192};
  CHECK(range.end_bytes() == 12288);
  CHECK_FALSE(range.overlaps({0, 4096}));
  CHECK(range.overlaps({0, 4097}));
  CHECK(range.overlaps({12287, 1}));
  CHECK_FALSE(range.overlaps({12288, 4096}));
  CHECK(range.contains({4096, 8192}));
  CHECK(range.contains({8192, 1}));
  CHECK_FALSE(range.contains({4095, 2}));
  CHECK_FALSE(range.contains({12287, 2}));
  CHECK(ByteRange{5, 0}.empty());
}

TEST_CASE("fits() does not wrap") {
  CHECK(ByteRange::fits(0, 100, 100));
  CHECK(ByteRange::fits(100, 0, 100));
  CHECK_FALSE(ByteRange::fits(101, 0, 100));
  CHECK_FALSE(ByteRange::fits(1, 100, 100));
  CHECK_FALSE(ByteRange::fits(UINT64_MAX, 2, 100));
  CHECK_FALSE(ByteRange::fits(2, UINT64_MAX, UINT64_MAX));
  CHECK(ByteRange::fits(1, UINT64_MAX - 1, UINT64_MAX));
}

TEST_CASE("rounding") {
  CHECK(round_down(4097, 4096) == 4096);
  CHECK(round_up(4097, 4096) == 8192);
  CHECK(round_up(4096, 4096) == 4096);
  CHECK(round_up(0, 4096) == 0);
  CHECK(divide_up(0, 4096) == 0);
  CHECK(divide_up(4097, 4096) == 2);
  CHECK(divide_up(UINT64_MAX, 4096) == (uint64_t{1} << 52));
}

}  // namespace lockstep
