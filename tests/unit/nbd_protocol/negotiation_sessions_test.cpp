// The negotiation as a table of sessions: what a client sends, and what each option is answered with.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "io/base/bytes.h"
#include "nbd-server/negotiation.h"

namespace lockstep::nbd {
namespace {

using Bytes = std::vector<uint8_t>;
using Phase = Negotiation::Phase;

// Three exports: open, refused, and open with TLS only.
class Exports final : public ExportDirectory {
 public:
  std::vector<ExportOffer> list() const override { return {offer("pgdata"), offer("standby"), offer("vault")}; }
  std::optional<ExportOffer> find(std::string_view name) const override {
    if (name.empty()) return offer("pgdata");
    if (name == "pgdata" || name == "standby" || name == "vault") return offer(std::string(name));
    return std::nullopt;
  }
  bool shutting_down() const override { return stopping; }

  bool stopping = false;

 private:
  static ExportOffer offer(const std::string& name) {
    ExportOffer offer;
    offer.name = name;
    offer.limits.size_bytes = 1 << 30;
    offer.contexts = {MetaContext::Allocation, MetaContext::Dirty};
    offer.refused = name == "standby";
    offer.refusal = offer.refused ? "this node is Secondary" : "";
    offer.tls_only = name == "vault";
    return offer;
  }
};

void add(Bytes& to, std::string_view text) {
  const auto size = static_cast<uint32_t>(text.size());
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<uint8_t>(size >> shift));
  to.insert(to.end(), text.begin(), text.end());
}
Bytes info(std::string_view name) {
  Bytes data;
  add(data, name);
  data.insert(data.end(), {0, 0});
  return data;
}
Bytes contexts(std::string_view name, const std::vector<std::string>& queries) {
  Bytes data;
  add(data, name);
  data.insert(data.end(), {0, 0, 0, static_cast<uint8_t>(queries.size())});
  for (const std::string& query : queries) add(data, query);
  return data;
}
Bytes text(std::string_view name) {
  return {name.begin(), name.end()};
}

struct Step {
  Option option;
  Bytes data;
  // The types of the replies, shortened: A ack, S server, I info, M context; errors: u unsup, p policy, i invalid,
  // t TLS first, x unknown export, d shutdown, b too big, e extended headers first. "*": the EXPORT_NAME answer.
  const char* replies;
};

char letter(OptionReplyType type) {
  switch (type) {
    case OptionReplyType::Ack:
      return 'A';
    case OptionReplyType::Server:
      return 'S';
    case OptionReplyType::Info:
      return 'I';
    case OptionReplyType::MetaContext:
      return 'M';
    case OptionReplyType::ErrUnsup:
      return 'u';
    case OptionReplyType::ErrPolicy:
      return 'p';
    case OptionReplyType::ErrInvalid:
      return 'i';
    case OptionReplyType::ErrTlsReqd:
      return 't';
    case OptionReplyType::ErrUnknown:
      return 'x';
    case OptionReplyType::ErrShutdown:
      return 'd';
    case OptionReplyType::ErrTooBig:
      return 'b';
    case OptionReplyType::ErrExtHeaderReqd:
      return 'e';
    default:
      return '?';
  }
}

Bytes option_bytes(Option option, const Bytes& data) {
  Bytes bytes(kOptionHeaderBytes);
  encode(OptionHeader{static_cast<uint32_t>(option), static_cast<uint32_t>(data.size())},
         std::span(bytes).first<kOptionHeaderBytes>());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

std::string letters_of(std::span<const uint8_t> left) {
  std::string letters;
  while (!left.empty()) {
    const auto header = decode_option_reply_header(left);
    if (!header) return "*";
    letters += letter(header->type);
    left = left.subspan(kOptionReplyHeaderBytes + header->length_bytes);
  }
  return letters;
}

struct Row {
  const char* name;
  std::vector<Step> steps;
  TlsMode tls = TlsMode::Off;
  Phase end = Phase::Options;
  ReplyForm form = ReplyForm::Simple;
  MetaContextSet selected = {};
  uint8_t client_flags = 3;
};

const Option kUnknown = static_cast<Option>(77);

std::vector<Row> rows() {
  const Bytes big(kMaximumOptionBytes + 1, 1);
  std::vector<Row> rows;
  const auto row = [&](Row added) { rows.push_back(std::move(added)); };

  row({"structured replies, then GO",
       {{Option::StructuredReply, {}, "A"}, {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Structured});
  row({"extended headers without structured replies first",
       {{Option::ExtendedHeaders, {}, "A"}, {Option::Go, info(""), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Extended});
  row({"extended headers win, and there is no way back",
       {{Option::StructuredReply, {}, "A"},
        {Option::ExtendedHeaders, {}, "A"},
        {Option::StructuredReply, {}, "e"},
        {Option::Go, info(""), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Extended});
  row({"data where none belongs",
       {{Option::StructuredReply, {1}, "i"},
        {Option::ExtendedHeaders, {1}, "i"},
        {Option::List, {1}, "i"},
        {Option::Go, info(""), "IIA"}},
       TlsMode::Off,
       Phase::Transmission});
  row({"EXPORT_NAME after extended headers",
       {{Option::ExtendedHeaders, {}, "A"}, {Option::ExportName, {}, ""}},
       TlsMode::Off,
       Phase::Ended,
       ReplyForm::Extended});
  row({"EXPORT_NAME with structured replies",
       {{Option::StructuredReply, {}, "A"}, {Option::ExportName, text("pgdata"), "*"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Structured});
  row({"INFO goes on, GO of the same gives the same",
       {{Option::Info, info("pgdata"), "IIA"}, {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission});
  row({"unknown and refused exports leave the session",
       {{Option::Info, info("nowhere"), "x"},
        {Option::Go, info("nowhere"), "x"},
        {Option::Go, info("standby"), "p"},
        {Option::ListMetaContext, contexts("nowhere", {}), "x"},
        {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission});
  row({"unknown options, short and too long",
       {{kUnknown, {1, 2, 3}, "u"}, {kUnknown, big, "b"}, {Option::PeekExport, {}, "u"}, {Option::List, {}, "SSA"}}});
  row({"ABORT, with data nobody looks at", {{Option::Abort, {1, 2}, "A"}}, TlsMode::Off, Phase::Ended});
  row({"ABORT with more data than an option may have", {{Option::Abort, big, "A"}}, TlsMode::Off, Phase::Ended});

  row({"a context is selected",
       {{Option::StructuredReply, {}, "A"},
        {Option::SetMetaContext, contexts("pgdata", {"base:allocation"}), "MA"},
        {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Structured,
       {MetaContext::Allocation}});
  row({"both contexts, each once although asked twice",
       {{Option::ExtendedHeaders, {}, "A"},
        {Option::SetMetaContext, contexts("", {"lockstep:dirty", "base:allocation", "lockstep:dirty"}), "MMA"},
        {Option::Go, info(""), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Extended,
       {MetaContext::Allocation, MetaContext::Dirty}});
  row({"a selection before structured replies",
       {{Option::SetMetaContext, contexts("pgdata", {"base:allocation"}), "i"}, {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission});
  row({"LIST of contexts before structured replies, all and by namespace",
       {{Option::ListMetaContext, contexts("pgdata", {}), "MMA"},
        {Option::ListMetaContext, contexts("pgdata", {"base:"}), "MA"},
        {Option::ListMetaContext, contexts("pgdata", {"lockstep:"}), "MA"},
        {Option::ListMetaContext, contexts("pgdata", {"qemu:"}), "A"}}});
  row({"wildcards and unknown contexts select nothing",
       {{Option::StructuredReply, {}, "A"},
        {Option::SetMetaContext, contexts("pgdata", {"base:", "base:nonsense", "qemu:x", "y"}), "A"},
        {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Structured});
  row({"the last selection counts, also an empty one",
       {{Option::StructuredReply, {}, "A"},
        {Option::SetMetaContext, contexts("pgdata", {"base:allocation"}), "MA"},
        {Option::SetMetaContext, contexts("pgdata", {}), "A"},
        {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Structured});
  row({"a selection that fails takes the one before with it",
       {{Option::StructuredReply, {}, "A"},
        {Option::SetMetaContext, contexts("pgdata", {"base:allocation"}), "MA"},
        {Option::SetMetaContext, {0, 0, 0, 9}, "i"},
        {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Structured});
  row({"a selection for another export does not count",
       {{Option::StructuredReply, {}, "A"},
        {Option::SetMetaContext, contexts("vault", {"base:allocation"}), "p"},
        {Option::SetMetaContext, contexts("standby", {"base:allocation"}), "p"},
        {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Structured});
  row({"the default export by its own name is the same export",
       {{Option::StructuredReply, {}, "A"},
        {Option::SetMetaContext, contexts("", {"lockstep:dirty"}), "MA"},
        {Option::ExportName, text("pgdata"), "*"}},
       TlsMode::Off,
       Phase::Transmission,
       ReplyForm::Structured,
       {MetaContext::Dirty}});

  row({"TLS off", {{Option::StartTls, {}, "u"}, {Option::Go, info("vault"), "p"}, {Option::List, {}, "SSA"}}});
  row({"TLS on: STARTTLS is acknowledged", {{Option::StartTls, {}, "A"}}, TlsMode::On, Phase::StartTls});
  row({"TLS on: STARTTLS with data", {{Option::StartTls, {0}, "i"}, {Option::List, {}, "SSA"}}, TlsMode::On});
  row({"TLS on: exports that need it say so, others are open",
       {{Option::Info, info("vault"), "t"},
        {Option::Go, info("vault"), "t"},
        {Option::ListMetaContext, contexts("vault", {}), "t"},
        {Option::Go, info("pgdata"), "IIA"}},
       TlsMode::On,
       Phase::Transmission});
  row({"TLS on: EXPORT_NAME of an export that needs it",
       {{Option::ExportName, text("vault"), ""}},
       TlsMode::On,
       Phase::Ended});
  row({"TLS required: everything else is sent to it",
       {{Option::List, {}, "t"},
        {Option::Info, info("pgdata"), "t"},
        {Option::Go, info("pgdata"), "t"},
        {Option::Go, info("nowhere"), "t"},
        {Option::StructuredReply, {}, "t"},
        {Option::ExtendedHeaders, {}, "t"},
        {Option::SetMetaContext, contexts("pgdata", {}), "t"},
        {Option::ListMetaContext, {}, "t"},
        {kUnknown, {}, "t"},
        {kUnknown, big, "t"},
        {Option::List, {1}, "t"},
        {Option::StartTls, {}, "A"}},
       TlsMode::Require,
       Phase::StartTls});
  row({"TLS required: ABORT works", {{Option::Abort, {}, "A"}}, TlsMode::Require, Phase::Ended});
  row({"TLS required: EXPORT_NAME ends it",
       {{Option::ExportName, text("pgdata"), ""}},
       TlsMode::Require,
       Phase::Ended});
  row({"TLS required of a client without fixed newstyle", {}, TlsMode::Require, Phase::Ended, {}, {}, 0});
  row({"TLS is not offered to a client without fixed newstyle",
       {{Option::StartTls, {}, "u"}},
       TlsMode::On,
       Phase::Options,
       {},
       {},
       2});
  return rows;
}

// Sends one option whole, and gives the letters of what comes back.
std::string ask(Negotiation& machine, const Step& step) {
  const Bytes bytes = option_bytes(step.option, step.data);
  Bytes reply;
  std::span<const uint8_t> left(bytes);
  while (!left.empty()) {
    const size_t taken = machine.advance(left, reply);
    if (taken == 0) break;
    left = left.subspan(taken);
  }
  return letters_of(reply);
}

void start(Negotiation& machine, uint8_t client_flags) {
  Bytes reply;
  REQUIRE(machine.advance(Bytes{0, 0, 0, client_flags}, reply) == 4);
}

}  // namespace

TEST_CASE("sessions, option by option") {
  for (const Row& row : rows()) {
    INFO(row.name);
    Exports exports;
    Negotiation machine(exports, row.tls);
    start(machine, row.client_flags);
    for (size_t i = 0; i < row.steps.size(); ++i) {
      CAPTURE(i);
      CHECK(ask(machine, row.steps[i]) == row.steps[i].replies);
    }
    CHECK(machine.phase() == row.end);
    if (row.end != Phase::Transmission) continue;
    CHECK(machine.reply_form() == row.form);
    CHECK(machine.contexts() == row.selected);
    CHECK(machine.agreed_export().limits.block_status == !row.selected.empty());
  }
}

TEST_CASE("nothing that was negotiated before TLS holds after it") {
  Exports exports;
  Negotiation machine(exports, TlsMode::On);
  start(machine, 3);
  CHECK(ask(machine, {Option::ExtendedHeaders, {}, ""}) == "A");
  CHECK(ask(machine, {Option::SetMetaContext, contexts("pgdata", {"base:allocation"}), ""}) == "MA");
  CHECK(ask(machine, {Option::StartTls, {}, ""}) == "A");
  Bytes reply;
  CHECK(machine.advance(option_bytes(Option::List, {}), reply) == 0);
  machine.tls_started();
  CHECK(ask(machine, {Option::StartTls, {}, ""}) == "i");
  CHECK(ask(machine, {Option::List, {}, ""}) == "SSSA");
  CHECK(ask(machine, {Option::Go, info("vault"), ""}) == "IIA");
  CHECK(machine.reply_form() == ReplyForm::Simple);
  CHECK(machine.contexts().empty());
}

TEST_CASE("a server that shuts down carries out nothing but ABORT") {
  Exports exports;
  exports.stopping = true;
  for (const Option option : {Option::List, Option::Info, Option::Go, Option::StartTls, Option::StructuredReply,
                              Option::ExtendedHeaders, Option::SetMetaContext, kUnknown}) {
    Negotiation machine(exports, TlsMode::On);
    start(machine, 3);
    CHECK(ask(machine, {option, info(""), ""}) == "d");
    CHECK(ask(machine, {Option::Abort, {}, ""}) == "A");
  }
  Negotiation machine(exports);
  start(machine, 3);
  CHECK(ask(machine, {Option::ExportName, {}, ""}).empty());
  CHECK(machine.phase() == Phase::Ended);
}

TEST_CASE("block sizes bind a client that asked for them in GO") {
  Exports exports;
  for (const bool asks : {false, true}) {
    Negotiation machine(exports);
    start(machine, 3);
    Bytes data;
    add(data, "pgdata");
    if (asks) data.insert(data.end(), {0, 1, 0, 3});
    if (!asks) data.insert(data.end(), {0, 0});
    CHECK(ask(machine, {Option::Info, data, ""}) == "IIA");
    CHECK(ask(machine, {Option::Go, data, ""}) == "IIA");
    CHECK(machine.block_sizes_agreed() == asks);
  }
}

TEST_CASE("the flag for BLOCK_STATUS with a payload goes with extended headers and a selection") {
  ExportLimits limits;
  CHECK((transmission_flags(limits, ReplyForm::Extended) & transmission_flag::kBlockStatusPayload) == 0);
  limits.block_status = true;
  CHECK((transmission_flags(limits, ReplyForm::Extended) & transmission_flag::kBlockStatusPayload) != 0);
  CHECK((transmission_flags(limits, ReplyForm::Structured) & transmission_flag::kBlockStatusPayload) == 0);
  CHECK((transmission_flags(limits, ReplyForm::Simple) & transmission_flag::kSendDf) == 0);
}

}  // namespace lockstep::nbd
