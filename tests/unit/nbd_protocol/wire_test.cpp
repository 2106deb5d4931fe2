#include "nbd-server/wire.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <random>
#include <string>
#include <vector>

namespace lockstep::nbd {
namespace {

std::vector<uint8_t> random_bytes(std::mt19937_64& random, size_t length) {
  std::vector<uint8_t> bytes(length);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// Encodes, decodes, compares, and lets every shorter piece fail.
template <size_t Bytes, typename Structure, typename Encode, typename Decode>
void check_round_trip(const Structure& structure, Encode encode_it, Decode decode_it) {
  std::array<uint8_t, Bytes> bytes{};
  encode_it(structure, bytes);
  const auto decoded = decode_it(bytes);
  REQUIRE(decoded.has_value());
  REQUIRE(*decoded == structure);
  for (size_t length = 0; length < Bytes; ++length) {
    REQUIRE_FALSE(decode_it(std::span<const uint8_t>(bytes).first(length)).has_value());
  }
  bytes[1] ^= 0x10;  // inside the magic number of each structure
  REQUIRE_FALSE(decode_it(bytes).has_value());
}

Request random_request(std::mt19937_64& random) {
  return {static_cast<uint16_t>(random()), static_cast<uint16_t>(random()), random(), random(), random()};
}

ChunkHeader random_chunk(std::mt19937_64& random) {
  return {static_cast<uint16_t>(random()), static_cast<ChunkType>(static_cast<uint16_t>(random())), random(), random(),
          random()};
}

}  // namespace

TEST_CASE("every fixed structure survives a round trip and no truncation") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200; ++i) {
    check_round_trip<kGreetingBytes>(
        Greeting{static_cast<uint16_t>(random())}, [](const auto& s, auto& to) { encode(s, to); }, decode_greeting);
    check_round_trip<kOptionHeaderBytes>(
        OptionHeader{static_cast<uint32_t>(random()), static_cast<uint32_t>(random())},
        [](const auto& s, auto& to) { encode(s, to); }, decode_option_header);
    check_round_trip<kOptionReplyHeaderBytes>(
        OptionReplyHeader{static_cast<uint32_t>(random()),
                          static_cast<OptionReplyType>(static_cast<uint32_t>(random())),
                          static_cast<uint32_t>(random())},
        [](const auto& s, auto& to) { encode(s, to); }, decode_option_reply_header);
    check_round_trip<kSimpleReplyBytes>(
        SimpleReply{static_cast<WireError>(static_cast<uint32_t>(random())), random()},
        [](const auto& s, auto& to) { encode(s, to); }, decode_simple_reply);
    Request request = random_request(random);
    check_round_trip<kExtendedRequestBytes>(
        request, [](const auto& s, auto& to) { encode_extended(s, to); }, decode_extended_request);
    request.length_bytes &= UINT32_MAX;
    check_round_trip<kRequestBytes>(
        request, [](const auto& s, auto& to) { encode_compact(s, to); }, decode_compact_request);
    ChunkHeader chunk = random_chunk(random);
    check_round_trip<kExtendedChunkHeaderBytes>(
        chunk, [](const auto& s, auto& to) { encode_extended(s, to); }, decode_extended_chunk);
    chunk.length_bytes &= UINT32_MAX;
    chunk.offset_bytes = 0;
    check_round_trip<kChunkHeaderBytes>(
        chunk, [](const auto& s, auto& to) { encode_compact(s, to); }, decode_compact_chunk);
  }
}

TEST_CASE("the bytes of a request are those of the protocol document") {
  std::array<uint8_t, kRequestBytes> bytes{};
  encode_compact(
      {command_flag::kFua, static_cast<uint16_t>(Command::Write), 0x0102030405060708, 0x1112131415161718, 0x21222324},
      bytes);
  const std::array<uint8_t, kRequestBytes> expected = {0x25, 0x60, 0x95, 0x13, 0x00, 0x01, 0x00, 0x01, 0x01, 0x02,
                                                       0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x11, 0x12, 0x13, 0x14,
                                                       0x15, 0x16, 0x17, 0x18, 0x21, 0x22, 0x23, 0x24};
  CHECK(bytes == expected);
}

TEST_CASE("random bytes are decoded without harm") {
  std::mt19937_64 random(2);
  size_t accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> bytes = random_bytes(random, random() % 64);
    // Half of them begin like a request, so that the fields behind the magic number are reached, too.
    if (i % 2 == 0 && bytes.size() >= 4) bytes[0] = 0x25, bytes[1] = 0x60, bytes[2] = 0x95, bytes[3] = 0x13;
    accepted += decode_compact_request(bytes).has_value() ? 1 : 0;
    accepted += decode_extended_request(bytes).has_value() ? 1 : 0;
    accepted += decode_info_request(bytes).has_value() ? 1 : 0;
    accepted += decode_option_header(bytes).has_value() ? 1 : 0;
  }
  CHECK(accepted > 0);
  CHECK(accepted < 40000);
}

