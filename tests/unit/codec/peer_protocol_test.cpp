// The replication link's frames: what was written is read again, and nothing else is.
#include "replicator/peer_protocol.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "io/base/crc32c.h"
#include "replicator/audit_frame.h"
#include "replicator/metadata_format.h"

using namespace lockstep;
using namespace lockstep::repl;

namespace {

constexpr uint64_t kDeviceBytes = 20 * kGiB;

std::array<Generation, kHistoryGenerations> history(uint64_t from) {
  std::array<Generation, kHistoryGenerations> generations{};
  for (uint64_t i = 0; i < generations.size(); ++i) generations[i] = {from + i, ~i};
  return generations;
}

std::vector<Message> examples() {
  static const std::array<BitmapRun, 3> runs{{{0, 1}, {10, 20}, {kDeviceBytes / kBlockBytes - 1, 1}}};
  StateReport report{
      {1, 2}, {3, 4}, {5, 6},   history(9), 77, Role::Primary, DiskState::Outdated, false, true, true, false,
      true,   3,      {10, 11}, {12, 13},   14};
  static const std::array<BlockDigest, kBlocksPerComparison> digests{{{1, 2}, {3, 4}}};
  report.known_behind = true;
  report.sees_primary = true;
  report.may_hold = 0x85;
  report.sync_base = {12, 13};
  report.sync_toward = {14, 15};
  report.unanswered_since = {16, 17};
  report.undone = {20, 21};
  report.position = {18, 19, 26};
  report.stable_position = {22, 23, 27};
  report.term = 24;
  report.ahead_term = 25;
  Acknowledged acknowledged{10, 9, 8, 2, {}};
  acknowledged.besides[0] = 11;
  acknowledged.besides[1] = UINT64_MAX;
  Acknowledged full{1, 1, 1, kAcknowledgedBesides, {}};
  full.besides.fill(5);
  return {report,
          StateChanged{Role::Secondary, DiskState::Diskless, true},
          GenerationChanged{{7, 8}, history(1), 0x81},
          Write{42, {4096, 8192}, false},
          Write{43, {kDeviceBytes - kMaximumPayloadBytes, kMaximumPayloadBytes}, true},
          WriteZeroes{44, {0, kDeviceBytes}, true, true},
          WriteZeroes{45, {512, 512}, false, false},
          StreamRules{true, false},
          StreamRules{true, true, true},
          StreamRules{true, true, false, true, 0x01020304},
          StreamRules{false, true},
          RangeDigests{46, {kDeviceBytes - kBlockBytes, kBlockBytes}, false, std::span(digests).first(1)},
          RangeDigests{47, {kBlockBytes, kBlocksPerComparison * kBlockBytes}, true, digests},
          RangeCompared{47, UINT64_MAX},
          VerifyRequest{true},
          VerifyProgress{true, 7, 8, 9},
          VerifyEnded{true, 9, 10},
          ResyncPaused{true},
          Barrier{UINT64_MAX},
          acknowledged,
          full,
          ResyncStart{{1, 1}, {1, 2}, true, false},
          ResyncStart{{1, 1}, {1, 2}, false, true},
          BitmapRuns{true, runs},
          BitmapRuns{false, {}},
          BitmapWanted{},
          ResyncProgress{5, 6},
          ResyncDone{{2, 2}, history(3), 0x7F, 0x01, 0x06, 0x02, {1, 2, 3, 4, 5, 6, 7, 8}, 9, {10, 11, 12}, {13, 14}},
          GenerationStored{{4, 4}},
          PromoteRequest{5, {6, 6}},
          PromoteAnswer{5, true},
          TakeOver{6, 0x05},
          TakeOverAnswer{6, false},
          SwitchoverRequest{7},
          SwitchoverAnswer{7, 19},
          InvalidateWanted{8},
          Lived{{9, UINT64_MAX}},
          ResizePrepare{9, kDeviceBytes},
          ResizePrepared{9, true},
          ResizeCommit{kDeviceBytes},
          ResizeCommitted{kDeviceBytes},
          InvalidateRequest{8, true},
          InvalidateAnswer{8, 21, true},
          Ping{123},
          Pong{123},
          Goodbye{GoodbyeReason::Refused, true, false},
          Goodbye{GoodbyeReason::Stopping, false, true},
          ServeRequest{{1, 2}, {3, 4}},
          ServeConfirmed{{1, 2}},
          ReadRequest{UINT64_MAX, {kDeviceBytes - kServedReadBytes, kServedReadBytes}},
          ReadReply{7, false, 512},
          ReadReply{UINT64_MAX, false, kServedReadBytes},
          ReadReply{7, true, 0},
          PauseWrites{},
          PauseWrites{true},
          WritesPaused{},
          StableThrough{UINT64_MAX, 0x40},
          PeersInSync{{6, 7}, 0x03, 0x04}};
}

uint32_t payload_bytes(const Message& message) {
  return payload_bytes_of(message);
}

std::vector<uint8_t> encode(const Message& message, uint64_t number = 3) {
  std::vector<uint8_t> frame(kMaximumFrameBytes);
  frame.resize(encode_message(message, 99, number, {payload_bytes(message), 0xABCD}, frame));
  return frame;
}

// As the link does it.
std::optional<Message> decode(std::span<const uint8_t> bytes, BodyStorage& runs) {
  if (bytes.size() < kFrameHeaderBytes) return std::nullopt;
  const auto header = decode_frame_header(bytes.first<kFrameHeaderBytes>());
  if (!header || bytes.size() != kFrameHeaderBytes + header->body_bytes) return std::nullopt;
  if (!check_frame(*header, bytes)) return std::nullopt;
  if (header->link_incarnation != 99 || header->number != 3) return std::nullopt;
  auto message = decode_message(*header, bytes.subspan(kFrameHeaderBytes), kDeviceBytes, runs);
  if (!message) return std::nullopt;
  return *message;
}

// Puts a right checksum on a frame whose content was changed on purpose.
void seal(std::vector<uint8_t>& frame) {
  std::fill_n(frame.begin() + 36, 4, uint8_t{0});
  const uint32_t crc = crc32c(frame);
  for (int i = 0; i < 4; ++i) frame[36 + i] = static_cast<uint8_t>(crc >> (8 * i));
}

}  // namespace

