// The parts of the manual pages and of the completion that are made of the tables, and stand in those files between a
// line with "begin NAME" and one with "end NAME". tools/write_manual.cpp puts them there; a test finds a file that
// differs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/base/result.h"

namespace lockstep::tools {

struct ManualPart {
  std::string_view file;  // below tools/
  std::string_view name;
  std::string text;
};

std::vector<ManualPart> manual_parts();
// The content with that part in its place. Invalid where it has no such place.
Result<std::string> with_part(std::string_view content, const ManualPart& part);

}  // namespace lockstep::tools
