#include "replicator/core/types.h"

#include <array>
#include <charconv>

namespace lockstep::repl {

std::string to_string(const Generation& generation) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(32, '0');
  for (size_t digit = 0; digit < 16; ++digit) {
    text[digit] = kDigits[(generation.high >> (60 - 4 * digit)) & 0xF];
    text[16 + digit] = kDigits[(generation.low >> (60 - 4 * digit)) & 0xF];
  }
  return text;
}

Result<Generation> parse_generation(std::string_view text) {
  Generation generation;
  const auto parse_half = [](std::string_view half, uint64_t& value) {
    const auto [end, code] = std::from_chars(half.data(), half.data() + half.size(), value, 16);
    return code == std::errc{} && end == half.data() + half.size();
  };
  if (text.size() != 32 || !parse_half(text.substr(0, 16), generation.high) ||
      !parse_half(text.substr(16), generation.low)) {
    return Error{ErrorKind::Invalid, 0,
                 "'" + std::string(text) + "' is not a generation: type the 32 hex digits that status prints"};
  }
  return generation;
}

std::string_view to_string(Role role) {
  static constexpr std::array<std::string_view, 3> kNames = {"Unknown", "Secondary", "Primary"};
  return kNames[static_cast<size_t>(role)];
}

std::string_view to_string(DiskState state) {
  static constexpr std::array<std::string_view, 8> kNames = {"Diskless", "Attaching",  "Failed",   "Inconsistent",
                                                             "Outdated", "Consistent", "UpToDate", "DUnknown"};
  return kNames[static_cast<size_t>(state)];
}

std::string_view to_string(ConnectionState state) {
  static constexpr std::array<std::string_view, 4> kNames = {"StandAlone", "Disconnecting", "Connecting", "Connected"};
  return kNames[static_cast<size_t>(state)];
}

std::string_view to_string(ReplicationState state) {
  static constexpr std::array<std::string_view, 10> kNames = {"Off",        "Established", "WFBitMapS",   "WFBitMapT",
                                                              "SyncSource", "SyncTarget",  "PausedSyncS", "PausedSyncT",
                                                              "VerifyS",    "VerifyT"};
  return kNames[static_cast<size_t>(state)];
}

std::string_view to_string(Protocol protocol) {
  static constexpr std::array<std::string_view, 3> kNames = {"A", "B", "C"};
  return kNames[static_cast<size_t>(protocol)];
}

std::string_view to_string(Suspension suspension) {
  switch (suspension) {
    case Suspension::No:
      return "no";
    case Suspension::PeerLoss:
      return "peer-loss";
    case Suspension::NoData:
      return "no-data";
    case Suspension::Operator:
      return "operator";
  }
  return "no";
}

}  // namespace lockstep::repl