TEST_CASE("the data of INFO and GO") {
  const auto data = [](uint32_t name_length, std::string_view name, std::vector<uint16_t> wanted, uint16_t count) {
    std::vector<uint8_t> bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(name_length >> shift));
    bytes.insert(bytes.end(), name.begin(), name.end());
    bytes.push_back(static_cast<uint8_t>(count >> 8));
    bytes.push_back(static_cast<uint8_t>(count));
    for (const uint16_t type : wanted) {
      bytes.push_back(static_cast<uint8_t>(type >> 8));
      bytes.push_back(static_cast<uint8_t>(type));
    }
    return bytes;
  };

  SECTION("name and wishes") {
    const auto bytes = data(6, "pgdata", {3, 1, 99}, 3);
    const auto request = decode_info_request(bytes);
    REQUIRE(request.has_value());
    CHECK(request->name == "pgdata");
    CHECK(request->block_size_wanted);
    CHECK(request->name_wanted);
    CHECK_FALSE(request->description_wanted);
    for (size_t length = 0; length < bytes.size(); ++length) {
      REQUIRE_FALSE(decode_info_request(std::span(bytes).first(length)).has_value());
    }
  }
  SECTION("the empty name without wishes") {
    CHECK(decode_info_request(data(0, "", {}, 0)).has_value());
  }
  SECTION("a name longer than the option") {
    CHECK_FALSE(decode_info_request(data(7, "pgdata", {}, 0)).has_value());
  }
  SECTION("a name of 4 GiB") {
    CHECK_FALSE(decode_info_request(data(UINT32_MAX, "pgdata", {}, 0)).has_value());
  }
  SECTION("fewer wishes than counted") {
    CHECK_FALSE(decode_info_request(data(6, "pgdata", {1}, 2)).has_value());
  }
  SECTION("more wishes than counted") {
    CHECK_FALSE(decode_info_request(data(6, "pgdata", {1, 2}, 1)).has_value());
  }
  SECTION("NUL in the name") {
    CHECK_FALSE(decode_info_request(data(6, std::string_view("pg\0ata", 6), {}, 0)).has_value());
  }
}

TEST_CASE("strings are UTF-8 of at most 4096 bytes without NUL") {
  CHECK(valid_string(""));
  CHECK(valid_string("pgdata"));
  CHECK(valid_string("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x98"));
  CHECK(valid_string(std::string(4096, 'a')));
  CHECK_FALSE(valid_string(std::string(4097, 'a')));
  CHECK_FALSE(valid_string(std::string_view("a\0b", 3)));
  CHECK_FALSE(valid_string("\x80"));
  CHECK_FALSE(valid_string("\xc3"));              // cut
  CHECK_FALSE(valid_string("\xc3("));             // no continuation
  CHECK_FALSE(valid_string("\xc0\xaf"));          // longer than necessary
  CHECK_FALSE(valid_string("\xe0\x80\xaf"));      // longer than necessary
  CHECK_FALSE(valid_string("\xed\xa0\x80"));      // a surrogate
  CHECK_FALSE(valid_string("\xf4\x90\x80\x80"));  // past U+10FFFF
  CHECK_FALSE(valid_string("\xff"));
}

TEST_CASE("only the errors of the protocol go on the wire") {
  CHECK(wire_error(0) == WireError::None);
  CHECK(wire_error(EIO) == WireError::Eio);
  CHECK(wire_error(ENOSPC) == WireError::Enospc);
  CHECK(wire_error(EDQUOT) == WireError::Enospc);
  CHECK(wire_error(EROFS) == WireError::Eperm);
  CHECK(wire_error(ESHUTDOWN) == WireError::Eshutdown);
  CHECK(wire_error(ENOTSUP) == WireError::Eio);
  CHECK(wire_error(ENODEV) == WireError::Eio);
  CHECK(wire_error(12345) == WireError::Eio);
}

TEST_CASE("replies in each form") {
  const Request read{0, static_cast<uint16_t>(Command::Read), 77, 4096, 512};
  ReplyHead head;
  SECTION("simple success and error") {
    encode_reply(ReplyForm::Simple, read, WireError::Einval, "text that the form has no room for", head);
    REQUIRE(head.size_bytes == kSimpleReplyBytes);
    CHECK(decode_simple_reply(head.span()) == SimpleReply{WireError::Einval, 77});
    encode_read_head(ReplyForm::Simple, read, head);
    REQUIRE(head.size_bytes == kSimpleReplyBytes);
    CHECK(decode_simple_reply(head.span()) == SimpleReply{WireError::None, 77});
  }
  SECTION("structured data") {
    encode_read_head(ReplyForm::Structured, read, head);
    REQUIRE(head.size_bytes == kChunkHeaderBytes + 8);
    CHECK(decode_compact_chunk(head.span()) == ChunkHeader{kChunkDone, ChunkType::OffsetData, 77, 0, 8 + 512});
    CHECK(head.bytes[kChunkHeaderBytes + 6] == 0x10);
  }
  SECTION("structured success without data") {
    encode_reply(ReplyForm::Structured, read, WireError::None, {}, head);
    REQUIRE(head.size_bytes == kChunkHeaderBytes);
    CHECK(decode_compact_chunk(head.span()) == ChunkHeader{kChunkDone, ChunkType::None, 77, 0, 0});
  }
  SECTION("structured error with a text, which is cut") {
    encode_reply(ReplyForm::Structured, read, WireError::Enospc, std::string(3000, 'x'), head);
    CHECK(decode_compact_chunk(head.span()) == ChunkHeader{kChunkDone, ChunkType::Error, 77, 0, 6 + 100});
    REQUIRE(head.size_bytes == kChunkHeaderBytes + 106);
    CHECK(head.bytes[kChunkHeaderBytes + 3] == 28);
    CHECK(head.bytes[kChunkHeaderBytes + 5] == 100);
  }
  SECTION("extended") {
    encode_read_head(ReplyForm::Extended, read, head);
    CHECK(decode_extended_chunk(head.span()) == ChunkHeader{kChunkDone, ChunkType::OffsetData, 77, 4096, 8 + 512});
    CHECK(head.size_bytes == kExtendedChunkHeaderBytes + 8);
  }
}

}  // namespace lockstep::nbd
