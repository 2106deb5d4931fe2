// The activity log's records and what recovery makes of the ring: see docs/on-disk-format.md.
#include <algorithm>
#include <array>
#include <utility>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "replicator/metadata_format.h"

namespace lockstep::repl {
namespace {

// Of each sector: 496 bytes of content, then {transaction number, place in the record, kind, attempt,
// checksum}.
constexpr size_t kSectorContentBytes = kSectorBytes - 16;
constexpr size_t kSectorChecksumOffset = kSectorBytes - 4;
constexpr uint32_t kRecordMagic = 0x4C41534C;  // "LSAL"
static_assert(kContextEntriesPerSector * 4 == kSectorContentBytes);
// First sector: magic, slot count, update count, zero, context start, context count, then the updates.
constexpr size_t kRecordHeadBytes = 24;
static_assert(kRecordHeadBytes + kActivityLogUpdatesPerTransaction * 6 <= kSectorContentBytes);

enum class RecordKind : uint8_t { Updates = 1, Empty = 2 };

struct ContextSlice {
  uint32_t first = 0;
  uint32_t count = 0;
};
// The slices of records in a row cover every slot again and again.
ContextSlice context_slice(uint64_t number, uint32_t slot_count) {
  const uint64_t slices = divide_up(slot_count, kContextEntries);
  const auto first = static_cast<uint32_t>((number % slices) * kContextEntries);
  return {first, std::min(static_cast<uint32_t>(kContextEntries), slot_count - first)};
}
// 76 slices at most: fewer than the 255 records that recovery can rely on.
static_assert((kMaximumActivityLogSlots + kContextEntries - 1) / kContextEntries < kActivityLogRecords - 1);

void encode_record(const ActivityLogPosition& position, RecordKind kind, std::span<const ActivityLogUpdate> updates,
                   uint32_t slot_count, std::span<const uint32_t> context, ContextSlice slice, MetadataUnit unit) {
  LOCKSTEP_CHECK(updates.size() <= kActivityLogUpdatesPerTransaction && position.number != 0);
  for (size_t sector = 0; sector < kRecordSectors; ++sector) {
    const auto bytes = unit.subspan(sector * kSectorBytes, kSectorBytes);
    LittleWriter writer(bytes);
    if (sector == 0) {
      writer.u32(kRecordMagic);
      writer.u32(slot_count);
      writer.u16(static_cast<uint16_t>(updates.size()));
      writer.zeroes(6);
      writer.u32(slice.first);
      writer.u32(slice.count);
      for (const ActivityLogUpdate& update : updates) {
        writer.u16(static_cast<uint16_t>(update.slot));
        writer.u32(update.extent);
      }
    } else {
      const size_t from = std::min((sector - 1) * kContextEntriesPerSector, context.size());
      const size_t count = std::min(kContextEntriesPerSector, context.size() - from);
      for (const uint32_t extent : context.subspan(from, count)) writer.u32(extent);
    }
    writer.zeroes(kSectorContentBytes - writer.position_bytes());
    writer.u64(position.number);
    writer.u8(static_cast<uint8_t>(sector));
    writer.u8(static_cast<uint8_t>(kind));
    writer.u16(position.attempt);
    writer.u32(crc32c(bytes.first(kSectorChecksumOffset)));
    LOCKSTEP_CHECK(writer.ok() && writer.left_bytes() == 0);
  }
}

// What writing an intact sector belongs to; number 0 for a damaged one.
ActivityLogPosition sector_position(std::span<const uint8_t> sector, size_t place) {
  LittleReader reader(sector.subspan(kSectorContentBytes));
  const uint64_t number = reader.u64();
  const uint8_t stored_place = reader.u8();
  reader.skip(1);
  const uint16_t attempt = reader.u16();
  if (reader.u32() != crc32c(sector.first(kSectorChecksumOffset)) || stored_place != place) return {0, 0};
  if (number > kLastTransaction) return {0, 0};
  return {number, attempt};
}

struct RecordState {
  uint64_t newest = 0;  // transaction of its sectors
  uint64_t oldest = 0;
  uint16_t last_attempt = 0;  // among the sectors of the newest
  bool damaged = false;
  bool mixed = false;  // sectors of several writings
  bool whole() const { return !damaged && !mixed; }
};

RecordState examine(std::span<const uint8_t> record, size_t ring_place) {
  RecordState state;
  ActivityLogPosition first;
  for (size_t place = 0; place < kRecordSectors; ++place) {
    const ActivityLogPosition found = sector_position(record.subspan(place * kSectorBytes, kSectorBytes), place);
    if (place == 0) first = found;
    if (found.number == 0 || found.number % kActivityLogRecords != ring_place) {
      state.damaged = true;
      continue;
    }
    state.mixed = state.mixed || found != first;
    if (found.number > state.newest) {
      state.newest = found.number;
      state.last_attempt = found.attempt;
    } else if (found.number == state.newest) {
      state.last_attempt = std::max(state.last_attempt, found.attempt);
    }
    state.oldest = state.oldest == 0 ? found.number : std::min(state.oldest, found.number);
  }
  return state;
}

// Applies a whole record. `known` says which slots have a value. False when its content breaks a rule.
bool apply(std::span<const uint8_t> record, uint64_t number, uint64_t extent_count, std::vector<uint32_t>& slots,
           std::vector<bool>& known) {
  const auto slot_count = static_cast<uint32_t>(slots.size());
  LittleReader tail(record.subspan(kSectorContentBytes, 16));
  tail.skip(9);
  const uint8_t kind = tail.u8();
  LittleReader head(record.first(kSectorContentBytes));
  if (head.u32() != kRecordMagic || head.u32() != slot_count) return false;
  const size_t update_count = head.u16();
  head.skip(6);
  const ContextSlice stored{head.u32(), head.u32()};
  if (kind == static_cast<uint8_t>(RecordKind::Empty)) {
    if (update_count != 0 || stored.count != 0) return false;
    std::fill(slots.begin(), slots.end(), kNoExtent);
    std::fill(known.begin(), known.end(), true);
    return true;
  }
  const ContextSlice slice = context_slice(number, slot_count);
  if (kind != static_cast<uint8_t>(RecordKind::Updates) || update_count > kActivityLogUpdatesPerTransaction ||
      stored.first != slice.first || stored.count != slice.count) {
    return false;
  }
  const auto set = [&](uint32_t slot, uint32_t extent) {
    if (slot >= slot_count || (extent != kNoExtent && extent >= extent_count)) return false;
    slots[slot] = extent;
    known[slot] = true;
    return true;
  };
  for (size_t i = 0; i < update_count; ++i) {
    const uint32_t slot = head.u16();
    if (!set(slot, head.u32())) return false;
  }
  for (uint32_t i = 0; i < slice.count; ++i) {
    const size_t sector = 1 + i / kContextEntriesPerSector;
    const size_t offset = sector * kSectorBytes + (i % kContextEntriesPerSector) * 4;
    if (!set(slice.first + i, LittleReader(record.subspan(offset, 4)).u32())) return false;
  }
  return head.ok();
}

}  // namespace

void encode_activity_log_record(const ActivityLogPosition& position, std::span<const ActivityLogUpdate> updates,
                                std::span<const uint32_t> slots, MetadataUnit unit) {
  const auto slot_count = static_cast<uint32_t>(slots.size());
  const ContextSlice slice = context_slice(position.number, slot_count);
  encode_record(position, RecordKind::Updates, updates, slot_count, slots.subspan(slice.first, slice.count), slice,
                unit);
}

void encode_activity_log_empty(const ActivityLogPosition& position, uint32_t slot_count, MetadataUnit unit) {
  encode_record(position, RecordKind::Empty, {}, slot_count, {}, {}, unit);
}

void encode_empty_ring(uint64_t first_number, uint32_t slot_count, std::span<uint8_t> ring) {
  LOCKSTEP_CHECK(ring.size() == kActivityLogRecords * kMetadataUnitBytes);
  for (uint64_t number = first_number; number < first_number + kActivityLogRecords; ++number) {
    const size_t place = number % kActivityLogRecords;
    encode_activity_log_empty({number, 0}, slot_count,
                              ring.subspan(place * kMetadataUnitBytes).first<kMetadataUnitBytes>());
  }
}

ActivityLogRecovery recover_activity_log(std::span<const uint8_t> ring, uint32_t slot_count, uint64_t extent_count) {
  LOCKSTEP_CHECK(ring.size() == kActivityLogRecords * kMetadataUnitBytes);
  ActivityLogRecovery recovery;
  recovery.slots.assign(slot_count, kNoExtent);
  std::array<RecordState, kActivityLogRecords> records;
  uint64_t newest = 0;
  uint64_t newest_whole = 0;
  bool damaged = false;
  for (size_t i = 0; i < kActivityLogRecords; ++i) {
    records[i] = examine(ring.subspan(i * kMetadataUnitBytes, kMetadataUnitBytes), i);
    newest = std::max(newest, records[i].newest);
    damaged = damaged || records[i].damaged;
    if (records[i].whole()) newest_whole = std::max(newest_whole, records[i].newest);
  }
  recovery.next.number = newest + 1;
  // The ring was full of whole records when it was made, and since then each transaction overwrote the oldest. So
  // the one after the newest whole record may be torn between its writings and the record that it overwrites, whose
  // content nobody needs; and every other record must be whole and the one that belongs there.
  if (damaged || newest_whole < kActivityLogRecords) return recovery;
  const uint64_t oldest_transaction = newest_whole - (kActivityLogRecords - 1);
  const RecordState& next = records[(newest_whole + 1) % kActivityLogRecords];
  const bool next_is_whole = next.whole() && next.newest == oldest_transaction;
  const bool next_is_torn = !next.whole() && next.newest == newest_whole + 1 &&
                            (next.oldest == oldest_transaction || next.oldest == next.newest);
  if ((!next_is_whole && !next_is_torn) || next.last_attempt == UINT16_MAX) return recovery;
  std::vector<uint32_t> slots(slot_count, kNoExtent);
  std::vector<bool> known(slot_count, false);
  for (uint64_t number = oldest_transaction + 1; number <= newest_whole; ++number) {
    const size_t place = number % kActivityLogRecords;
    if (!records[place].whole() || records[place].newest != number) return recovery;
    if (!apply(ring.subspan(place * kMetadataUnitBytes, kMetadataUnitBytes), number, extent_count, slots, known)) {
      return recovery;
    }
  }
  if (std::find(known.begin(), known.end(), false) != known.end()) return recovery;
  recovery.slots = std::move(slots);
  recovery.valid = true;
  recovery.next.number = newest_whole + 1;
  recovery.next.attempt = next_is_torn ? static_cast<uint16_t>(next.last_attempt + 1) : uint16_t{0};
  return recovery;
}

}  // namespace lockstep::repl
