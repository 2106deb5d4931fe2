#include "replicator/link_handshake.h"

#include <sys/random.h>

#include <array>
#include <vector>

#include "io/base/check.h"
#include "replicator/metadata_format.h"

namespace lockstep::repl {

Hello make_hello(const LinkIdentity& self, const std::string& peer_name, uint64_t incarnation_half) {
  Hello hello;
  hello.incarnation_half = incarnation_half;
  hello.resource_id = resource_id_of(self.resource_name);
  hello.size_bytes = self.size_bytes;
  hello.prepared_size_bytes = self.prepared_size_bytes;
  hello.resource_name = self.resource_name;
  hello.node_name = self.node_name;
  hello.peer_name = peer_name;
  return hello;
}

std::optional<Refusal> judge_hello(const LinkIdentity& self, const Hello& theirs) {
  if (theirs.version_minimum > kProtocolVersion || theirs.version_maximum < kProtocolVersion) {
    return Refusal{RefusalReason::Version, self.node_name + " speaks version " + std::to_string(kProtocolVersion) +
                                               " of the protocol, " + theirs.node_name + " versions " +
                                               std::to_string(theirs.version_minimum) + " to " +
                                               std::to_string(theirs.version_maximum)};
  }
  if (theirs.resource_id != resource_id_of(self.resource_name) || theirs.resource_name != self.resource_name) {
    return Refusal{RefusalReason::OtherResource, self.node_name + " has resource " + self.resource_name + ", " +
                                                     theirs.node_name + " has resource " + theirs.resource_name};
  }
  if (theirs.peer_name != self.node_name) {
    return Refusal{RefusalReason::UnknownNode,
                   theirs.node_name + " means to talk to " + theirs.peer_name + ", this is " + self.node_name};
  }
  // One of both may have grown while the other was away: the smaller one can follow when it is prepared.
  const bool can_follow = (theirs.size_bytes > self.size_bytes && theirs.size_bytes == self.prepared_size_bytes) ||
                          (self.size_bytes > theirs.size_bytes && self.size_bytes == theirs.prepared_size_bytes);
  if (theirs.size_bytes != self.size_bytes && !can_follow) {
    const std::string& smaller = theirs.size_bytes < self.size_bytes ? theirs.node_name : self.node_name;
    return Refusal{RefusalReason::OtherSize, "on " + self.node_name + " the size is " +
                                                 std::to_string(self.size_bytes) + " bytes, on " + theirs.node_name +
                                                 " " + std::to_string(theirs.size_bytes) + ": correct 'size' in the " +
                                                 "configuration and create " + smaller + " again"};
  }
  return std::nullopt;
}

uint64_t random_half() {
  uint64_t half = 0;
  LOCKSTEP_CHECK(::getrandom(&half, sizeof(half), 0) == static_cast<ssize_t>(sizeof(half)));
  return half;
}

io::Task<Status> send_hello(io::Stream& stream, Hello hello) {
  std::array<uint8_t, kFrameHeaderBytes + kHelloBodyBytes> frame{};
  const size_t size = encode_hello(hello, frame);
  Status status = co_await stream.write_all(std::span<const uint8_t>(frame).first(size));
  co_return status;
}

io::Task<Status> send_refusal(io::Stream& stream, Refusal refusal) {
  std::array<uint8_t, kFrameHeaderBytes + 2 + kMaximumRefusalTextBytes> frame{};
  const size_t size = encode_refusal(refusal, frame);
  Status status = co_await stream.write_all(std::span<const uint8_t>(frame).first(size));
  co_return status;
}

io::Task<Result<Hello>> receive_hello(io::Stream& stream) {
  std::array<uint8_t, kFrameHeaderBytes + kMaximumBodyBytes> frame{};
  const std::span<uint8_t> bytes(frame);
  Status status = co_await stream.read_exact(bytes.first(kFrameHeaderBytes));
  if (!status) co_return std::move(status).error();
  const Result<FrameHeader> header = decode_frame_header(bytes.first<kFrameHeaderBytes>());
  if (!header) co_return header.error();
  status = co_await stream.read_exact(bytes.subspan(kFrameHeaderBytes, header->body_bytes));
  if (!status) co_return std::move(status).error();
  status = check_frame(*header, bytes.first(kFrameHeaderBytes + header->body_bytes));
  if (!status) co_return std::move(status).error();
  const auto body = bytes.subspan(kFrameHeaderBytes, header->body_bytes);
  if (header->kind == FrameKind::Refusal) {
    const Result<Refusal> refusal = decode_refusal(body);
    if (!refusal) co_return refusal.error();
    co_return Error{ErrorKind::Refused, 0, refusal->text};
  }
  if (header->kind != FrameKind::Hello || header->number != 0 || header->link_incarnation != 0) {
    co_return Error{ErrorKind::Corrupt, 0, "the first frame is no Hello"};
  }
  Result<Hello> hello = decode_hello(body);
  co_return hello;
}

}  // namespace lockstep::repl
