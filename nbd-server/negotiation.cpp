#include "nbd-server/negotiation.h"

#include <algorithm>

#include "io/base/bytes.h"

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
                   transmission_flag::kCanMultiConn;
  if (limits.read_only) flags |= transmission_flag::kReadOnly;
  if (form != ReplyForm::Simple) flags |= transmission_flag::kSendDf;
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
        append_option_error(reply, skipped_option_, OptionReplyType::ErrTooBig, "the option is too long");
      }
      return taken;
    }
    case Phase::Options:
      break;
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
  // A client without the fixed-newstyle flag should send EXPORT_NAME only; if it sends more it is served all the same.
  no_zeroes_ = (flags & handshake_flag::kNoZeroes) != 0;
  phase_ = Phase::Options;
  return kClientFlagsBytes;
}

void Negotiation::answer(Option option, std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  switch (option) {
    case Option::ExportName:
      return answer_export_name(data, reply);
    case Option::Abort:
      append_option_reply(reply, raw(option), OptionReplyType::Ack);
      return end({});
    case Option::List:
      return answer_list(data, reply);
    case Option::Info:
    case Option::Go:
      return answer_info_or_go(option, data, reply);
    case Option::StructuredReply:
      return answer_structured_reply(data, reply);
    case Option::StartTls:
      return append_option_error(reply, raw(option), OptionReplyType::ErrUnsup, "this server has no TLS");
    case Option::ListMetaContext:
    case Option::SetMetaContext:
    case Option::ExtendedHeaders:
    case Option::PeekExport:
    default:
      return append_option_error(reply, raw(option), OptionReplyType::ErrUnsup, "this server does not know the option");
  }
}

void Negotiation::answer_export_name(std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  const std::string_view name = text_of(data);
  if (!valid_string(name)) return end("an export name that is no text");
  std::optional<ExportOffer> offer = directory_->find(name);
  if (!offer) return end("EXPORT_NAME for an export that does not exist");
  if (offer->refused) return end("EXPORT_NAME for an export that is refused");
  append_export_name_answer(reply, offer->limits.size_bytes, transmission_flags(offer->limits, form_), !no_zeroes_);
  agreed_export_ = std::move(*offer);
  phase_ = Phase::Transmission;
}

void Negotiation::answer_list(std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  if (!data.empty()) {
    return append_option_error(reply, raw(Option::List), OptionReplyType::ErrInvalid, "LIST takes no data");
  }
  for (const ExportOffer& offer : directory_->list()) {
    append_server_reply(reply, raw(Option::List), offer.name, offer.description);
  }
  append_option_reply(reply, raw(Option::List), OptionReplyType::Ack);
}

void Negotiation::answer_info_or_go(Option option, std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  const std::optional<InfoRequest> request = decode_info_request(data);
  if (!request) {
    return append_option_error(reply, raw(option), OptionReplyType::ErrInvalid, "the option's data is malformed");
  }
  std::optional<ExportOffer> offer = directory_->find(request->name);
  if (!offer) {
    return append_option_error(reply, raw(option), OptionReplyType::ErrUnknown,
                               "no export is called '" + std::string(request->name) + "'");
  }
  if (offer->refused) return append_option_error(reply, raw(option), OptionReplyType::ErrPolicy, offer->refusal);

  const ExportLimits& limits = offer->limits;
  append_info_export(reply, raw(option), limits.size_bytes, transmission_flags(limits, form_));
  if (request->name_wanted) append_info_text(reply, raw(option), InfoType::Name, offer->name);
  if (request->description_wanted && !offer->description.empty()) {
    append_info_text(reply, raw(option), InfoType::Description, offer->description);
  }
  // Unasked, too: a client that understands it aligns its requests.
  append_info_block_size(reply, raw(option), limits.minimum_block_bytes, limits.preferred_block_bytes,
                         limits.maximum_payload_bytes);
  append_option_reply(reply, raw(option), OptionReplyType::Ack);
  if (option == Option::Go) {
    agreed_export_ = std::move(*offer);
    phase_ = Phase::Transmission;
  }
}

void Negotiation::answer_structured_reply(std::span<const uint8_t> data, std::vector<uint8_t>& reply) {
  if (!data.empty()) {
    return append_option_error(reply, raw(Option::StructuredReply), OptionReplyType::ErrInvalid,
                               "STRUCTURED_REPLY takes no data");
  }
  form_ = ReplyForm::Structured;
  append_option_reply(reply, raw(Option::StructuredReply), OptionReplyType::Ack);
}

}  // namespace lockstep::nbd
