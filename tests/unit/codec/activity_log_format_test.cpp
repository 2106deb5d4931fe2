// The activity log's ring: what is recovered after any crash, tear or flipped bit.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <random>
#include <vector>

#include "io/base/bytes.h"
#include "io/base/crc32c.h"
#include "replicator/metadata_format.h"

using namespace lockstep;
using namespace lockstep::repl;

namespace {

constexpr uint64_t kExtents = 5120;

// A log as the store writes it.
struct Log {
  explicit Log(uint32_t slot_count) : slots(slot_count, kNoExtent), ring(kActivityLogRecords * kMetadataUnitBytes) {
    encode_empty_ring(1, slot_count, ring);
    next.number = kActivityLogRecords + 1;
  }

  std::array<uint8_t, kMetadataUnitBytes> make_record(std::mt19937_64& random) {
    std::vector<ActivityLogUpdate> updates(1 + random() % kActivityLogUpdatesPerTransaction);
    for (ActivityLogUpdate& update : updates) {
      update.slot = static_cast<uint32_t>(random() % slots.size());
      update.extent = random() % 8 == 0 ? kNoExtent : static_cast<uint32_t>(random() % kExtents);
      slots[update.slot] = update.extent;
    }
    std::array<uint8_t, kMetadataUnitBytes> unit{};
    encode_activity_log_record(next, updates, slots, unit);
    return unit;
  }
  uint8_t* place() { return ring.data() + (next.number % kActivityLogRecords) * kMetadataUnitBytes; }
  void write(const std::array<uint8_t, kMetadataUnitBytes>& unit) {
    std::copy(unit.begin(), unit.end(), place());
    next = {next.number + 1, 0};
  }
  ActivityLogRecovery recover() const {
    return recover_activity_log(ring, static_cast<uint32_t>(slots.size()), kExtents);
  }

  std::vector<uint32_t> slots;
  std::vector<uint8_t> ring;
  ActivityLogPosition next;
};

}  // namespace

TEST_CASE("a new ring is valid and empty") {
  const Log log(1237);
  const ActivityLogRecovery recovery = log.recover();
  REQUIRE(recovery.valid);
  CHECK(recovery.slots == log.slots);
  CHECK(recovery.next == ActivityLogPosition{kActivityLogRecords + 1, 0});
}

TEST_CASE("the table is recovered after each of many transactions, over every wrap, for small and large tables") {
  std::mt19937_64 random(3);
  for (const uint32_t slot_count :
       {uint32_t{1}, uint32_t{61}, uint32_t{868}, uint32_t{1237}, kMaximumActivityLogSlots}) {
    Log log(slot_count);
    for (int i = 0; i < 700; ++i) {
      log.write(log.make_record(random));
      if (slot_count > 2000 && i % 50 != 0) continue;
      const ActivityLogRecovery recovery = log.recover();
      if (!recovery.valid || recovery.slots != log.slots || recovery.next != log.next) {
        FAIL("transaction " << i << " of " << slot_count << " slots");
      }
    }
  }
}

TEST_CASE("a record torn at any sector is the old state, and the next writing over it is told apart from it") {
  std::mt19937_64 random(4);
  for (const int transactions : {1, 255, 300}) {
    Log log(1237);
    for (int i = 0; i < transactions; ++i) log.write(log.make_record(random));
    const std::vector<uint32_t> old_slots = log.slots;
    const auto unit = log.make_record(random);
    const std::vector<uint32_t> new_slots = log.slots;
    for (unsigned mask = 0; mask < 256; ++mask) {
      Log torn = log;
      for (size_t sector = 0; sector < 8; ++sector) {
        if ((mask >> sector & 1) == 0) continue;
        std::copy_n(unit.begin() + sector * kSectorBytes, kSectorBytes, torn.place() + sector * kSectorBytes);
      }
      const ActivityLogRecovery recovery = torn.recover();
      REQUIRE(recovery.valid);
      CHECK(recovery.slots == (mask == 255 ? new_slots : old_slots));
      if (mask == 255) continue;
      CHECK(recovery.next == ActivityLogPosition{log.next.number, mask == 0 ? uint16_t{0} : uint16_t{1}});
      if (mask % 16 != 3) continue;

      // The next run writes another record to the same place, and that is cut short, too.
      Log second = torn;
      second.slots = old_slots;
      second.next = recovery.next;
      const auto second_unit = second.make_record(random);
      for (const unsigned second_mask : {0x01U, 0xFEU, 0x55U, 0xAAU, 0x80U, 0xFFU}) {
        Log twice = second;
        for (size_t sector = 0; sector < 8; ++sector) {
          if ((second_mask >> sector & 1) == 0) continue;
          std::copy_n(second_unit.begin() + sector * kSectorBytes, kSectorBytes, twice.place() + sector * kSectorBytes);
        }
        const ActivityLogRecovery again = twice.recover();
        REQUIRE(again.valid);
        CHECK(again.slots == (second_mask == 255 ? second.slots : old_slots));
      }
    }
  }
}

