// The seam between who serves blocks (the NBD server) and who stores them (the replicator, or a plain file in tests).
// Everything happens on one loop's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "io/buffer_pool.h"
#include "io/signal.h"

namespace lockstep::io {

enum class BlockOperation : uint8_t { Read, Write, Flush, Trim, WriteZeroes };

class BlockRequest;

// Whoever submitted a request, and is told when it is done.
class BlockRequestOwner {
 public:
  virtual ~BlockRequestOwner() = default;
  // Called exactly once for each submitted request, from the loop, never from inside submit().
  virtual void completed(BlockRequest& request) noexcept = 0;
};

// One request in flight. It stays at its address from submit() until completed().
class BlockRequest {
 public:
  BlockOperation operation = BlockOperation::Read;
  bool fua = false;      // the data of this request is durable before completion
  bool no_hole = false;  // WriteZeroes: keep the range allocated
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;  // 0 for Flush
  // Write: the payload, length_bytes of it, unchanged until the backend drops its references (a peer may still be
  // sending from it after completion). Read: room for length_bytes, filled by the backend. Empty otherwise.
  BufferRef buffer;
  int error_errno = 0;  // set by the backend: 0, or a positive errno
  BlockRequestOwner* owner = nullptr;
  uint64_t owner_tag = 0;  // the owner's, untouched
};

// What can be asked about a range besides its data.
enum class BlockMap : uint8_t { Allocation, Dirty };

namespace extent_flag {
inline constexpr uint32_t kHole = 1U << 0;   // Allocation: a write may have to find space
inline constexpr uint32_t kZero = 1U << 1;   // Allocation: reads as zeroes
inline constexpr uint32_t kDirty = 1U << 0;  // Dirty: out of sync with a peer
}  // namespace extent_flag

struct BlockExtent {
  uint64_t length_bytes = 0;
  uint32_t flags = 0;  // extent_flag, of the map that was asked for
};

struct BlockGeometry {
  uint64_t size_bytes = 0;
  uint32_t minimum_block_bytes = 512;  // offsets and lengths are multiples of it
  uint32_t preferred_block_bytes = 4096;
  uint32_t maximum_payload_bytes = 32 * 1024 * 1024;  // of one Read or Write
  bool fast_zeroes = false;                           // WriteZeroes takes far less time than Write, always
};

class BlockBackend {
 public:
  virtual ~BlockBackend() = default;
  virtual BlockGeometry geometry() const = 0;
  // Takes the request; its range has been validated against geometry(). False: no slot is free now; the caller
  // keeps the request, waits for admission() and tries again, and meanwhile reads no further requests.
  virtual bool submit(BlockRequest& request) = 0;
  // Notified whenever a slot has become free.
  virtual Signal& admission() = 0;

  virtual bool has_map(BlockMap map) const { return map == BlockMap::Allocation; }
  // The extents from `offset_bytes` on, of requests that have completed: at least one, no neighbours alike, none empty,
  // all within the range, which lies in the device; fewer bytes than the range where `into` is full or the work
  // becomes long. At once: from memory, or from what the kernel keeps in memory. Returns how many. By default nothing
  // is known: all is data, all is in sync.
  virtual size_t extents(BlockMap map, uint64_t offset_bytes, uint64_t length_bytes, std::span<BlockExtent> into) {
    static_cast<void>(map);
    static_cast<void>(offset_bytes);
    into[0] = {length_bytes, 0};
    return 1;
  }
};

}  // namespace lockstep::io
