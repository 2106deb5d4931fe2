#include "nbd-server/negotiation.h"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "io/base/bytes.h"

namespace lockstep::nbd {
namespace {

using Bytes = std::vector<uint8_t>;
using Phase = Negotiation::Phase;

class TwoExports final : public ExportDirectory {
 public:
  TwoExports() {
    open_.name = "pgdata";
    open_.description = "the database";
    open_.limits.size_bytes = 1ULL << 30;
    open_.contexts = {MetaContext::Allocation, MetaContext::Dirty};
    closed_.name = "standby";
    closed_.refused = true;
    closed_.refusal = "this node is Secondary; the Primary is alpha";
  }
  std::vector<ExportOffer> list() const override { return {open_, closed_}; }
  std::optional<ExportOffer> find(std::string_view name) const override {
    if (name.empty() || name == open_.name) return open_;
    if (name == closed_.name) return closed_;
    return std::nullopt;
  }

 private:
  ExportOffer open_;
  ExportOffer closed_;
};

Bytes option(uint32_t number, const Bytes& data = {}) {
  Bytes bytes(kOptionHeaderBytes);
  encode(OptionHeader{number, static_cast<uint32_t>(data.size())}, std::span(bytes).first<kOptionHeaderBytes>());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}
Bytes option(Option number, const Bytes& data = {}) {
  return option(static_cast<uint32_t>(number), data);
}

Bytes info_data(std::string_view name, const std::vector<uint16_t>& wanted = {}) {
  Bytes bytes(4 + name.size() + 2 + 2 * wanted.size());
  BigWriter writer(bytes);
  writer.u32(static_cast<uint32_t>(name.size()));
  writer.text(name);
  writer.u16(static_cast<uint16_t>(wanted.size()));
  for (const uint16_t type : wanted) writer.u16(type);
  return bytes;
}

Bytes name_data(std::string_view name) {
  return {name.begin(), name.end()};
}

struct Reply {
  uint32_t option;
  OptionReplyType type;
  std::string payload;
};

std::vector<Reply> parse_replies(const Bytes& bytes) {
  std::vector<Reply> replies;
  std::span<const uint8_t> left(bytes);
  while (!left.empty()) {
    const auto header = decode_option_reply_header(left);
    REQUIRE(header.has_value());
    left = left.subspan(kOptionReplyHeaderBytes);
    REQUIRE(left.size() >= header->length_bytes);
    replies.push_back(
        {header->option, header->type, std::string(reinterpret_cast<const char*>(left.data()), header->length_bytes)});
    left = left.subspan(header->length_bytes);
  }
  return replies;
}

// A machine and a client that speaks to it.
struct Session {
  TwoExports exports;
  Negotiation machine{exports};

