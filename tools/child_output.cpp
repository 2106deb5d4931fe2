#include "tools/child_output.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <sstream>

namespace lockstep::tools {

void log_child_output(const std::string& resource, const std::string& who, const std::string& output) {
  constexpr size_t kLines = 20;
  constexpr size_t kColumns = 500;
  std::istringstream stream(output);
  std::string line;
  for (size_t i = 0; i < kLines && std::getline(stream, line); ++i) {
    std::replace_if(
        line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
    spdlog::info("{}: {} says: {}", resource, who, line.substr(0, kColumns));
  }
}

}  // namespace lockstep::tools