TEST_CASE("any flipped bit in the ring makes the log invalid, never shorter") {
  std::mt19937_64 random(5);
  Log log(1237);
  for (int i = 0; i < 300; ++i) log.write(log.make_record(random));
  REQUIRE(log.recover().valid);
  const size_t bits = log.ring.size() * 8;
  const size_t newest = ((log.next.number - 1) % kActivityLogRecords) * kMetadataUnitBytes * 8;
  std::vector<size_t> places;
  for (int i = 0; i < 400; ++i) places.push_back(random() % bits);
  for (size_t i = 0; i < kMetadataUnitBytes * 8; i += 61) places.push_back(newest + i);
  for (const size_t bit : places) {
    log.ring[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    const ActivityLogRecovery recovery = log.recover();
    if (recovery.valid) FAIL("bit " << bit);
    CHECK(recovery.next.number >= log.next.number - 1);
    log.ring[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
  }
  CHECK(log.recover().valid);
}

TEST_CASE("a record that is missing, doubled or at another's place makes the log invalid") {
  std::mt19937_64 random(6);
  Log log(1237);
  for (int i = 0; i < 600; ++i) log.write(log.make_record(random));
  const auto record = [&](Log& of, uint64_t number) {
    return of.ring.begin() + static_cast<std::ptrdiff_t>((number % kActivityLogRecords) * kMetadataUnitBytes);
  };
  Log missing = log;
  std::fill_n(record(missing, log.next.number - 5), kMetadataUnitBytes, uint8_t{0});
  CHECK_FALSE(missing.recover().valid);
  Log doubled = log;
  std::copy_n(record(doubled, log.next.number - 5), kMetadataUnitBytes, record(doubled, log.next.number - 6));
  CHECK_FALSE(doubled.recover().valid);
  // A write of 100 transactions ago that the disk had answered and lost.
  Log lost(1237);
  std::mt19937_64 again(6);
  for (int i = 0; i < 600; ++i) {
    const auto unit = lost.make_record(again);
    if (i == 500) {
      lost.next = {lost.next.number + 1, 0};
    } else {
      lost.write(unit);
    }
  }
  CHECK_FALSE(lost.recover().valid);
}

TEST_CASE("a log that was emptied is empty, and goes on from there") {
  std::mt19937_64 random(7);
  Log log(1237);
  for (int i = 0; i < 300; ++i) log.write(log.make_record(random));
  std::array<uint8_t, kMetadataUnitBytes> unit{};
  encode_activity_log_empty(log.next, 1237, unit);
  std::fill(log.slots.begin(), log.slots.end(), kNoExtent);
  log.write(unit);
  CHECK(log.recover().valid);
  CHECK(log.recover().slots == log.slots);
  log.write(log.make_record(random));
  CHECK(log.recover().slots == log.slots);
}

TEST_CASE("a log of another number of slots, or that names an extent beyond the device, is invalid") {
  std::mt19937_64 random(8);
  Log log(1237);
  for (int i = 0; i < 300; ++i) log.write(log.make_record(random));
  CHECK_FALSE(recover_activity_log(log.ring, 1238, kExtents).valid);
  CHECK_FALSE(recover_activity_log(log.ring, 1237, 10).valid);
}

TEST_CASE("a record whose checksums are right and whose content breaks a rule makes the log invalid") {
  struct Field {
    const char* name;
    size_t offset;
    std::vector<uint8_t> bytes;
  };
  const Field field = GENERATE(values<Field>({
      {"another magic", 0, {0}},
      {"another number of slots", 4, {0, 0}},
      {"more updates than fit", 8, {0xff, 0xff}},
      {"another place of its context", 16, {1}},
      {"another length of its context", 20, {1}},
      {"an update of a slot that is not there", 24, {0xff, 0xff}},
      {"an update to an extent beyond the device", 26, {0, 0, 0, 1}},
      {"a kind that nobody knows", kSectorBytes - 16 + 9, {7}},
      {"an emptied log with updates", kSectorBytes - 16 + 9, {2}},
      {"the last number that there is, which belongs at this place", kSectorBytes - 16 + 1,
       std::vector<uint8_t>(7, 0xff)},
  }));
  INFO(field.name);
  std::mt19937_64 random(11);
  Log log(1237);
  for (int i = 0; i < 40; ++i) log.write(log.make_record(random));
  REQUIRE(log.recover().valid);
  const size_t record = ((log.next.number - 5) % kActivityLogRecords) * kMetadataUnitBytes;
  const auto sector = std::span(log.ring).subspan(record, kSectorBytes);
  std::copy(field.bytes.begin(), field.bytes.end(), sector.begin() + static_cast<ptrdiff_t>(field.offset));
  LittleWriter(sector.last(4)).u32(crc32c(sector.first(kSectorBytes - 4)));
  const ActivityLogRecovery recovery = log.recover();
  CHECK_FALSE(recovery.valid);
  CHECK(recovery.next.number == log.next.number);
}
