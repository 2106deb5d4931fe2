// Whatever happens to the bytes of the metadata, they decode as the old state, the new state, or as damaged.
#include "replicator/metadata_format.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "io/base/bytes.h"
#include "io/base/crc32c.h"

using namespace lockstep;
using namespace lockstep::repl;

namespace {

using Unit = std::array<uint8_t, kMetadataUnitBytes>;

Superblock example(uint64_t sequence) {
  Superblock superblock;
  superblock.sequence = sequence;
  superblock.identity.resource_id = resource_id_of("pgdata");
  superblock.identity.size_bytes = 20 * kGiB;
  superblock.identity.peer_count = 2;
  superblock.identity.activity_log_slots = 1237;
  superblock.layout = metadata_layout(20 * kGiB, 2);
  superblock.resource_name = "pgdata";
  superblock.node_name = "alpha";
  superblock.peer_names = {"beta", std::string(64, 'c')};
  SuperblockImage& image = superblock.image;
  image.current = {1, sequence};
  for (uint64_t i = 0; i < kHistoryGenerations; ++i) image.history[i] = {i, sequence + i};
  image.disk_state = DiskState::UpToDate;
  image.primary = sequence % 2 == 1;
  image.forced = sequence % 3 == 1;
  image.reserved = {9, sequence};
  image.undone = {10, sequence};
  image.stable_position = {11, sequence + 1, 12};
  image.term = static_cast<uint32_t>(sequence + 2);
  for (uint64_t i = 0; i < kMaximumPeers; ++i)
    image.peers[i] = {{7, i}, {8, sequence}, i % 2 == 0, i % 3 == 0, static_cast<uint32_t>(i)};
  return superblock;
}

Unit encoded(const Superblock& superblock) {
  Unit unit;
  encode_superblock(superblock, unit);
  return unit;
}

bool same(const Superblock& a, const Superblock& b) {
  return a.sequence == b.sequence && a.identity.resource_id == b.identity.resource_id &&
         a.identity.size_bytes == b.identity.size_bytes && a.identity.peer_count == b.identity.peer_count &&
         a.identity.activity_log_slots == b.identity.activity_log_slots && a.layout == b.layout &&
         a.resource_name == b.resource_name && a.node_name == b.node_name && a.peer_names == b.peer_names &&
         a.image == b.image;
}

// Puts a right checksum on a unit whose content was changed on purpose.
void seal(Unit& unit) {
  const auto field = std::span(unit).subspan(12, 4);
  std::fill(field.begin(), field.end(), uint8_t{0});
  LittleWriter(field).u32(crc32c(unit));
}

}  // namespace

TEST_CASE("a resource's id is the 128-bit FNV-1a of its name") {
  // Values of the algorithm's authors: the empty string, and "a".
  CHECK(to_string(resource_id_of("")) == "6c62272e07bb014262b821756295c58d");
  CHECK(to_string(resource_id_of("a")) == "d228cb696f1a8caf78912b704e4a8964");
  CHECK(resource_id_of("pgdata") != resource_id_of("pgdatb"));
}

TEST_CASE("a superblock comes back as it was") {
  for (uint64_t sequence = 1; sequence < 8; ++sequence) {
    const Superblock before = example(sequence);
    const SuperblockDecoding decoding = decode_superblock(encoded(before));
    REQUIRE(decoding.superblock);
    CHECK(same(*decoding.superblock, before));
  }
}