TEST_CASE("every message comes back as it was") {
  for (const Message& message : examples()) {
    const std::vector<uint8_t> frame = encode(message);
    const auto header = decode_frame_header(std::span<const uint8_t>(frame).first<kFrameHeaderBytes>());
    REQUIRE(header);
    INFO(to_string(header->kind));
    CHECK(header->payload_bytes == payload_bytes(message));
    CHECK(header->payload_checksum == 0xABCD);
    BodyStorage runs;
    const auto decoded = decode(frame, runs);
    REQUIRE(decoded);
    CHECK(decoded->index() == message.index());
    CHECK(encode(*decoded) == frame);
  }
}

TEST_CASE("a frame that is cut at any byte, or has a byte more, is refused") {
  BodyStorage runs;
  for (const Message& message : examples()) {
    std::vector<uint8_t> frame = encode(message);
    for (size_t length = 0; length < frame.size(); ++length) {
      if (decode(std::span<const uint8_t>(frame).first(length), runs)) FAIL("length " << length);
    }
    // Cut bodies with lengths and checksums that fit, as only a faulty peer would send them.
    for (size_t length = kFrameHeaderBytes; length < frame.size(); ++length) {
      std::vector<uint8_t> cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(length));
      const size_t body = length - kFrameHeaderBytes;
      cut[24] = static_cast<uint8_t>(body);
      cut[25] = static_cast<uint8_t>(body >> 8);
      seal(cut);
      if (decode(cut, runs)) FAIL("body of " << body << " bytes");
    }
    frame.push_back(0);
    const size_t body = frame.size() - kFrameHeaderBytes;
    frame[24] = static_cast<uint8_t>(body);
    frame[25] = static_cast<uint8_t>(body >> 8);
    seal(frame);
    CHECK_FALSE(decode(frame, runs));
  }
}

