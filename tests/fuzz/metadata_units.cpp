// Superblocks and bitmap pages, as a node finds them on its disk. What is accepted must be a state that encodes and
// decodes to itself, laid out without overlaps. The first byte chooses which of the two, and whether checksums are made
// right first: a disk that was written by something else may hold anything.
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <variant>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "replicator/metadata_format.h"

namespace lockstep::repl {
namespace {

constexpr uint8_t kSealed = 0x80;
constexpr uint8_t kPage = 0x40;
constexpr size_t kSuperblockChecksumOffset = 12;
constexpr size_t kPageChecksumOffset = 8;

using Unit = std::array<uint8_t, kMetadataUnitBytes>;

void seal_superblock(Unit& unit) {
  const auto field = std::span(unit).subspan(kSuperblockChecksumOffset, 4);
  std::fill(field.begin(), field.end(), uint8_t{0});
  LittleWriter(field).u32(crc32c(unit));
}

bool is_same(const Superblock& a, const Superblock& b) {
  return a.sequence == b.sequence && a.layout == b.layout && a.resource_name == b.resource_name &&
         a.node_name == b.node_name && a.peer_names == b.peer_names && a.image == b.image &&
         a.identity.size_bytes == b.identity.size_bytes && a.identity.peer_count == b.identity.peer_count;
}

void read_superblock(const Unit& unit) {
  const SuperblockDecoding decoding = decode_superblock(unit);
  if (!decoding.superblock) return;
  const Superblock& found = *decoding.superblock;
  const MetadataLayout& layout = found.layout;
  LOCKSTEP_CHECK(layout.activity_log_offset_bytes >= kSuperblockCopies * kMetadataUnitBytes);
  LOCKSTEP_CHECK(layout.bitmap_offset_bytes >=
                 layout.record_offset_bytes(kActivityLogRecords - 1) + kMetadataUnitBytes);
  LOCKSTEP_CHECK(metadata_size_bytes(layout, found.identity.peer_count) >= layout.bitmap_offset_bytes);
  Unit again;
  encode_superblock(found, again);
  const SuperblockDecoding second = decode_superblock(again);
  LOCKSTEP_CHECK(second.superblock && is_same(found, *second.superblock));
}

void read_page(const Unit& unit) {
  static std::array<uint64_t, kWordsPerBitmapPage> words;
  LittleReader reader{std::span(unit).subspan(12)};
  BitmapPageName name;
  name.page = reader.u32();
  name.resource_id = Generation{reader.u64(), reader.u64()};
  name.peer = static_cast<PeerIndex>(reader.u32());
  if (!decode_bitmap_page(name, unit, words)) return;
  Unit again;
  encode_bitmap_page(name, words, again);
  const auto bits = std::span(unit).last(kWordsPerBitmapPage * 8);
  LOCKSTEP_CHECK(std::ranges::equal(bits, std::span(again).last(bits.size())));
}

void run(std::span<const uint8_t> input) {
  if (input.empty()) return;
  static Unit unit;
  unit.fill(0);
  const auto content = input.subspan(1).first(std::min(input.size() - 1, unit.size()));
  std::copy(content.begin(), content.end(), unit.begin());
  const bool sealed = (input[0] & kSealed) != 0;
  if ((input[0] & kPage) != 0) {
    if (sealed) {
      const uint32_t checksum = crc32c(std::span(unit).subspan(kPageChecksumOffset + 4));
      LittleWriter(std::span(unit).subspan(kPageChecksumOffset, 4)).u32(checksum);
    }
    return read_page(unit);
  }
  if (sealed) seal_superblock(unit);
  read_superblock(unit);
  // Beside one of the same, and beside one whose writing was cut short in the middle.
  static Unit torn;
  torn = unit;
  std::fill(torn.begin() + kMetadataUnitBytes / 4, torn.end(), uint8_t{0});
  const bool valid = decode_superblock(unit).superblock.has_value();
  LOCKSTEP_CHECK(std::holds_alternative<SuperblockChoice>(choose_superblock(unit, unit)) == valid);
  (void)choose_superblock(torn, unit);
}

}  // namespace
}  // namespace lockstep::repl

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::repl::run({data, size});
  return 0;
}
