// Metadata contexts: what BLOCK_STATUS can tell about a range, and how a client chooses among it. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "nbd-server/wire.h"

namespace lockstep::nbd {

enum class MetaContext : uint8_t {
  Allocation,  // "base:allocation": bit 0 not allocated, bit 1 reads as zeroes
  Dirty,       // "lockstep:dirty": bit 0 out of sync with a peer
};
inline constexpr size_t kMetaContexts = 2;

class MetaContextSet {
 public:
  constexpr MetaContextSet() = default;
  constexpr MetaContextSet(std::initializer_list<MetaContext> contexts) {
    for (const MetaContext context : contexts) add(context);
  }
  constexpr void add(MetaContext context) { bits_ |= bit(context); }
  constexpr void add(MetaContextSet others) { bits_ |= others.bits_; }
  constexpr bool has(MetaContext context) const { return (bits_ & bit(context)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr size_t size() const {
    size_t count = 0;
    for (size_t i = 0; i < kMetaContexts; ++i) count += has(static_cast<MetaContext>(i)) ? 1 : 0;
    return count;
  }
  friend constexpr bool operator==(const MetaContextSet&, const MetaContextSet&) = default;

 private:
  static constexpr uint32_t bit(MetaContext context) { return 1U << static_cast<unsigned>(context); }
  uint32_t bits_ = 0;
};

std::string_view name_of(MetaContext context);
// On the wire, once selected. Always the same, and never 0, which stands for "not selected" in lists.
constexpr uint32_t id_of(MetaContext context) {
  return static_cast<uint32_t>(context) + 1;
}
std::optional<MetaContext> context_of_id(uint32_t id);

// The data of LIST_META_CONTEXT and SET_META_CONTEXT. The views point into the decoded bytes.
struct MetaContextRequest {
  std::string_view export_name;
  std::vector<std::string_view> queries;
};
// Empty when a length runs past the data, bytes are left over, or a string is no valid_string().
std::optional<MetaContextRequest> decode_meta_context_request(std::span<const uint8_t> from);

// Those of `offered` that the query names. "NAMESPACE:" alone names all of a namespace while `listing`, and nothing
// when selecting. What is unknown names nothing.
MetaContextSet matching_contexts(std::string_view query, MetaContextSet offered, bool listing);

void append_meta_context_reply(std::vector<uint8_t>& to, uint32_t option, uint32_t id, std::string_view name);

}  // namespace lockstep::nbd
