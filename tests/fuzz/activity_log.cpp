// The activity log's ring: a good one of 256 records, in which the input changes bytes, sectors and records. Whatever
// recovery makes of it, extents are inside the device, and a log that is called intact names every slot. The input is a
// list of changes: {kind, record, sector, offset, bytes...}; the third bit of the kind makes the sector's checksum
// right again.
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "replicator/metadata_format.h"

namespace lockstep::repl {
namespace {

constexpr uint32_t kSlots = 61;
constexpr uint64_t kExtents = 1000;
constexpr uint64_t kFirstNumber = 900;
constexpr size_t kRingBytes = kActivityLogRecords * kMetadataUnitBytes;
constexpr size_t kChecksumOffset = kSectorBytes - 4;

std::vector<uint8_t> good_ring() {
  std::vector<uint8_t> ring(kRingBytes);
  std::vector<uint32_t> slots(kSlots, kNoExtent);
  for (uint64_t number = kFirstNumber; number < kFirstNumber + kActivityLogRecords; ++number) {
    const auto slot = static_cast<uint32_t>(number % kSlots);
    slots[slot] = static_cast<uint32_t>(number % kExtents);
    const std::array<ActivityLogUpdate, 1> updates{{{slot, slots[slot]}}};
    const size_t place = number % kActivityLogRecords;
    encode_activity_log_record({number, 0}, updates, slots,
                               std::span(ring).subspan(place * kMetadataUnitBytes).first<kMetadataUnitBytes>());
  }
  return ring;
}

void run(std::span<const uint8_t> input) {
  static const std::vector<uint8_t> good = good_ring();
  static std::vector<uint8_t> ring = good;
  static std::vector<size_t> changed;
  LittleReader reader(input);
  while (reader.left_bytes() >= 4) {
    const uint8_t kind = reader.u8();
    const size_t record = reader.u8();
    const uint8_t where = reader.u8();
    const size_t count = reader.u8() % 32;
    const size_t offset = record * kMetadataUnitBytes + (where % kRecordSectors) * kSectorBytes;
    const auto sector = std::span(ring).subspan(offset, kSectorBytes);
    changed.push_back(record);
    if ((kind & 1) != 0) {  // a sector of another record, as a log that wraps leaves it
      const size_t other = (record + count) % kActivityLogRecords * kMetadataUnitBytes + offset % kMetadataUnitBytes;
      std::copy_n(good.begin() + static_cast<ptrdiff_t>(other), kSectorBytes, sector.begin());
    } else {
      // At the head, or at the tail, where a sector says what it is.
      const size_t at = (kind & 2) != 0 ? kSectorBytes - 20 : (where / kRecordSectors) * 16;
      for (size_t i = 0; i < count && reader.left_bytes() > 0 && at + i < kSectorBytes; ++i)
        sector[at + i] = reader.u8();
    }
    if ((kind & 4) != 0) {
      LittleWriter(sector.subspan(kChecksumOffset)).u32(crc32c(sector.first(kChecksumOffset)));
    }
  }
  const ActivityLogRecovery recovery = recover_activity_log(ring, kSlots, kExtents);
  LOCKSTEP_CHECK(recovery.slots.size() == kSlots && recovery.next.number != 0);
  for (const uint32_t extent : recovery.slots) {
    LOCKSTEP_CHECK(extent == kNoExtent || (recovery.valid && extent < kExtents));
  }
  for (const size_t record : changed) {
    const auto offset = static_cast<ptrdiff_t>(record * kMetadataUnitBytes);
    std::copy_n(good.begin() + offset, kMetadataUnitBytes, ring.begin() + offset);
  }
  changed.clear();
}

}  // namespace
}  // namespace lockstep::repl

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::repl::run({data, size});
  return 0;
}
