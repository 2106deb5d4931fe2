// What a client can ask about a range besides its data: where zeroes are, and what is out of sync.
#include <algorithm>

#include "io/base/check.h"
#include "io/file_map.h"
#include "replicator/driver.h"

namespace lockstep::repl {
namespace {

// Appends a run, to the one before where both are alike. False when there is no room.
bool append(std::span<io::BlockExtent> into, size_t& count, uint64_t length_bytes, uint32_t flags) {
  if (count > 0 && into[count - 1].flags == flags) {
    into[count - 1].length_bytes += length_bytes;
    return true;
  }
  if (count == into.size()) return false;
  into[count++] = {length_bytes, flags};
  return true;
}

}  // namespace

bool Driver::has_map(io::BlockMap map) const {
  return map == io::BlockMap::Allocation || !links_.empty();
}

size_t Driver::extents(io::BlockMap map, uint64_t offset_bytes, uint64_t length_bytes,
                       std::span<io::BlockExtent> into) {
  if (map == io::BlockMap::Dirty) return dirty_extents(offset_bytes, length_bytes, into);
  if (disk_ != nullptr && replica_.status().disk_state == DiskState::UpToDate) {
    return io::FileMap(disk().descriptor()).extents(offset_bytes, length_bytes, into);
  }
  // What this disk holds is not what a client reads.
  into[0] = {length_bytes, 0};
  return 1;
}

// Out of sync with any peer.
size_t Driver::dirty_extents(uint64_t offset_bytes, uint64_t length_bytes, std::span<io::BlockExtent> into) const {
  const uint64_t end = offset_bytes + length_bytes;
  size_t count = 0;
  uint64_t at = offset_bytes;
  while (at < end) {
    const uint64_t block = at / kBlockBytes;
    const auto page = static_cast<uint32_t>(block / kBlocksPerBitmapPage);
    const uint64_t word = block % kBlocksPerBitmapPage / 64;
    uint64_t bits = 0;
    for (PeerIndex peer = 0; peer < links_.size(); ++peer) bits |= replica_.bitmap_words(peer, page)[word];
    // A page holds whole words: all 64 blocks, or one after the other.
    const uint64_t first = block % 64;
    const bool uniform = bits == 0 || bits == UINT64_MAX;
    const uint64_t blocks = uniform ? 64 - first : 1;
    const uint64_t run_end = std::min(end, (block + blocks) * kBlockBytes);
    const uint32_t flags = (bits >> first & 1) != 0 ? io::extent_flag::kDirty : 0;
    if (!append(into, count, run_end - at, flags)) break;
    at = run_end;
  }
  return count;
}

}  // namespace lockstep::repl
