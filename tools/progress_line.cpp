#include "tools/progress_line.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "io/base/units.h"
#include "tools/render.h"

namespace lockstep::tools {
namespace {

double percent_of(const Progress& progress) {
  if (progress.total_bytes == 0) return 100;
  const uint64_t done_bytes = std::min(progress.done_bytes, progress.total_bytes);
  return 100.0 * static_cast<double>(done_bytes) / static_cast<double>(progress.total_bytes);
}

}  // namespace

std::string bar(double percent, size_t width) {
  if (width < 3) return {};
  const size_t inside = width - 2;
  const auto full = static_cast<size_t>(std::clamp(percent, 0.0, 100.0) / 100 * static_cast<double>(inside));
  return "[" + std::string(full, '#') + std::string(inside - full, '-') + "]";
}

std::string progress_words(const Progress& progress) {
  std::array<char, 16> percent{};
  // Rounded down: 100 % is the end.
  std::snprintf(percent.data(), percent.size(), "%.1f%%",
                static_cast<double>(static_cast<int>(percent_of(progress) * 10)) / 10);
  std::string text = std::string(percent.data()) + " of " + format_size(progress.total_bytes);
  if (progress.bytes_per_second == 0 || progress.done_bytes >= progress.total_bytes) return text;
  const uint64_t left_bytes = progress.total_bytes - progress.done_bytes;
  return text + ", " + format_size(progress.bytes_per_second) + "/s, " +
         format_seconds(left_bytes / progress.bytes_per_second) + " to go";
}

std::string progress_line(const std::string& label, const Progress& progress, size_t columns) {
  constexpr size_t kWidestBar = 42;
  const std::string words = progress_words(progress);
  std::string line = label;
  const size_t used = label.size() + words.size() + 2;
  if (columns >= used + 8) line += " " + bar(percent_of(progress), std::min(kWidestBar, columns - used));
  if (columns < words.size() + 2) return words.substr(0, columns);
  if (columns < used) line = line.substr(0, columns - words.size() - 1);
  return line + " " + words;
}

}  // namespace lockstep::tools
