// The seam between who serves blocks (the NBD server) and who stores them (the replicator, or a plain file in tests).
// Everything happens on one loop's thread.
#pragma once

#include <cstdint>

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

struct BlockGeometry {
  uint64_t size_bytes = 0;
  uint32_t minimum_block_bytes = 512;  // offsets and lengths are multiples of it
  uint32_t preferred_block_bytes = 4096;
  uint32_t maximum_payload_bytes = 32 * 1024 * 1024;  // of one Read or Write
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
};

}  // namespace lockstep::io
