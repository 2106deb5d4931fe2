// Frames on their way to one peer: encoded as they come, and sent as many at a time as are waiting.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

#include "io/buffer_pool.h"
#include "replicator/audit_frame.h"
#include "replicator/core/message.h"

namespace lockstep::repl {

class FrameQueue {
 public:
  // Frames carry this incarnation; their numbers start after Hello's. Nothing may be queued.
  void restart(uint64_t link_incarnation);

  // The payload of a Write is held until it is sent; it must have the range's length, and not change meanwhile.
  void push(const Message& message, const io::BufferRef& payload, uint32_t payload_checksum);
  void push(const AuditFrame& frame);
  bool empty() const { return filling_.frames == 0; }
  // Waiting and being sent.
  size_t frames() const { return filling_.frames + sending_.frames; }
  uint64_t payload_bytes() const { return filling_.payload_bytes + sending_.payload_bytes; }

  // Everything that waits, in order; the pieces are valid until release(), which must come before the next take().
  std::span<const iovec> take();
  void release();
  // Drops everything, also what take() gave.
  void clear();

 private:
  struct Payload {
    size_t after_head_bytes;  // where in the heads it stands
    io::BufferRef buffer;
    size_t length_bytes;
  };
  struct Batch {
    std::vector<uint8_t> heads;
    std::vector<Payload> payloads;
    size_t frames = 0;
    uint64_t payload_bytes = 0;
    void clear();
  };

  uint64_t link_incarnation_ = 0;
  uint64_t next_number_ = 1;
  Batch filling_;
  Batch sending_;
  std::vector<iovec> pieces_;
};

}  // namespace lockstep::repl
