#include "replicator/frame_queue.h"

#include <array>
#include <utility>

#include "io/base/check.h"
#include "replicator/peer_protocol.h"

namespace lockstep::repl {

void FrameQueue::Batch::clear() {
  heads.clear();
  payloads.clear();
  frames = 0;
  payload_bytes = 0;
}

void FrameQueue::restart(uint64_t link_incarnation) {
  LOCKSTEP_CHECK(frames() == 0);
  link_incarnation_ = link_incarnation;
  next_number_ = 1;
}

void FrameQueue::push(const Message& message, const io::BufferRef& payload, uint32_t payload_checksum) {
  std::array<uint8_t, kMaximumFrameBytes> frame;
  const uint32_t length = payload_bytes_of(message);
  const size_t size =
      encode_message(message, link_incarnation_, next_number_++, {length, length == 0 ? 0 : payload_checksum}, frame);
  filling_.heads.insert(filling_.heads.end(), frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size));
  ++filling_.frames;
  if (length == 0) return;
  LOCKSTEP_CHECK(payload && payload.size_bytes() >= length);
  filling_.payloads.push_back({filling_.heads.size(), payload, length});
  filling_.payload_bytes += length;
}

void FrameQueue::push(const AuditFrame& audit) {
  std::array<uint8_t, kMaximumFrameBytes> frame;
  const size_t size = encode_audit_frame(audit, link_incarnation_, next_number_++, frame);
  filling_.heads.insert(filling_.heads.end(), frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size));
  ++filling_.frames;
}

std::span<const iovec> FrameQueue::take() {
  LOCKSTEP_CHECK(sending_.frames == 0);
  std::swap(filling_, sending_);
  pieces_.clear();
  size_t from = 0;
  const auto add_heads_until = [&](size_t to) {
    if (to > from) pieces_.push_back({sending_.heads.data() + from, to - from});
    from = to;
  };
  for (const Payload& payload : sending_.payloads) {
    add_heads_until(payload.after_head_bytes);
    pieces_.push_back({payload.buffer.data(), payload.length_bytes});
  }
  add_heads_until(sending_.heads.size());
  return pieces_;
}

void FrameQueue::release() {
  sending_.clear();
}

void FrameQueue::clear() {
  filling_.clear();
  sending_.clear();
}

}  // namespace lockstep::repl
