// The keys that a configuration may have, by section: what the parser knows, and what lockstep.conf(5) says of each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep::tools {

struct KeySpec {
  std::string_view name;
  std::string_view help;  // as verbs.h says texts are written
  bool required = false;
};

const std::vector<KeySpec>& resource_key_specs();
const std::vector<KeySpec>& node_key_specs();
const std::vector<KeySpec>& handler_key_specs();

std::vector<std::string> names_of(const std::vector<KeySpec>& keys);

}  // namespace lockstep::tools
