// The decoders of option data and of every structure, each on the whole input.
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "io/base/check.h"
#include "nbd-server/meta_context.h"
#include "nbd-server/reply_chunks.h"
#include "nbd-server/wire.h"

namespace lockstep::nbd {
namespace {

constexpr MetaContextSet kBoth{MetaContext::Allocation, MetaContext::Dirty};

bool within(std::span<const uint8_t> input, std::string_view text) {
  const auto* begin = reinterpret_cast<const char*>(input.data());
  return text.empty() || (text.data() >= begin && text.data() + text.size() <= begin + input.size());
}

void run(std::span<const uint8_t> input) {
  if (const auto request = decode_info_request(input)) {
    LOCKSTEP_CHECK(within(input, request->name) && valid_string(request->name));
  }
  if (const auto request = decode_meta_context_request(input)) {
    LOCKSTEP_CHECK(within(input, request->export_name) && valid_string(request->export_name));
    LOCKSTEP_CHECK(request->queries.size() <= input.size() / 4);
    for (const std::string_view query : request->queries) {
      LOCKSTEP_CHECK(within(input, query) && valid_string(query));
      const MetaContextSet listed = matching_contexts(query, kBoth, true);
      MetaContextSet both = listed;
      both.add(matching_contexts(query, kBoth, false));
      LOCKSTEP_CHECK(both == listed);  // what can be selected can be listed
    }
  }
  if (const auto filter = decode_status_filter(input, kBoth)) LOCKSTEP_CHECK(!filter->contexts.empty());
  // What decodes encodes to the same bytes.
  if (const auto greeting = decode_greeting(input)) {
    std::array<uint8_t, kGreetingBytes> bytes{};
    encode(*greeting, bytes);
    LOCKSTEP_CHECK(std::equal(bytes.begin(), bytes.end(), input.begin()));
  }
  if (const auto header = decode_option_header(input)) {
    std::array<uint8_t, kOptionHeaderBytes> bytes{};
    encode(*header, bytes);
    LOCKSTEP_CHECK(std::equal(bytes.begin(), bytes.end(), input.begin()));
  }
  if (const auto header = decode_option_reply_header(input)) {
    std::array<uint8_t, kOptionReplyHeaderBytes> bytes{};
    encode(*header, bytes);
    LOCKSTEP_CHECK(std::equal(bytes.begin(), bytes.end(), input.begin()));
  }
  if (const auto reply = decode_simple_reply(input)) {
    std::array<uint8_t, kSimpleReplyBytes> bytes{};
    encode(*reply, bytes);
    LOCKSTEP_CHECK(std::equal(bytes.begin(), bytes.end(), input.begin()));
  }
  if (const auto chunk = decode_compact_chunk(input)) {
    std::array<uint8_t, kChunkHeaderBytes> bytes{};
    encode_compact(*chunk, bytes);
    LOCKSTEP_CHECK(std::equal(bytes.begin(), bytes.end(), input.begin()));
  }
  if (const auto chunk = decode_extended_chunk(input)) {
    std::array<uint8_t, kExtendedChunkHeaderBytes> bytes{};
    encode_extended(*chunk, bytes);
    LOCKSTEP_CHECK(std::equal(bytes.begin(), bytes.end(), input.begin()));
  }
}

}  // namespace
}  // namespace lockstep::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::nbd::run({data, size});
  return 0;
}
