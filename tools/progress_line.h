// How far something is, in one line of a terminal. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lockstep::tools {

struct Progress {
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t bytes_per_second = 0;  // 0: not known
};

// "[##########----------]", `width` characters in all.
std::string bar(double percent, size_t width);
// "52.1% of 20.0G, 120.0M/s, 1m20s to go"
std::string progress_words(const Progress& progress);
// "LABEL [#####-----] 52.1% …", at most `columns` wide: the bar, and then the label, give way.
std::string progress_line(const std::string& label, const Progress& progress, size_t columns);

}  // namespace lockstep::tools
