// What `create` would destroy.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tools/disk_inspection.h"
#include "tools/lockstep_common.h"

namespace lockstep::tools {

struct Destroyed {
  std::string text;  // lines for people; empty: nothing of worth that is known
  std::string word;  // what is typed out: the generation, or where there is none a path
  std::string generation;
  nlohmann::json data;  // null: nothing
};

// Of what is on the node's disk and metadata now. `keeps_data`: the disk is left as it is.
Destroyed what_create_destroys(const Place& place, const HeldPath& disk, const HeldPath& metadata, bool keeps_data);

}  // namespace lockstep::tools
