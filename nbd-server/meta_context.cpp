#include "nbd-server/meta_context.h"

#include <array>

#include "io/base/bytes.h"
#include "io/base/check.h"

namespace lockstep::nbd {
namespace {

constexpr std::array<std::string_view, kMetaContexts> kNames{"base:allocation", "lockstep:dirty"};

}  // namespace

std::string_view name_of(MetaContext context) {
  return kNames[static_cast<size_t>(context)];
}

std::optional<MetaContext> context_of_id(uint32_t id) {
  if (id == 0 || id > kMetaContexts) return std::nullopt;
  return static_cast<MetaContext>(id - 1);
}

std::optional<MetaContextRequest> decode_meta_context_request(std::span<const uint8_t> from) {
  BigReader reader(from);
  MetaContextRequest request;
  request.export_name = reader.text(reader.u32());
  const uint32_t count = reader.u32();
  // Each query has a length of four bytes: a count that cannot be true reserves nothing.
  if (!reader.ok() || count > reader.left_bytes() / 4 || !valid_string(request.export_name)) return std::nullopt;
  request.queries.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    request.queries.push_back(reader.text(reader.u32()));
    if (!reader.ok() || !valid_string(request.queries.back())) return std::nullopt;
  }
  if (reader.left_bytes() != 0) return std::nullopt;
  return request;
}

MetaContextSet matching_contexts(std::string_view query, MetaContextSet offered, bool listing) {
  MetaContextSet matching;
  for (size_t i = 0; i < kMetaContexts; ++i) {
    const auto context = static_cast<MetaContext>(i);
    const std::string_view name = name_of(context);
    const std::string_view name_space = name.substr(0, name.find(':') + 1);
    if (offered.has(context) && (query == name || (listing && query == name_space))) matching.add(context);
  }
  return matching;
}

void append_meta_context_reply(std::vector<uint8_t>& to, uint32_t option, uint32_t id, std::string_view name) {
  std::array<uint8_t, 64> payload;
  BigWriter writer(payload);
  writer.u32(id);
  writer.text(name);
  LOCKSTEP_CHECK(writer.ok());
  append_option_reply(to, option, OptionReplyType::MetaContext, writer.written());
}

}  // namespace lockstep::nbd