  explicit Session(uint32_t client_flags = 3) {
    Bytes flags(4);
    BigWriter(flags).u32(client_flags);
    send(flags);
  }
  // Sends all bytes; what the machine leaves over must be nothing, unless the handshake is over.
  Bytes send(const Bytes& bytes) {
    Bytes reply;
    std::span<const uint8_t> left(bytes);
    while (!left.empty()) {
      const size_t taken = machine.advance(left, reply);
      if (taken == 0) break;
      left = left.subspan(taken);
    }
    if (machine.phase() != Phase::Transmission && machine.phase() != Phase::Ended) REQUIRE(left.empty());
    return reply;
  }
  std::vector<Reply> ask(const Bytes& bytes) { return parse_replies(send(bytes)); }
  // The type of the only reply.
  OptionReplyType ask_one(const Bytes& bytes) {
    const auto replies = ask(bytes);
    REQUIRE(replies.size() == 1);
    return replies[0].type;
  }
};

uint16_t flags_of(const Reply& reply) {
  BigReader reader({reinterpret_cast<const uint8_t*>(reply.payload.data()), reply.payload.size()});
  REQUIRE(reader.u16() == static_cast<uint16_t>(InfoType::Export));
  REQUIRE(reader.u64() == 1ULL << 30);
  const uint16_t flags = reader.u16();
  REQUIRE(reader.ok());
  REQUIRE(reader.left_bytes() == 0);
  return flags;
}

}  // namespace

TEST_CASE("the greeting offers fixed newstyle and no zeroes") {
  Bytes reply;
  Negotiation::greet(reply);
  REQUIRE(reply.size() == kGreetingBytes);
  CHECK(decode_greeting(reply) == Greeting{3});
}

TEST_CASE("client flags that were not offered end the session") {
  Session session(4);
  CHECK(session.machine.phase() == Phase::Ended);
  CHECK_FALSE(session.machine.why_ended().empty());
}

TEST_CASE("GO enters transmission") {
  Session session;
  const auto replies = session.ask(option(Option::Go, info_data("pgdata", {3})));
  REQUIRE(replies.size() == 3);
  CHECK(replies[0].type == OptionReplyType::Info);
  CHECK(flags_of(replies[0]) == (1 | 4 | 8 | 32 | 64 | 256 | 1024 | 2048));
  CHECK(replies[1].type == OptionReplyType::Info);
  CHECK(replies[1].payload == std::string("\0\3\0\0\2\0\0\0\x10\0\2\0\0\0", 14));
  CHECK(replies[2].type == OptionReplyType::Ack);
  CHECK(replies[2].payload.empty());
  CHECK(session.machine.phase() == Phase::Transmission);
  CHECK(session.machine.agreed_export().name == "pgdata");
  CHECK(session.machine.reply_form() == ReplyForm::Simple);
}

TEST_CASE("GO leaves the bytes behind it alone") {
  Session session;
  Bytes bytes = option(Option::Go, info_data(""));
  const size_t go_bytes = bytes.size();
  bytes.resize(go_bytes + 28);
  Bytes reply;
  CHECK(session.machine.advance(bytes, reply) == go_bytes);
  CHECK(session.machine.phase() == Phase::Transmission);
  CHECK(session.machine.advance(std::span(bytes).subspan(go_bytes), reply) == 0);
}

TEST_CASE("the empty name is the default export, and NAME tells which that is") {
  Session session;
  const auto replies = session.ask(option(Option::Info, info_data("", {1, 2})));
  REQUIRE(replies.size() == 5);
  CHECK(replies[1].payload == std::string("\0\1pgdata", 8));
  CHECK(replies[2].payload == std::string("\0\2the database", 14));
  CHECK(session.machine.phase() == Phase::Options);
}

TEST_CASE("INFO and GO of an unknown export say so, and the session goes on") {
  Session session;
  for (const Option number : {Option::Info, Option::Go}) {
    const auto replies = session.ask(option(number, info_data("nowhere")));
    REQUIRE(replies.size() == 1);
    CHECK(replies[0].option == static_cast<uint32_t>(number));
    CHECK(replies[0].type == OptionReplyType::ErrUnknown);
    CHECK(replies[0].payload.find("nowhere") != std::string::npos);
  }
  CHECK(session.ask(option(Option::Go, info_data("pgdata"))).back().type == OptionReplyType::Ack);
}

TEST_CASE("a refused export answers with the policy's words") {
  Session session;
  const auto replies = session.ask(option(Option::Go, info_data("standby")));
  REQUIRE(replies.size() == 1);
  CHECK(replies[0].type == OptionReplyType::ErrPolicy);
  CHECK(replies[0].payload == "this node is Secondary; the Primary is alpha");
  CHECK(session.machine.phase() == Phase::Options);
}

TEST_CASE("LIST names every export, refused ones too") {
  Session session;
  const auto replies = session.ask(option(Option::List));
  REQUIRE(replies.size() == 3);
  CHECK(replies[0].type == OptionReplyType::Server);
  CHECK(replies[0].payload == std::string("\0\0\0\6pgdatathe database", 22));
  CHECK(replies[1].payload == std::string("\0\0\0\7standby", 11));
  CHECK(replies[2].type == OptionReplyType::Ack);
}

TEST_CASE("options that take no data are refused with data") {
  Session session;
  CHECK(session.ask_one(option(Option::List, {1})) == OptionReplyType::ErrInvalid);
  CHECK(session.ask_one(option(Option::StructuredReply, {1})) == OptionReplyType::ErrInvalid);
  session.ask(option(Option::Go, info_data("")));
  CHECK(session.machine.reply_form() == ReplyForm::Simple);
}

TEST_CASE("structured replies bring DF") {
  Session session;
  CHECK(session.ask_one(option(Option::StructuredReply)) == OptionReplyType::Ack);
  const auto replies = session.ask(option(Option::Go, info_data("")));
  CHECK((flags_of(replies[0]) & transmission_flag::kSendDf) != 0);
  CHECK(session.machine.reply_form() == ReplyForm::Structured);
}

TEST_CASE("options that are not supported are answered, and the next one parses") {
  Session session;
  for (const uint32_t number : {4U, 5U, 12U, 0U, 0xffffffffU}) {
    const auto replies = session.ask(option(number, Bytes(100, 0xaa)));
    REQUIRE(replies.size() == 1);
    CHECK(replies[0].option == number);
    CHECK(replies[0].type == OptionReplyType::ErrUnsup);
  }
  CHECK(session.ask(option(Option::List)).size() == 3);
}

TEST_CASE("an option that is too big is skipped and answered") {
  Session session;
  CHECK(session.ask_one(option(77, Bytes(kMaximumOptionBytes + 1, 1))) == OptionReplyType::ErrTooBig);
  CHECK(session.ask_one(option(Option::Info, Bytes(kMaximumSkippedOptionBytes, 1))) == OptionReplyType::ErrTooBig);
  CHECK(session.ask(option(Option::List)).size() == 3);
}

TEST_CASE("an option of unreasonable length ends the session before its data") {
  Session session;
  Bytes header(kOptionHeaderBytes);
  encode(OptionHeader{6, UINT32_MAX}, std::span(header).first<kOptionHeaderBytes>());
  CHECK(session.send(header).empty());
  CHECK(session.machine.phase() == Phase::Ended);
}

TEST_CASE("malformed INFO data is refused") {
  Session session;
  Bytes data = info_data("pgdata");
  data.push_back(0);
  CHECK(session.ask_one(option(Option::Info, data)) == OptionReplyType::ErrInvalid);
  CHECK(session.ask_one(option(Option::Go, {})) == OptionReplyType::ErrInvalid);
  CHECK(session.machine.phase() == Phase::Options);
}

TEST_CASE("ABORT is acknowledged and ends the session") {
  Session session;
  CHECK(session.ask_one(option(Option::Abort, {1, 2, 3})) == OptionReplyType::Ack);
  CHECK(session.machine.phase() == Phase::Ended);
  CHECK(session.machine.why_ended().empty());
}

TEST_CASE("EXPORT_NAME") {
  SECTION("without zeroes when both sides agreed") {
    Session session;
    const Bytes reply = session.send(option(Option::ExportName, name_data("pgdata")));
    CHECK(reply.size() == 10);
    CHECK(session.machine.phase() == Phase::Transmission);
  }
  SECTION("with 124 zeroes for a client that did not") {
    Session session(1);
    const Bytes reply = session.send(option(Option::ExportName));
    CHECK(reply.size() == 134);
    CHECK(reply[3] == 0);
    CHECK(reply[4] == 0x40);  // 1 GiB
    CHECK(session.machine.agreed_export().name == "pgdata");
  }
  SECTION("from a client that is not of the fixed style") {
    Session session(0);
    CHECK(session.send(option(Option::ExportName)).size() == 134);
  }
  SECTION("of an unknown export") {
    Session session;
    CHECK(session.send(option(Option::ExportName, name_data("nowhere"))).empty());
    CHECK(session.machine.phase() == Phase::Ended);
  }
  SECTION("of a refused export") {
    Session session;
    CHECK(session.send(option(Option::ExportName, name_data("standby"))).empty());
    CHECK(session.machine.phase() == Phase::Ended);
  }
  SECTION("that is too long") {
    Session session;
    CHECK(session.send(option(Option::ExportName, Bytes(kMaximumStringBytes + 1, 'a'))).empty());
    CHECK(session.machine.phase() == Phase::Ended);
  }
}

TEST_CASE("a wrong magic number ends the session") {
  Session session;
  Bytes bytes = option(Option::List);
  bytes[3] ^= 1;
  CHECK(session.send(bytes).empty());
  CHECK(session.machine.phase() == Phase::Ended);
}

TEST_CASE("a flood of options ends the session") {
  Session session;
  for (unsigned i = 0; i < kMaximumOptions; ++i) session.send(option(99));
  REQUIRE(session.machine.phase() == Phase::Options);
  session.send(option(99));
  CHECK(session.machine.phase() == Phase::Ended);
}

TEST_CASE("the pieces in which bytes arrive make no difference") {
  Bytes script;
  for (const Bytes& bytes :
       {option(Option::StructuredReply), option(99, Bytes(300, 7)), option(Option::List),
        option(50, Bytes(kMaximumOptionBytes + 9, 1)), option(Option::Info, info_data("nowhere")),
        option(Option::Info, info_data("pgdata", {1, 2, 3})), option(Option::Go, info_data("pgdata", {3}))}) {
    script.insert(script.end(), bytes.begin(), bytes.end());
  }
  const Bytes expected = Session().send(script);

  std::mt19937_64 random(4);
  for (int round = 0; round < 50; ++round) {
    Session session;
    Bytes reply;
    Bytes window;
    size_t position = 0;
    while (session.machine.phase() != Phase::Transmission) {
      const size_t taken = session.machine.advance(window, reply);
      window.erase(window.begin(), window.begin() + static_cast<ptrdiff_t>(taken));
      if (taken > 0) continue;
      REQUIRE(position < script.size());
      const size_t piece = round == 0 ? 1 : std::min<size_t>(script.size() - position, 1 + random() % 2000);
      window.insert(window.end(), script.begin() + static_cast<ptrdiff_t>(position),
                    script.begin() + static_cast<ptrdiff_t>(position + piece));
      position += piece;
      REQUIRE(window.size() <= kNegotiationWindowBytes + 2000);
    }
    REQUIRE(reply == expected);
  }
}

TEST_CASE("whatever a client sends, the machine stays within its bounds") {
  std::mt19937_64 random(5);
  size_t agreed = 0;
  for (int round = 0; round < 3000; ++round) {
    Session session;
    for (int step = 0; step < 20; ++step) {
      Bytes bytes;
      switch (random() % 4) {
        case 0:
          bytes = Bytes(random() % 64);
          for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
          break;
        case 1: {
          bytes = option(static_cast<uint32_t>(random() % 14), info_data(random() % 2 == 0 ? "" : "nowhere", {1, 3}));
          break;
        }
        default: {
          bytes = option(static_cast<uint32_t>(random() % 14), Bytes(random() % 40, static_cast<uint8_t>(random())));
          bytes[random() % bytes.size()] ^= static_cast<uint8_t>(random() % 2);
          break;
        }
      }
      Bytes reply;
      std::span<const uint8_t> left(bytes);
      for (;;) {
        const size_t taken = session.machine.advance(left, reply);
        REQUIRE(taken <= left.size());
        if (taken == 0) break;
        left = left.subspan(taken);
      }
      REQUIRE(reply.size() < 4096);
    }
    if (session.machine.phase() == Phase::Transmission) {
      ++agreed;
      REQUIRE(session.machine.agreed_export().name == "pgdata");
    }
  }
  CHECK(agreed > 0);
}

}  // namespace lockstep::nbd
