// The replication link's frames, as a node reads them: headers, the handshake's bodies, messages. What is accepted
// must mean the same after it was encoded again. The first byte chooses the device's size, and whether checksums are
// made right first: a peer that is hostile has learnt to.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "io/base/units.h"
#include "replicator/audit_frame.h"
#include "replicator/frame_writing.h"
#include "replicator/peer_protocol.h"

namespace lockstep::repl {
namespace {

constexpr uint8_t kSealed = 0x80;

void seal(std::span<uint8_t> frame) {
  const auto field = frame.subspan(kFrameChecksumOffset, 4);
  std::fill(field.begin(), field.end(), uint8_t{0});
  LittleWriter(field).u32(crc32c(frame));
}

using Frame = std::array<uint8_t, kMaximumFrameBytes>;

// What a body means, encoded; 0 when it is refused.
size_t encode_again(const FrameHeader& header, std::span<const uint8_t> body, uint64_t device_bytes, Frame& to) {
  static const auto storage = std::make_unique<BodyStorage>();
  if (header.kind == FrameKind::Hello) {
    const auto hello = decode_hello(body);
    return hello ? encode_hello(*hello, to) : 0;
  }
  if (header.kind == FrameKind::Refusal) {
    const auto refusal = decode_refusal(body);
    return refusal ? encode_refusal(*refusal, to) : 0;
  }
  if (is_audit_frame(header.kind)) {
    const auto audit = decode_audit_frame(header, body);
    return audit && header.payload_bytes == 0 ? encode_audit_frame(*audit, header.link_incarnation, header.number, to)
                                              : 0;
  }
  const auto message = decode_message(header, body, device_bytes, *storage);
  if (!message) return 0;
  LOCKSTEP_CHECK(payload_bytes_of(*message) == header.payload_bytes);
  return encode_message(*message, header.link_incarnation, header.number,
                        {header.payload_bytes, header.payload_checksum}, to);
}

void read_body(const FrameHeader& header, std::span<const uint8_t> body, uint64_t device_bytes) {
  static Frame once;
  static Frame twice;
  const size_t bytes = encode_again(header, body, device_bytes, once);
  if (bytes == 0) return;
  const auto frame = std::span(once).first(bytes);
  const auto again = decode_frame_header(frame.first<kFrameHeaderBytes>());
  LOCKSTEP_CHECK(again && again->kind == header.kind && check_frame(*again, frame));
  LOCKSTEP_CHECK(encode_again(*again, frame.subspan(kFrameHeaderBytes), device_bytes, twice) == bytes);
  LOCKSTEP_CHECK(std::ranges::equal(frame, std::span(twice).first(bytes)));
}

void run(std::span<const uint8_t> input) {
  if (input.empty()) return;
  static std::vector<uint8_t> bytes;
  bytes.assign(input.begin() + 1, input.end());
  const uint64_t device_bytes = kBlockBytes << (input[0] % 32);
  std::span<uint8_t> left(bytes);
  while (left.size() >= kFrameHeaderBytes) {
    const auto header = decode_frame_header(left.first<kFrameHeaderBytes>());
    if (!header || header->body_bytes > left.size() - kFrameHeaderBytes) return;
    const auto frame = left.first(kFrameHeaderBytes + header->body_bytes);
    FrameHeader checked = *header;
    if ((input[0] & kSealed) != 0) {
      seal(frame);
      checked = *decode_frame_header(left.first<kFrameHeaderBytes>());
    }
    if (!check_frame(checked, frame)) return;
    read_body(checked, frame.subspan(kFrameHeaderBytes), device_bytes);
    left = left.subspan(frame.size());
    left = left.subspan(std::min<size_t>(left.size(), checked.payload_bytes));
  }
}

}  // namespace
}  // namespace lockstep::repl

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::repl::run({data, size});
  return 0;
}