TEST_CASE("every single flipped bit of a frame is noticed") {
  BodyStorage runs;
  for (const Message& message : examples()) {
    const std::vector<uint8_t> intact = encode(message);
    for (size_t bit = 0; bit < intact.size() * 8; ++bit) {
      std::vector<uint8_t> flipped = intact;
      flipped[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
      if (decode(flipped, runs)) FAIL("bit " << bit << " was flipped unnoticed");
    }
  }
}

TEST_CASE("random bytes, and random bodies under a right checksum, do no harm") {
  std::mt19937_64 random(11);
  BodyStorage runs;
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> bytes(kFrameHeaderBytes + random() % 400);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    CHECK_FALSE(decode(bytes, runs));
    const std::vector<uint8_t> header = encode(Ping{1});
    std::copy_n(header.begin(), kFrameHeaderBytes, bytes.begin());
    bytes[5] = static_cast<uint8_t>(random() % 70);
    bytes[24] = static_cast<uint8_t>(bytes.size() - kFrameHeaderBytes);
    bytes[25] = static_cast<uint8_t>((bytes.size() - kFrameHeaderBytes) >> 8);
    seal(bytes);
    if (const auto message = decode(bytes, runs)) {
      // Whatever was accepted is a message that can be said.
      CHECK(encode(*message).size() == bytes.size());
    }
  }
}

TEST_CASE("a message's content is bounded") {
  BodyStorage runs;
  const auto accepted = [&](const Message& message) { return decode(encode(message), runs).has_value(); };
  CHECK(accepted(Write{1, {0, 512}, false}));
  CHECK_FALSE(accepted(Write{1, {0, 0}, false}));
  CHECK_FALSE(accepted(Write{1, {1, 512}, false}));
  CHECK_FALSE(accepted(Write{1, {0, 513}, false}));
  CHECK_FALSE(accepted(Write{1, {kDeviceBytes, 512}, false}));
  CHECK_FALSE(accepted(Write{1, {UINT64_MAX - 511, 512}, false}));
  CHECK_FALSE(accepted(WriteZeroes{1, {512, kDeviceBytes}, false, false}));
  CHECK_FALSE(accepted(WriteZeroes{1, {512, UINT64_MAX - 511}, false, false}));
  CHECK(accepted(ReadRequest{1, {512, kServedReadBytes}}));
  CHECK_FALSE(accepted(ReadRequest{1, {0, kServedReadBytes + 512}}));
  CHECK_FALSE(accepted(ReadRequest{1, {0, 0}}));
  CHECK_FALSE(accepted(ReadRequest{1, {kDeviceBytes, 512}}));
  CHECK_FALSE(accepted(ReadReply{1, true, 512}));
  CHECK_FALSE(accepted(ReadReply{1, false, 0}));
  CHECK_FALSE(accepted(ReadReply{1, false, kServedReadBytes + 1}));
  const auto accepted_run = [&](BitmapRun run) {
    const std::array<BitmapRun, 1> one{run};
    return accepted(BitmapRuns{true, one});
  };
  CHECK(accepted_run({0, kDeviceBytes / kBlockBytes}));
  CHECK_FALSE(accepted_run({0, kDeviceBytes / kBlockBytes + 1}));
  CHECK_FALSE(accepted_run({1, kDeviceBytes / kBlockBytes}));
  CHECK_FALSE(accepted_run({1, UINT64_MAX}));
  CHECK_FALSE(accepted_run({1, 0}));
}

TEST_CASE("a header's lengths are bounded before anything is done with them") {
  std::vector<uint8_t> frame = encode(Ping{1});
  const auto verdict = [&] { return decode_frame_header(std::span<const uint8_t>(frame).first<kFrameHeaderBytes>()); };
  REQUIRE(verdict());
  frame[26] = 1;  // a body of 64 KiB
  CHECK(verdict().error().kind == ErrorKind::Corrupt);
  frame[26] = 0;
  frame[28] = 1;  // a payload on a Ping
  CHECK(verdict().error().kind == ErrorKind::Corrupt);
  frame = encode(Write{1, {0, kMaximumPayloadBytes}, false});
  REQUIRE(verdict());
  frame[28] = 1;  // a payload a byte too long
  CHECK(verdict().error().kind == ErrorKind::Corrupt);
  frame = encode(Ping{1});
  frame[4] = 2;
  CHECK(verdict().error().kind == ErrorKind::Unsupported);
}

