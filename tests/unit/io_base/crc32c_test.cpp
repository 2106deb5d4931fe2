#include "io/base/crc32c.h"

#include <catch2/catch.hpp>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

namespace lockstep {
namespace {

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("known checksums") {
  // The check value of the catalogue of parametrised CRC algorithms, and RFC 3720 appendix B.4.
  std::vector<uint8_t> ascending(32);
  std::iota(ascending.begin(), ascending.end(), uint8_t{0});
  const std::vector<uint8_t> descending(ascending.rbegin(), ascending.rend());
  for (const auto checksum : {&crc32c, &crc32c_portable}) {
    CHECK(checksum(bytes_of("123456789"), 0) == 0xE3069283);
    CHECK(checksum({}, 0) == 0);
    CHECK(checksum(std::vector<uint8_t>(32, 0x00), 0) == 0x8A9136AA);
    CHECK(checksum(std::vector<uint8_t>(32, 0xFF), 0) == 0x62A8AB43);
    CHECK(checksum(ascending, 0) == 0x46DD794E);
    CHECK(checksum(descending, 0) == 0x113FDB5C);
  }
}

TEST_CASE("the instruction and the table agree, at every length, alignment and seed") {
  std::mt19937 random(5);
  std::vector<uint8_t> bytes(64 * 1024 + 16);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  bool all_same = true;
  for (int i = 0; i < 4000; ++i) {
    const size_t begin = random() % 16;
    const size_t longest = i < 3000 ? 4097 : bytes.size() - 16;
    const size_t length = i < 100 ? static_cast<size_t>(i) : i < 200 ? 4096 - (i - 100) : random() % longest;
    const auto seed = static_cast<uint32_t>(random());
    const auto piece = std::span<const uint8_t>(bytes).subspan(begin, length);
    all_same = all_same && crc32c(piece, seed) == crc32c_portable(piece, seed);
  }
  CHECK(all_same);
}

TEST_CASE("pieces chained by the seed give the checksum of the whole") {
  std::mt19937 random(6);
  std::vector<uint8_t> bytes(1000);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  const std::span<const uint8_t> whole(bytes);
  for (size_t cut = 0; cut <= bytes.size(); cut += 37) {
    CHECK(crc32c(whole.subspan(cut), crc32c(whole.first(cut))) == crc32c(whole));
  }
}

}  // namespace lockstep
