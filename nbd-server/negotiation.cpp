#include "nbd-server/negotiation.h"

#include <algorithm>
#include <utility>

#include "io/base/bytes.h"
#include "io/base/check.h"

namespace lockstep::nbd {
namespace {

std::string_view text_of(std::span<const uint8_t> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

constexpr uint32_t raw(Option option) {
  return static_cast<uint32_t>(option);
}

}  // namespace

uint16_t transmission_flags(const ExportLimits& limits, ReplyForm form) {
  uint32_t flags = transmission_flag::kHasFlags | transmission_flag::kSendFlush | transmission_flag::kSendFua |
                   transmission_flag::kSendTrim | transmission_flag::kSendWriteZeroes |
                   transmission_flag::kCanMultiConn | transmission_flag::kSendCache | transmission_flag::kSendFastZero;
  if (limits.read_only) flags |= transmission_flag::kReadOnly;
  if (form != ReplyForm::Simple) flags |= transmission_flag::kSendDf;
  if (form == ReplyForm::Extended && limits.block_status) flags |= transmission_flag::kBlockStatusPayload;
  return static_cast<uint16_t>(flags);
}

void Negotiation::greet(std::vector<uint8_t>& reply) {
  reply.resize(reply.size() + kGreetingBytes);
  encode(Greeting{handshake_flag::kFixedNewstyle | handshake_flag::kNoZeroes}, std::span(reply).last<kGreetingBytes>());
}

size_t Negotiation::advance(std::span<const uint8_t> received, std::vector<uint8_t>& reply) {
  switch (phase_) {
    case Phase::ClientFlags:
      return take_client_flags(received);
    case Phase::Skipping: {
      const size_t taken = std::min(received.size(), skip_left_bytes_);
      skip_left_bytes_ -= taken;
      if (skip_left_bytes_ == 0) {
        phase_ = Phase::Options;
        const auto option = static_cast<Option>(skipped_option_);
        if (option == Option::Abort) {
          append_option_reply(reply, skipped_option_, OptionReplyType::Ack);
          end({});
          return taken;
        }
        if (option != Option::StartTls && tls_is_missing(option, reply)) return taken;
        append_option_error(reply, skipped_option_, OptionReplyType::ErrTooBig, "the option is too long");
      }
      return taken;
    }
    case Phase::Options:
      break;
    case Phase::StartTls:
    case Phase::Transmission:
    case Phase::Ended:
      return 0;
  }

  if (received.size() < kOptionHeaderBytes) return 0;
  const std::optional<OptionHeader> header = decode_option_header(received);
  if (!header) {
    end("wrong magic number of an option");
    return kOptionHeaderBytes;
  }
  if (header->length_bytes > kMaximumSkippedOptionBytes) {
    end("an option of unreasonable length");
    return kOptionHeaderBytes;
  }
  if (header->length_bytes > kMaximumOptionBytes && header->option == raw(Option::ExportName)) {
    // EXPORT_NAME knows no error reply.
    end("an export name of unreasonable length");
    return kOptionHeaderBytes;
  }
  const bool too_long = header->length_bytes > kMaximumOptionBytes;
  if (!too_long && received.size() - kOptionHeaderBytes < header->length_bytes) return 0;
  if (++options_ > kMaximumOptions) {
    end("too many options");
    return kOptionHeaderBytes;
  }
  if (too_long) {
    phase_ = Phase::Skipping;
    skipped_option_ = header->option;
    skip_left_bytes_ = header->length_bytes;
    return kOptionHeaderBytes;
  }
  answer(static_cast<Option>(header->option), received.subspan(kOptionHeaderBytes, header->length_bytes), reply);
  return kOptionHeaderBytes + header->length_bytes;
}

size_t Negotiation::take_client_flags(std::span<const uint8_t> received) {
  if (received.size() < kClientFlagsBytes) return 0;
  BigReader reader(received);
  const uint32_t flags = reader.u32();
  constexpr uint32_t kKnown = handshake_flag::kFixedNewstyle | handshake_flag::kNoZeroes;
  if ((flags & ~kKnown) != 0) {
    end("unknown client flags");
    return kClientFlagsBytes;
  }
  // A client without the fixed-newstyle flag should send EXPORT_NAME only; if it sends more it is served all the same,
  // but it knows no TLS.
  if ((flags & handshake_flag::kFixedNewstyle) == 0) {
    if (tls_mode_ == TlsMode::Require) {
      end("TLS is required, and the client cannot negotiate it");
      return kClientFlagsBytes;
    }
    tls_mode_ = TlsMode::Off;
  }
  no_zeroes_ = (flags & handshake_flag::kNoZeroes) != 0;
  phase_ = Phase::Options;
  return kClientFlagsBytes;
}

void Negotiation::tls_started() {
  LOCKSTEP_CHECK(phase_ == Phase::StartTls);
  secure_ = true;
  phase_ = Phase::Options;
  form_ = ReplyForm::Simple;
  selection_ = {};
  selection_export_.clear();
}

bool Negotiation::tls_is_missing(Option option, std::vector<uint8_t>& reply) {
  if (tls_mode_ != TlsMode::Require || secure_) return false;
  append_option_error(reply, raw(option), OptionReplyType::ErrTlsReqd, "this server requires TLS: send STARTTLS first");
  return true;
}

void Negotiation::answer(Option option, std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  if (option == Option::Abort) {
    append_option_reply(reply, raw(option), OptionReplyType::Ack);
    return end({});
  }
  if (option == Option::ExportName) return answer_export_name(data, reply);
  if (directory_->shutting_down()) {
    return append_option_error(reply, raw(option), OptionReplyType::ErrShutdown, "this server is shutting down");
  }
  if (option == Option::StartTls) return answer_start_tls(data, reply);
  if (tls_is_missing(option, reply)) return;
  switch (option) {
    case Option::List:
      return answer_list(data, reply);
    case Option::Info:
    case Option::Go:
      return answer_info_or_go(option, data, reply);
    case Option::StructuredReply:
      return answer_structured_reply(data, reply);
    case Option::ListMetaContext:
    case Option::SetMetaContext:
      return answer_meta_context(option, data, reply);
    case Option::ExtendedHeaders:
      return answer_extended_headers(data, reply);
    default:
      return append_option_error(reply, raw(option), OptionReplyType::ErrUnsup, "this server does not know the option");
  }
}

void Negotiation::answer_export_name(std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  const std::string_view name = text_of(data);
  if (directory_->shutting_down()) return end("EXPORT_NAME while the server is shutting down");
  if (tls_mode_ == TlsMode::Require && !secure_) return end("EXPORT_NAME where TLS is required");
  if (form_ == ReplyForm::Extended) return end("EXPORT_NAME with extended headers");
  if (!valid_string(name)) return end("an export name that is no text");
  std::optional<ExportOffer> offer = directory_->find(name);
  if (!offer) return end("EXPORT_NAME for an export that does not exist");
  if (offer->tls_only && !secure_) return end("EXPORT_NAME for an export that requires TLS");
  if (offer->refused) return end("EXPORT_NAME for an export that is refused");
  append_export_name_answer(reply, offer->limits.size_bytes, transmission_flags(offer->limits, form_), !no_zeroes_);
  enter(std::move(*offer), false);
}

void Negotiation::enter(ExportOffer offer, bool block_sizes_agreed) {
  contexts_ = contexts_for(offer);
  block_sizes_agreed_ = block_sizes_agreed;
  agreed_export_ = std::move(offer);
  agreed_export_.limits.block_status = !contexts_.empty();
  phase_ = Phase::Transmission;
}

void Negotiation::answer_start_tls(std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  const auto refuse = [&](OptionReplyType type, std::string_view text) {
    append_option_error(reply, raw(Option::StartTls), type, text);
  };
  if (tls_mode_ == TlsMode::Off) return refuse(OptionReplyType::ErrUnsup, "this server has no TLS");
  if (secure_) return refuse(OptionReplyType::ErrInvalid, "the connection is encrypted already");
  if (!data.empty()) return refuse(OptionReplyType::ErrInvalid, "STARTTLS takes no data");
  append_option_reply(reply, raw(Option::StartTls), OptionReplyType::Ack);
  phase_ = Phase::StartTls;
}

void Negotiation::answer_list(std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  if (!data.empty()) {
    return append_option_error(reply, raw(Option::List), OptionReplyType::ErrInvalid, "LIST takes no data");
  }
  for (const ExportOffer& offer : directory_->list()) {
    if (offer.tls_only && !secure_) continue;
    append_server_reply(reply, raw(Option::List), offer.name, offer.description);
  }
  append_option_reply(reply, raw(Option::List), OptionReplyType::Ack);
}

std::optional<ExportOffer> Negotiation::find_export(Option option, std::string_view name, std::vector<uint8_t>& reply) {
  std::optional<ExportOffer> offer = directory_->find(name);
  if (!offer) {
    append_option_error(reply, raw(option), OptionReplyType::ErrUnknown,
                        "no export is called '" + std::string(name) + "'");
    return std::nullopt;
  }
  if (offer->tls_only && !secure_) {
    // A server without TLS must not ask for it.
    const bool possible = tls_mode_ != TlsMode::Off;
    append_option_error(reply, raw(option), possible ? OptionReplyType::ErrTlsReqd : OptionReplyType::ErrPolicy,
                        "this export requires TLS");
    return std::nullopt;
  }
  if (offer->refused) {
    append_option_error(reply, raw(option), OptionReplyType::ErrPolicy, offer->refusal);
    return std::nullopt;
  }
  return offer;
}

void Negotiation::answer_info_or_go(Option option, std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  const std::optional<InfoRequest> request = decode_info_request(data);
  if (!request) {
    return append_option_error(reply, raw(option), OptionReplyType::ErrInvalid, "the option's data is malformed");
  }
  std::optional<ExportOffer> offer = find_export(option, request->name, reply);
  if (!offer) return;

  ExportLimits& limits = offer->limits;
  limits.block_status = !contexts_for(*offer).empty();
  append_info_export(reply, raw(option), limits.size_bytes, transmission_flags(limits, form_));
  if (request->name_wanted) append_info_text(reply, raw(option), InfoType::Name, offer->name);
  if (request->description_wanted && !offer->description.empty()) {
    append_info_text(reply, raw(option), InfoType::Description, offer->description);
  }
  // Unasked, too: a client that understands it aligns its requests.
  append_info_block_size(reply, raw(option), limits.minimum_block_bytes, limits.preferred_block_bytes,
                         limits.maximum_payload_bytes);
  append_option_reply(reply, raw(option), OptionReplyType::Ack);
  if (option == Option::Go) enter(std::move(*offer), request->block_size_wanted);
}

void Negotiation::answer_structured_reply(std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  const auto refuse = [&](OptionReplyType type, std::string_view text) {
    append_option_error(reply, raw(Option::StructuredReply), type, text);
  };
  if (!data.empty()) return refuse(OptionReplyType::ErrInvalid, "STRUCTURED_REPLY takes no data");
  if (form_ == ReplyForm::Extended) {
    return refuse(OptionReplyType::ErrExtHeaderReqd, "extended headers have been agreed: there is no way back");
  }
  form_ = ReplyForm::Structured;
  append_option_reply(reply, raw(Option::StructuredReply), OptionReplyType::Ack);
}

void Negotiation::answer_extended_headers(std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  if (!data.empty()) {
    return append_option_error(reply, raw(Option::ExtendedHeaders), OptionReplyType::ErrInvalid,
                               "EXTENDED_HEADERS takes no data");
  }
  form_ = ReplyForm::Extended;
  append_option_reply(reply, raw(Option::ExtendedHeaders), OptionReplyType::Ack);
}

void Negotiation::answer_meta_context(Option option, std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  const bool listing = option == Option::ListMetaContext;
  if (!listing) {
    // The new selection replaces the old one, also when it fails.
    selection_ = {};
    selection_export_.clear();
    if (form_ == ReplyForm::Simple) {
      return append_option_error(reply, raw(option), OptionReplyType::ErrInvalid,
                                 "metadata contexts need structured replies or extended headers first");
    }
  }
  const std::optional<MetaContextRequest> request = decode_meta_context_request(data);
  if (!request) {
    return append_option_error(reply, raw(option), OptionReplyType::ErrInvalid, "the option's data is malformed");
  }
  std::optional<ExportOffer> offer = find_export(option, request->export_name, reply);
  if (!offer) return;

  MetaContextSet chosen;
  if (listing && request->queries.empty()) chosen = offer->contexts;
  for (const std::string_view query : request->queries) chosen.add(matching_contexts(query, offer->contexts, listing));
  for (size_t i = 0; i < kMetaContexts; ++i) {
    const auto context = static_cast<MetaContext>(i);
    if (!chosen.has(context)) continue;
    append_meta_context_reply(reply, raw(option), listing ? 0 : id_of(context), name_of(context));
  }
  append_option_reply(reply, raw(option), OptionReplyType::Ack);
  if (!listing) {
    selection_ = chosen;
    selection_export_ = std::move(offer->name);
  }
}

}  // namespace lockstep::nbd