TEST_CASE("Hello and Refusal come back as they were") {
  const Hello hello{
      1, 3, 0x1234, resource_id_of("pgdata"), kDeviceBytes, 2 * kDeviceBytes, "pgdata", "alpha", std::string(64, 'b')};
  std::vector<uint8_t> frame(kMaximumFrameBytes);
  frame.resize(encode_hello(hello, frame));
  auto header = decode_frame_header(std::span<const uint8_t>(frame).first<kFrameHeaderBytes>());
  REQUIRE(header);
  CHECK(header->kind == FrameKind::Hello);
  CHECK(check_frame(*header, frame));
  const std::span<const uint8_t> body = std::span<const uint8_t>(frame).subspan(kFrameHeaderBytes);
  const auto decoded = decode_hello(body);
  REQUIRE(decoded);
  CHECK(*decoded == hello);
  for (size_t length = 0; length < body.size(); ++length) CHECK_FALSE(decode_hello(body.first(length)));
  for (size_t bit = 0; bit < frame.size() * 8; ++bit) {
    std::vector<uint8_t> flipped = frame;
    flipped[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    const auto flipped_header = decode_frame_header(std::span<const uint8_t>(flipped).first<kFrameHeaderBytes>());
    if (!flipped_header || flipped_header->body_bytes != header->body_bytes) continue;
    if (check_frame(*flipped_header, flipped)) FAIL("bit " << bit << " was flipped unnoticed");
  }

  const Refusal refusal{RefusalReason::OtherSize, "the size is another"};
  std::vector<uint8_t> refused(kMaximumFrameBytes);
  refused.resize(encode_refusal(refusal, refused));
  const auto again = decode_refusal(std::span<const uint8_t>(refused).subspan(kFrameHeaderBytes));
  REQUIRE(again);
  CHECK(*again == refusal);
  // A long text is cut, and control characters do not reach a terminal.
  refused.assign(kMaximumFrameBytes, 0);
  refused.resize(encode_refusal({RefusalReason::Version, std::string(1000, '\x1b')}, refused));
  const auto cut = decode_refusal(std::span<const uint8_t>(refused).subspan(kFrameHeaderBytes));
  REQUIRE(cut);
  CHECK(cut->text == std::string(kMaximumRefusalTextBytes, '?'));
}

TEST_CASE("frames of the audit log come back as they were, and nothing else passes for one") {
  const std::string longest = "{\"verb\":\"" + std::string(kMaximumAuditLineBytes - 11, 'x') + "\"}";
  for (const AuditFrame& audit : {AuditFrame{FrameKind::AuditWanted, 17, ""}, AuditFrame{FrameKind::AuditLine, 1, "{}"},
                                  AuditFrame{FrameKind::AuditLine, UINT64_MAX, longest}}) {
    std::vector<uint8_t> frame(kMaximumFrameBytes);
    frame.resize(encode_audit_frame(audit, 5, 9, frame));
    const auto header = decode_frame_header(std::span<const uint8_t>(frame).first<kFrameHeaderBytes>());
    REQUIRE(header);
    CHECK(header->kind == audit.kind);
    CHECK(header->link_incarnation == 5);
    CHECK(header->number == 9);
    CHECK(check_frame(*header, frame));
    const std::span<const uint8_t> body = std::span<const uint8_t>(frame).subspan(kFrameHeaderBytes);
    const auto decoded = decode_audit_frame(*header, body);
    REQUIRE(decoded);
    CHECK(*decoded == audit);
    for (size_t length = 0; length < 8; ++length) CHECK_FALSE(decode_audit_frame(*header, body.first(length)));
    auto storage = std::make_unique<BodyStorage>();
    CHECK_FALSE(decode_message(*header, body, kDeviceBytes, *storage));
  }
  const auto decode = [](FrameKind kind, const std::string& line) {
    std::vector<uint8_t> body(8);
    body.insert(body.end(), line.begin(), line.end());
    return decode_audit_frame({.kind = kind}, body);
  };
  CHECK(decode(FrameKind::AuditLine, "{}"));
  CHECK_FALSE(decode(FrameKind::AuditLine, ""));
  CHECK_FALSE(decode(FrameKind::AuditLine, "{\n}"));
  CHECK_FALSE(decode(FrameKind::AuditLine, std::string(kMaximumAuditLineBytes + 1, 'x')));
  CHECK_FALSE(decode(FrameKind::AuditWanted, "{}"));
  CHECK_FALSE(decode(FrameKind::Ping, ""));
}

TEST_CASE("both sides agree on a link's incarnation, and other halves give another") {
  CHECK(link_incarnation(1, 2) == link_incarnation(1, 2));
  CHECK(link_incarnation(1, 2) != link_incarnation(2, 1));
  CHECK(link_incarnation(0, 0) != 0);
}
