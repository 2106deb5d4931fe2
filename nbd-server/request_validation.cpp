#include "nbd-server/request_validation.h"

#include "io/base/units.h"

namespace lockstep::nbd {
namespace {

using Decision = RequestVerdict::Decision;

struct CommandRules {
  bool known = false;
  bool writes = false;
  bool has_range = false;
  uint16_t flags = 0;  // allowed besides FUA, which is allowed everywhere
  WireError past_end_error = WireError::Einval;
};

CommandRules rules_of(uint16_t command, ReplyForm form) {
  CommandRules rules;
  rules.known = true;
  switch (static_cast<Command>(command)) {
    case Command::Read:
      rules.has_range = true;
      // DF was advertised only if replies can come in chunks.
      rules.flags = form == ReplyForm::Simple ? 0 : command_flag::kDf;
      return rules;
    case Command::Write:
      rules.has_range = rules.writes = true;
      rules.flags = form == ReplyForm::Extended ? command_flag::kPayloadLength : 0;
      rules.past_end_error = WireError::Enospc;
      return rules;
    case Command::Flush:
      return rules;
    case Command::Trim:
      rules.has_range = rules.writes = true;
      return rules;
    case Command::WriteZeroes:
      rules.has_range = rules.writes = true;
      rules.flags = command_flag::kNoHole | command_flag::kFastZero;
      rules.past_end_error = WireError::Enospc;
      return rules;
    case Command::Cache:
      rules.has_range = true;
      return rules;
    case Command::BlockStatus:
      rules.known = form != ReplyForm::Simple;
      rules.has_range = true;
      rules.flags = command_flag::kReqOne;
      if (form == ReplyForm::Extended) rules.flags |= command_flag::kPayloadLength;
      return rules;
    case Command::Disconnect:
    default:
      return {};
  }
}

// Bytes that follow the header on the wire.
uint64_t payload_bytes(const Request& request, ReplyForm form) {
  if (form == ReplyForm::Extended) {
    return (request.flags & command_flag::kPayloadLength) != 0 ? request.length_bytes : 0;
  }
  return request.command == static_cast<uint16_t>(Command::Write) ? request.length_bytes : 0;
}

}  // namespace

RequestVerdict validate_request(const Request& request, const ExportLimits& limits, ReplyForm form) {
  const uint64_t payload = payload_bytes(request, form);
  const auto fail = [payload](WireError error, std::string_view reason) {
    return RequestVerdict{Decision::Fail, error, payload, reason};
  };

  if (request.command == static_cast<uint16_t>(Command::Disconnect)) return {Decision::EndSession, {}, payload, {}};
  if (payload > kMaximumDrainBytes && payload > limits.maximum_payload_bytes) {
    return {Decision::Disconnect, {}, payload, "payload of more than 64 MiB"};
  }

  const CommandRules rules = rules_of(request.command, form);
  if (!rules.known) return fail(WireError::Einval, "unknown command");
  if ((request.flags & ~(rules.flags | command_flag::kFua)) != 0) {
    return fail(WireError::Einval, "flag that this command does not have");
  }
  if (form == ReplyForm::Extended && request.command == static_cast<uint16_t>(Command::Write) &&
      (request.flags & command_flag::kPayloadLength) == 0) {
    return fail(WireError::Einval, "WRITE without a payload length");
  }
  if (request.command == static_cast<uint16_t>(Command::BlockStatus)) {
    if (!limits.block_status) return fail(WireError::Einval, "BLOCK_STATUS without a selected metadata context");
    if ((request.flags & command_flag::kPayloadLength) != 0) {
      // The payload says which range is meant: that is validated once it is here. Without one nothing would be.
      if (payload == 0) return fail(WireError::Einval, "BLOCK_STATUS with a payload of no bytes");
      return {Decision::Submit, {}, payload, {}};
    }
  }
  if (rules.writes && limits.read_only) return fail(WireError::Eperm, "the export is read-only");
  if (!rules.has_range) {
    if (request.offset_bytes != 0 || request.length_bytes != 0) {
      return fail(WireError::Einval, "FLUSH with an offset or a length");
    }
    return {Decision::Submit, {}, payload, {}};
  }

  if (!ByteRange::fits(request.offset_bytes, request.length_bytes, limits.size_bytes)) {
    return fail(rules.past_end_error, "the range ends past the end of the export");
  }
  const bool carries_data = request.command == static_cast<uint16_t>(Command::Read) ||
                            request.command == static_cast<uint16_t>(Command::Write);
  if (carries_data && request.length_bytes > limits.maximum_payload_bytes) {
    const bool chunked_read = request.command == static_cast<uint16_t>(Command::Read) && form != ReplyForm::Simple;
    return fail(chunked_read ? WireError::Eoverflow : WireError::Einval, "longer than the maximum payload");
  }
  const uint64_t misfit_mask = limits.minimum_block_bytes - 1;
  if (((request.offset_bytes | request.length_bytes) & misfit_mask) != 0) {
    return fail(WireError::Einval, "offset or length is no multiple of the minimum block size");
  }
  if (request.command == static_cast<uint16_t>(Command::BlockStatus)) {
    // A reply has at least one extent, and none of length 0.
    if (request.length_bytes == 0) return fail(WireError::Einval, "BLOCK_STATUS of no bytes");
    return {Decision::Submit, {}, payload, {}};
  }
  // CACHE is a hint, and this server keeps no cache of its own that could be filled.
  if (request.length_bytes == 0 || request.command == static_cast<uint16_t>(Command::Cache)) {
    return {Decision::Succeed, {}, payload, {}};
  }
  return {Decision::Submit, {}, payload, {}};
}

}  // namespace lockstep::nbd
