#include "replicator/metadata_format.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "io/base/crc32c.h"

namespace lockstep::repl {
namespace {

// Offsets inside a superblock. Magic, version and checksum stand at the same place in every version.
constexpr size_t kChecksumOffset = 12;
constexpr size_t kIdentityOffset = 16;
constexpr size_t kNamesOffset = 96;
constexpr size_t kNameFieldBytes = 72;
constexpr size_t kImageOffset = kNamesOffset + (2 + kMaximumPeers) * kNameFieldBytes;
constexpr size_t kPeerRecordBytes = 40;
constexpr size_t kImageBytes = 16 + kHistoryGenerations * 16 + 8 + 48 + kMaximumPeers * kPeerRecordBytes;
constexpr size_t kReservedOffset = kImageOffset + kImageBytes;
static_assert(kImageOffset == 744);
static_assert(kReservedOffset == 1480);
static_assert(kReservedOffset <= 2048);  // where the lives are

constexpr size_t kLivesOffset = 2048;
constexpr size_t kLivesBytes = (1 + kMaximumPeers) * 16;
constexpr size_t kPreparedSizeOffset = kLivesOffset + kLivesBytes;
static_assert(kPreparedSizeOffset == 2176);

constexpr uint8_t kPrimaryFlag = 1;
constexpr uint8_t kForcedFlag = 2;
constexpr uint8_t kWaitedForFlag = 4;
constexpr uint8_t kNotWaitedForFlag = 8;
constexpr uint8_t kCrashedPrimaryFlag = 1;
constexpr uint8_t kAnsweredAheadFlag = 2;
constexpr uint8_t kBitmapInMemoryFlag = 4;

uint32_t checksum_without_field(std::span<const uint8_t> bytes, size_t field_offset) {
  constexpr std::array<uint8_t, 4> kNothing{};
  uint32_t crc = crc32c(bytes.first(field_offset));
  crc = crc32c(kNothing, crc);
  return crc32c(bytes.subspan(field_offset + 4), crc);
}

void write_generation(LittleWriter& writer, const Generation& generation) {
  writer.u64(generation.high);
  writer.u64(generation.low);
}

Generation read_generation(LittleReader& reader) {
  Generation generation;
  generation.high = reader.u64();
  generation.low = reader.u64();
  return generation;
}

void write_life(LittleWriter& writer, const Life& life) {
  writer.u64(life.birth);
  writer.u64(life.age);
}

Life read_life(LittleReader& reader) {
  const uint64_t birth = reader.u64();
  return {birth, reader.u64()};
}

void write_name(LittleWriter& writer, std::string_view name) {
  LOCKSTEP_CHECK(name.size() <= kMaximumNameBytes);
  writer.u8(static_cast<uint8_t>(name.size()));
  writer.text(name);
  writer.zeroes(kNameFieldBytes - 1 - name.size());
}

bool read_name(LittleReader& reader, std::string& name) {
  const size_t length = reader.u8();
  const std::string_view field = reader.text(kNameFieldBytes - 1);
  if (length > kMaximumNameBytes || field.size() < length) return false;
  name = std::string(field.substr(0, length));
  return field.find_first_not_of('\0', length) == std::string_view::npos;
}

bool storable(DiskState state) {
  return state == DiskState::Inconsistent || state == DiskState::Outdated || state == DiskState::Consistent ||
         state == DiskState::UpToDate;
}

// The states' numbers on disk, which never change whatever becomes of the enumeration.
uint8_t disk_state_number(DiskState state) {
  switch (state) {
    case DiskState::Inconsistent:
      return 1;
    case DiskState::Outdated:
      return 2;
    case DiskState::Consistent:
      return 3;
    case DiskState::UpToDate:
      return 4;
    default:
      break;
  }
  LOCKSTEP_CHECK(storable(state));
  return 0;
}

std::optional<DiskState> disk_state_of(uint8_t number) {
  switch (number) {
    case 1:
      return DiskState::Inconsistent;
    case 2:
      return DiskState::Outdated;
    case 3:
      return DiskState::Consistent;
    case 4:
      return DiskState::UpToDate;
    default:
      return std::nullopt;
  }
}

void write_image(LittleWriter& writer, const SuperblockImage& image) {
  write_generation(writer, image.current);
  for (const Generation& generation : image.history) write_generation(writer, generation);
  writer.u8(disk_state_number(image.disk_state));
  writer.u8(static_cast<uint8_t>((image.primary ? kPrimaryFlag : 0) | (image.forced ? kForcedFlag : 0) |
                                 (image.waited_for == WaitedFor::Yes ? kWaitedForFlag : 0) |
                                 (image.waited_for == WaitedFor::No ? kNotWaitedForFlag : 0)));
  writer.u8(image.sync_sources);
  writer.zeroes(5);
  write_generation(writer, image.sync_base);
  write_generation(writer, image.sync_toward);
  write_generation(writer, image.unanswered_since);
  for (const PeerRecord& peer : image.peers) {
    write_generation(writer, peer.bitmap_generation);
    write_generation(writer, peer.previous_bitmap_generation);
    writer.u8(static_cast<uint8_t>((peer.crashed_primary ? kCrashedPrimaryFlag : 0) |
                                   (peer.answered_ahead ? kAnsweredAheadFlag : 0) |
                                   (peer.bitmap_in_memory ? kBitmapInMemoryFlag : 0)));
    writer.zeroes(3);
    writer.u32(peer.ahead_term);
  }
}

bool read_image(LittleReader& reader, SuperblockImage& image) {
  image.current = read_generation(reader);
  for (Generation& generation : image.history) generation = read_generation(reader);
  const std::optional<DiskState> disk_state = disk_state_of(reader.u8());
  const uint8_t flags = reader.u8();
  image.sync_sources = reader.u8();
  reader.skip(5);
  image.sync_base = read_generation(reader);
  image.sync_toward = read_generation(reader);
  image.unanswered_since = read_generation(reader);
  if (!disk_state || (flags & ~(kPrimaryFlag | kForcedFlag | kWaitedForFlag | kNotWaitedForFlag)) != 0 ||
      (flags & (kWaitedForFlag | kNotWaitedForFlag)) == (kWaitedForFlag | kNotWaitedForFlag) ||
      image.sync_sources >> kMaximumPeers != 0) {
    return false;
  }
  image.disk_state = *disk_state;
  image.primary = (flags & kPrimaryFlag) != 0;
  image.forced = (flags & kForcedFlag) != 0;
  if ((flags & kWaitedForFlag) != 0) image.waited_for = WaitedFor::Yes;
  if ((flags & kNotWaitedForFlag) != 0) image.waited_for = WaitedFor::No;
  for (PeerRecord& peer : image.peers) {
    peer.bitmap_generation = read_generation(reader);
    peer.previous_bitmap_generation = read_generation(reader);
    const uint8_t peer_flags = reader.u8();
    reader.skip(3);
    peer.ahead_term = reader.u32();
    if ((peer_flags & ~(kCrashedPrimaryFlag | kAnsweredAheadFlag | kBitmapInMemoryFlag)) != 0) return false;
    peer.crashed_primary = (peer_flags & kCrashedPrimaryFlag) != 0;
    peer.answered_ahead = (peer_flags & kAnsweredAheadFlag) != 0;
    peer.bitmap_in_memory = (peer_flags & kBitmapInMemoryFlag) != 0;
  }
  return reader.ok();
}

// Every part inside the file and none over another.
bool plausible(const Superblock& superblock) {
  const MetadataIdentity& identity = superblock.identity;
  const MetadataLayout& layout = superblock.layout;
  if (identity.size_bytes == 0 || identity.size_bytes % kBlockBytes != 0) return false;
  if (identity.peer_count > kMaximumPeers) return false;
  if (identity.activity_log_slots == 0 || identity.activity_log_slots > kMaximumActivityLogSlots) return false;
  // A device of more pages than fit 32 bits is no device of this version.
  if (divide_up(identity.size_bytes, kBlocksPerBitmapPage * kBlockBytes) != layout.pages_per_bitmap) return false;
  for (const uint64_t offset :
       {layout.activity_log_offset_bytes, layout.bitmap_offset_bytes, layout.bitmap_stride_bytes}) {
    if (offset % kMetadataUnitBytes != 0 || offset > (uint64_t{1} << 56)) return false;
  }
  if (layout.activity_log_offset_bytes < kSuperblockCopies * kMetadataUnitBytes) return false;
  if (layout.bitmap_offset_bytes < layout.activity_log_offset_bytes + kActivityLogRecords * kMetadataUnitBytes) {
    return false;
  }
  return layout.bitmap_stride_bytes >= uint64_t{layout.pages_per_bitmap} * kMetadataUnitBytes;
}

}  // namespace

Generation resource_id_of(std::string_view resource_name) {
  // The 128-bit prime is 2^88 + 0x13B: multiplying by it is a shift by 88, and a product with 0x13B.
  uint64_t high = 0x6c62272e07bb0142;
  uint64_t low = 0x62b821756295c58d;
  for (const char character : resource_name) {
    low ^= static_cast<uint8_t>(character);
    const uint64_t low_half = (low & 0xFFFFFFFF) * 0x13B;
    const uint64_t high_half = (low >> 32) * 0x13B + (low_half >> 32);
    const uint64_t product_high = high * 0x13B + (high_half >> 32) + (low << 24);
    low = (high_half << 32) | (low_half & 0xFFFFFFFF);
    high = product_high;
  }
  return {high, low};
}

MetadataLayout metadata_layout(uint64_t size_bytes, uint32_t peer_count) {
  LOCKSTEP_CHECK(peer_count <= kMaximumPeers);
  MetadataLayout layout;
  const uint64_t pages = divide_up(size_bytes, kBlocksPerBitmapPage * kBlockBytes);
  LOCKSTEP_CHECK(pages <= UINT32_MAX);
  layout.activity_log_offset_bytes = 64 * kKiB;
  layout.bitmap_offset_bytes = layout.activity_log_offset_bytes + kActivityLogRecords * kMetadataUnitBytes;
  layout.bitmap_stride_bytes = round_up(pages * kMetadataUnitBytes, 64 * kKiB);
  layout.pages_per_bitmap = static_cast<uint32_t>(pages);
  return layout;
}

MetadataLayout grown_layout(const MetadataLayout& old, uint64_t size_bytes, uint32_t peer_count) {
  MetadataLayout grown = metadata_layout(size_bytes, peer_count);
  const uint64_t stride_bytes = grown.bitmap_stride_bytes;
  LOCKSTEP_CHECK(grown.pages_per_bitmap >= old.pages_per_bitmap);
  grown.activity_log_offset_bytes = old.activity_log_offset_bytes;
  grown.bitmap_offset_bytes = old.bitmap_offset_bytes;
  if (stride_bytes <= old.bitmap_stride_bytes) {
    grown.bitmap_stride_bytes = old.bitmap_stride_bytes;
    return grown;
  }
  if (peer_count <= 1) return grown;
  // A longer stride moves the bitmaps: to where the old ones are not, so that these count until the superblock is
  // there.
  const uint64_t first_place = old.activity_log_offset_bytes + kActivityLogRecords * kMetadataUnitBytes;
  const bool fits_before = first_place + peer_count * stride_bytes <= old.bitmap_offset_bytes;
  grown.bitmap_offset_bytes = fits_before ? first_place : metadata_size_bytes(old, peer_count);
  return grown;
}

uint64_t metadata_size_bytes(const MetadataLayout& layout, uint32_t peer_count) {
  return layout.bitmap_offset_bytes + peer_count * layout.bitmap_stride_bytes;
}

void encode_superblock(const Superblock& superblock, MetadataUnit unit) {
  const MetadataIdentity& identity = superblock.identity;
  LOCKSTEP_CHECK(superblock.peer_names.size() == identity.peer_count && identity.peer_count <= kMaximumPeers);
  LOCKSTEP_CHECK(plausible(superblock));
  LittleWriter writer(unit);
  writer.text(kSuperblockMagic);
  writer.u32(kMetadataVersion);
  writer.u32(0);
  LOCKSTEP_CHECK(writer.position_bytes() == kIdentityOffset);
  writer.u64(superblock.sequence);
  write_generation(writer, identity.resource_id);
  writer.u64(identity.size_bytes);
  writer.u32(identity.peer_count);
  writer.u32(identity.activity_log_slots);
  writer.u64(superblock.layout.activity_log_offset_bytes);
  writer.u64(superblock.layout.bitmap_offset_bytes);
  writer.u64(superblock.layout.bitmap_stride_bytes);
  writer.u32(superblock.layout.pages_per_bitmap);
  writer.zeroes(kNamesOffset - writer.position_bytes());
  write_name(writer, superblock.resource_name);
  write_name(writer, superblock.node_name);
  for (size_t i = 0; i < kMaximumPeers; ++i) {
    write_name(writer, i < superblock.peer_names.size() ? std::string_view(superblock.peer_names[i]) : "");
  }
  LOCKSTEP_CHECK(writer.position_bytes() == kImageOffset);
  write_image(writer, superblock.image);
  LOCKSTEP_CHECK(writer.position_bytes() == kReservedOffset);
  writer.zeroes(kLivesOffset - writer.position_bytes());
  write_life(writer, superblock.image.life);
  for (const Life& life : superblock.image.peer_lives) write_life(writer, life);
  LOCKSTEP_CHECK(writer.position_bytes() == kPreparedSizeOffset);
  writer.u64(superblock.image.prepared_size_bytes);
  write_generation(writer, superblock.image.reserved);
  write_generation(writer, superblock.image.undone);
  writer.u64(superblock.image.stable_position.stream);
  writer.u64(superblock.image.stable_position.through);
  writer.u32(superblock.image.term);
  writer.u32(superblock.image.stable_position.term);
  writer.zeroes(writer.left_bytes());
  LittleWriter(unit.subspan(kChecksumOffset, 4)).u32(checksum_without_field(unit, kChecksumOffset));
}

SuperblockDecoding decode_superblock(ConstMetadataUnit unit) {
  SuperblockDecoding decoding;
  LittleReader reader(unit);
  if (reader.text(kSuperblockMagic.size()) != kSuperblockMagic) return decoding;
  const uint32_t version = reader.u32();
  if (reader.u32() != checksum_without_field(unit, kChecksumOffset)) {
    decoding.fault = SuperblockFault::BadChecksum;
    return decoding;
  }
  if (version != kMetadataVersion) {
    decoding.fault = SuperblockFault::UnknownVersion;
    decoding.version = version;
    return decoding;
  }
  decoding.fault = SuperblockFault::BadField;
  Superblock superblock;
  superblock.sequence = reader.u64();
  superblock.identity.resource_id = read_generation(reader);
  superblock.identity.size_bytes = reader.u64();
  superblock.identity.peer_count = reader.u32();
  superblock.identity.activity_log_slots = reader.u32();
  superblock.layout.activity_log_offset_bytes = reader.u64();
  superblock.layout.bitmap_offset_bytes = reader.u64();
  superblock.layout.bitmap_stride_bytes = reader.u64();
  superblock.layout.pages_per_bitmap = reader.u32();
  reader.skip(kNamesOffset - reader.position_bytes());
  if (!plausible(superblock)) return decoding;
  if (!read_name(reader, superblock.resource_name) || !read_name(reader, superblock.node_name)) return decoding;
  for (size_t i = 0; i < kMaximumPeers; ++i) {
    std::string name;
    if (!read_name(reader, name)) return decoding;
    if (i < superblock.identity.peer_count) superblock.peer_names.push_back(std::move(name));
  }
  if (!read_image(reader, superblock.image)) return decoding;
  reader.skip(kLivesOffset - reader.position_bytes());
  superblock.image.life = read_life(reader);
  for (Life& life : superblock.image.peer_lives) life = read_life(reader);
  superblock.image.prepared_size_bytes = reader.u64();
  superblock.image.reserved = read_generation(reader);
  superblock.image.undone = read_generation(reader);
  superblock.image.stable_position.stream = reader.u64();
  superblock.image.stable_position.through = reader.u64();
  superblock.image.term = reader.u32();
  superblock.image.stable_position.term = reader.u32();
  if (!reader.ok()) return decoding;
  decoding.superblock = std::move(superblock);
  return decoding;
}

std::variant<SuperblockChoice, SuperblockChoiceFault> choose_superblock(ConstMetadataUnit first,
                                                                        ConstMetadataUnit second) {
  SuperblockDecoding a = decode_superblock(first);
  SuperblockDecoding b = decode_superblock(second);
  // A version that we cannot read may well be the newer state.
  for (const SuperblockDecoding& decoding : {std::cref(a), std::cref(b)}) {
    if (!decoding.superblock && decoding.fault == SuperblockFault::UnknownVersion) {
      return SuperblockChoiceFault{decoding.fault, decoding.version};
    }
  }
  if (!a.superblock && !b.superblock) {
    const bool nothing = a.fault == SuperblockFault::NoMagic && b.fault == SuperblockFault::NoMagic;
    return SuperblockChoiceFault{nothing ? SuperblockFault::NoMagic : SuperblockFault::BadChecksum, 0};
  }
  if (!b.superblock) return SuperblockChoice{std::move(*a.superblock), false};
  if (!a.superblock) return SuperblockChoice{std::move(*b.superblock), false};
  if (a.superblock->sequence == b.superblock->sequence) {
    if (!std::equal(first.begin(), first.end(), second.begin())) {
      return SuperblockChoiceFault{SuperblockFault::BadField, 0};
    }
    return SuperblockChoice{std::move(*a.superblock), true};
  }
  const bool first_is_newer = a.superblock->sequence > b.superblock->sequence;
  return SuperblockChoice{std::move(first_is_newer ? *a.superblock : *b.superblock), false};
}

}  // namespace lockstep::repl
