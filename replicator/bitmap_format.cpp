// The pages of a dirty bitmap: see docs/on-disk-format.md.
#include "io/base/bytes.h"
#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "replicator/metadata_format.h"

namespace lockstep::repl {
namespace {

constexpr uint64_t kPageMagic = 0x50414D4250455453;  // "STEPBMAP"
constexpr size_t kPageChecksumOffset = 8;
constexpr size_t kPageHeaderBytes = 128;
static_assert(kPageHeaderBytes + kWordsPerBitmapPage * 8 == kMetadataUnitBytes);

uint32_t page_checksum(std::span<const uint8_t> unit) {
  return crc32c(unit.subspan(kPageChecksumOffset + 4));
}

}  // namespace

void encode_bitmap_page(const BitmapPageName& name, std::span<const uint64_t, kWordsPerBitmapPage> words,
                        MetadataUnit unit) {
  LittleWriter writer(unit);
  writer.u64(kPageMagic);
  writer.u32(0);
  writer.u32(name.page);
  writer.u64(name.resource_id.high);
  writer.u64(name.resource_id.low);
  writer.u32(name.peer);
  writer.zeroes(kPageHeaderBytes - writer.position_bytes());
  for (const uint64_t word : words) writer.u64(word);
  LOCKSTEP_CHECK(writer.ok() && writer.left_bytes() == 0);
  LittleWriter(unit.subspan(kPageChecksumOffset, 4)).u32(page_checksum(unit));
}

bool decode_bitmap_page(const BitmapPageName& name, ConstMetadataUnit unit,
                        std::span<uint64_t, kWordsPerBitmapPage> words) {
  LittleReader reader(unit);
  if (reader.u64() != kPageMagic || reader.u32() != page_checksum(unit) || reader.u32() != name.page) return false;
  const Generation resource_id{reader.u64(), reader.u64()};
  if (resource_id != name.resource_id || reader.u32() != name.peer) return false;
  reader.skip(kPageHeaderBytes - reader.position_bytes());
  for (uint64_t& word : words) word = reader.u64();
  return true;
}

}  // namespace lockstep::repl