TEST_CASE("every state that a disk may rest in, and every flag, comes back") {
  const auto state = GENERATE(DiskState::Inconsistent, DiskState::Outdated, DiskState::Consistent, DiskState::UpToDate);
  for (uint8_t flags = 0; flags < 64; ++flags) {
    Superblock before = example(2);
    before.image.disk_state = state;
    before.image.primary = (flags & 1) != 0;
    before.image.forced = (flags & 2) != 0;
    before.image.waited_for = (flags & 32) != 0  ? WaitedFor::Yes
                              : (flags & 2) != 0 ? WaitedFor::No
                                                 : WaitedFor::Unknown;
    before.image.peers[1].crashed_primary = (flags & 4) != 0;
    before.image.peers[1].answered_ahead = (flags & 8) != 0;
    before.image.peers[1].bitmap_in_memory = (flags & 16) != 0;
    const SuperblockDecoding decoding = decode_superblock(encoded(before));
    REQUIRE(decoding.superblock);
    CHECK(same(*decoding.superblock, before));
  }
}

TEST_CASE("a superblock whose checksum is right and whose values make no sense is refused") {
  struct Field {
    const char* name;
    size_t offset;
    std::vector<uint8_t> bytes;
  };
  const Field field = GENERATE(values<Field>({
      {"no size", 40, {0, 0, 0, 0, 0, 0, 0, 0}},
      {"half a block", 40, {1}},
      {"another size than the bitmaps'", 40, {0, 0, 0, 0, 6}},
      {"too many peers", 48, {32}},
      {"no slots", 52, {0, 0, 0, 0}},
      {"too many slots", 52, {0xff, 0xff, 0, 0}},
      {"a log at the superblocks' place", 56, {0, 0x10, 0, 0, 0, 0, 0, 0}},
      {"a log between two units", 56, {1}},
      {"bitmaps in the log", 64, {0, 0, 1, 0, 0, 0, 0, 0}},
      {"bitmaps beyond any file", 64, {0, 0, 0, 0, 0, 0, 0, 2}},
      {"bitmaps over each other", 72, {0, 0x10, 0, 0, 0, 0, 0, 0}},
      {"a name that is too long", 96, {65}},
      {"a node's name that is too long", 96 + 72, {65}},
      {"a peer's name that goes on behind its end", 96 + 144, {3}},
      {"no state of a disk", 744 + 16 * (1 + kHistoryGenerations), {9}},
      {"a flag that nobody knows", 744 + 16 * (1 + kHistoryGenerations) + 1, {16}},
      {"waited for and not", 744 + 16 * (1 + kHistoryGenerations) + 1, {12}},
      {"a peer's flag that nobody knows", 744 + 16 * (1 + kHistoryGenerations) + 8 + 48 + 32, {8}},
  }));
  INFO(field.name);
  Unit unit = encoded(example(5));
  std::copy(field.bytes.begin(), field.bytes.end(), unit.begin() + static_cast<ptrdiff_t>(field.offset));
  seal(unit);
  const SuperblockDecoding decoding = decode_superblock(unit);
  CHECK_FALSE(decoding.superblock);
  CHECK(decoding.fault == SuperblockFault::BadField);
}

TEST_CASE("a layout that grows leaves the old bitmaps where they are until the new ones count") {
  for (const uint32_t peers : {1U, 2U, 7U}) {
    MetadataLayout layout = metadata_layout(64 * kMiB, peers);
    for (uint64_t size = 64 * kMiB; size <= 4096 * kGiB; size *= 4) {
      const MetadataLayout grown = grown_layout(layout, size, peers);
      INFO(peers << " peers, " << size << " bytes");
      CHECK(grown.activity_log_offset_bytes == layout.activity_log_offset_bytes);
      CHECK(grown.bitmap_stride_bytes >= uint64_t{grown.pages_per_bitmap} * kMetadataUnitBytes);
      const bool in_place = grown.bitmap_offset_bytes == layout.bitmap_offset_bytes &&
                            (peers == 1 || grown.bitmap_stride_bytes == layout.bitmap_stride_bytes);
      const bool apart = grown.bitmap_offset_bytes >= metadata_size_bytes(layout, peers) ||
                         metadata_size_bytes(grown, peers) <= layout.bitmap_offset_bytes;
      CHECK((in_place || apart));
      layout = grown;
    }
  }
}

