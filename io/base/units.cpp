#include "io/base/units.h"

#include <array>
#include <charconv>
#include <cstdio>

namespace lockstep {

Result<uint64_t> parse_size(std::string_view text) {
  const auto invalid = [&] {
    return Error{ErrorKind::Invalid, 0,
                 "'" + std::string(text) + "' is not a size: write bytes, or a number followed by K, M, G or T"};
  };
  uint64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc{}) return invalid();
  const std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  if (suffix.empty()) return number;
  if (suffix.size() != 1) return invalid();
  unsigned shift = 0;
  switch (suffix[0]) {
    case 'k':
    case 'K':
      shift = 10;
      break;
    case 'm':
    case 'M':
      shift = 20;
      break;
    case 'g':
    case 'G':
      shift = 30;
      break;
    case 't':
    case 'T':
      shift = 40;
      break;
    default:
      return invalid();
  }
  if (number > (UINT64_MAX >> shift)) return invalid();
  return number << shift;
}

std::string format_size(uint64_t bytes) {
  static constexpr std::array<char, 6> kSuffixes = {'B', 'K', 'M', 'G', 'T', 'P'};
  if (bytes < kKiB) return std::to_string(bytes) + "B";
  auto scaled = static_cast<double>(bytes);
  size_t suffix = 0;
  while (scaled >= 1024 && suffix + 1 < kSuffixes.size()) {
    scaled /= 1024;
    ++suffix;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f%c", scaled, kSuffixes[suffix]);
  return text.data();
}

}  // namespace lockstep