TEST_CASE("every single flipped bit of a superblock is noticed") {
  const Unit intact = encoded(example(5));
  for (size_t bit = 0; bit < kMetadataUnitBytes * 8; ++bit) {
    Unit flipped = intact;
    flipped[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    if (decode_superblock(flipped).superblock) FAIL("bit " << bit << " was flipped unnoticed");
  }
}

TEST_CASE("a superblock torn between two writings at any sector is old, new or invalid, and the pair is never lost") {
  const Superblock old_state = example(6);
  const Superblock new_state = example(7);
  const Unit old_unit = encoded(old_state);
  const Unit new_unit = encoded(new_state);
  for (unsigned mask = 0; mask < (1U << kRecordSectors); ++mask) {
    Unit torn = old_unit;
    for (size_t sector = 0; sector < kRecordSectors; ++sector) {
      if ((mask >> sector & 1) == 0) continue;
      std::copy_n(new_unit.begin() + sector * kSectorBytes, kSectorBytes, torn.begin() + sector * kSectorBytes);
    }
    const SuperblockDecoding decoding = decode_superblock(torn);
    if (decoding.superblock) CHECK((same(*decoding.superblock, old_state) || same(*decoding.superblock, new_state)));
    // The first copy was being written while the second was still the old one.
    const auto during_first = choose_superblock(torn, old_unit);
    REQUIRE(std::holds_alternative<SuperblockChoice>(during_first));
    const Superblock& either = std::get<SuperblockChoice>(during_first).superblock;
    CHECK((same(either, old_state) || same(either, new_state)));
    // The second was being written, the first being complete.
    const auto during_second = choose_superblock(new_unit, torn);
    REQUIRE(std::holds_alternative<SuperblockChoice>(during_second));
    CHECK(same(std::get<SuperblockChoice>(during_second).superblock, new_state));
  }
}

TEST_CASE("of two superblocks the newer valid one counts") {
  const Unit damaged{};
  const auto newest = [](const Unit& first, const Unit& second) {
    const auto choice = choose_superblock(first, second);
    return std::get<SuperblockChoice>(choice).superblock.sequence;
  };
  CHECK(newest(encoded(example(3)), encoded(example(4))) == 4);
  CHECK(newest(encoded(example(4)), encoded(example(3))) == 4);
  CHECK(newest(encoded(example(4)), encoded(example(4))) == 4);
  CHECK(newest(damaged, encoded(example(3))) == 3);
  CHECK(newest(encoded(example(3)), damaged) == 3);
  const auto agree = [](const Unit& first, const Unit& second) {
    return std::get<SuperblockChoice>(choose_superblock(first, second)).copies_agree;
  };
  CHECK(agree(encoded(example(4)), encoded(example(4))));
  CHECK_FALSE(agree(encoded(example(4)), encoded(example(3))));
  CHECK_FALSE(agree(encoded(example(4)), damaged));
  Superblock other = example(4);
  other.image.current = {9, 9};
  CHECK(std::holds_alternative<SuperblockChoiceFault>(choose_superblock(encoded(example(4)), encoded(other))));
}

TEST_CASE("what is no superblock is named") {
  const auto fault = [](const Unit& first, const Unit& second) {
    return std::get<SuperblockChoiceFault>(choose_superblock(first, second)).fault;
  };
  CHECK(fault(Unit{}, Unit{}) == SuperblockFault::NoMagic);
  Unit damaged = encoded(example(1));
  damaged[100] ^= 1;
  CHECK(fault(damaged, damaged) == SuperblockFault::BadChecksum);
  CHECK(fault(damaged, Unit{}) == SuperblockFault::BadChecksum);
}

TEST_CASE("random bytes are no superblock, no log and no page, and harm nothing") {
  std::mt19937_64 random(42);
  std::vector<uint8_t> ring(kActivityLogRecords * kMetadataUnitBytes);
  std::array<uint64_t, kWordsPerBitmapPage> words{};
  for (int round = 0; round < 20; ++round) {
    for (uint8_t& byte : ring) byte = static_cast<uint8_t>(random());
    std::copy(kSuperblockMagic.begin(), kSuperblockMagic.end(), ring.begin());
    const std::span<const uint8_t, kMetadataUnitBytes> unit(ring.data(), kMetadataUnitBytes);
    CHECK_FALSE(decode_superblock(unit).superblock);
    CHECK_FALSE(decode_bitmap_page({}, unit, words));
    CHECK_FALSE(recover_activity_log(ring, 1237, 5120).valid);
  }
}

TEST_CASE("a bitmap page comes back as it was, and only under its own name") {
  std::mt19937_64 random(1);
  std::array<uint64_t, kWordsPerBitmapPage> before{};
  for (uint64_t& word : before) word = random();
  const BitmapPageName name{resource_id_of("pgdata"), 1, 77};
  Unit unit;
  encode_bitmap_page(name, before, unit);
  std::array<uint64_t, kWordsPerBitmapPage> after{};
  REQUIRE(decode_bitmap_page(name, unit, after));
  CHECK(after == before);
  CHECK_FALSE(decode_bitmap_page({name.resource_id, 0, 77}, unit, after));
  CHECK_FALSE(decode_bitmap_page({name.resource_id, 1, 78}, unit, after));
  CHECK_FALSE(decode_bitmap_page({resource_id_of("other"), 1, 77}, unit, after));
  for (size_t bit = 0; bit < kMetadataUnitBytes * 8; ++bit) {
    Unit flipped = unit;
    flipped[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    if (decode_bitmap_page(name, flipped, after)) FAIL("bit " << bit << " was flipped unnoticed");
  }
  CHECK(after == before);
}

TEST_CASE("a bitmap page torn at any sector is old, new or damaged") {
  std::mt19937_64 random(2);
  std::array<uint64_t, kWordsPerBitmapPage> old_words{};
  std::array<uint64_t, kWordsPerBitmapPage> new_words{};
  for (uint64_t& word : old_words) word = random();
  for (uint64_t& word : new_words) word = random();
  const BitmapPageName name{resource_id_of("pgdata"), 0, 3};
  Unit old_unit;
  Unit new_unit;
  encode_bitmap_page(name, old_words, old_unit);
  encode_bitmap_page(name, new_words, new_unit);
  for (unsigned mask = 0; mask < 256; ++mask) {
    Unit torn = old_unit;
    for (size_t sector = 0; sector < 8; ++sector) {
      if ((mask >> sector & 1) == 0) continue;
      std::copy_n(new_unit.begin() + sector * kSectorBytes, kSectorBytes, torn.begin() + sector * kSectorBytes);
    }
    std::array<uint64_t, kWordsPerBitmapPage> words{};
    if (decode_bitmap_page(name, torn, words)) CHECK((words == old_words || words == new_words));
  }
}

TEST_CASE("the layout keeps everything apart, for any size") {
  for (const uint64_t size : {uint64_t{4096}, 124 * kMiB, 124 * kMiB + 4096, 20 * kGiB, 1024 * kGiB}) {
    for (uint32_t peers = 0; peers <= kMaximumPeers; ++peers) {
      const MetadataLayout layout = metadata_layout(size, peers);
      CHECK(layout.pages_per_bitmap * kBlocksPerBitmapPage * kBlockBytes >= size);
      CHECK(layout.activity_log_offset_bytes >= kSuperblockCopies * kMetadataUnitBytes);
      CHECK(layout.bitmap_offset_bytes >= layout.activity_log_offset_bytes + kActivityLogRecords * kMetadataUnitBytes);
      CHECK(layout.bitmap_stride_bytes >= layout.pages_per_bitmap * kMetadataUnitBytes);
      CHECK(metadata_size_bytes(layout, peers) == layout.bitmap_offset_bytes + peers * layout.bitmap_stride_bytes);
    }
  }
}
