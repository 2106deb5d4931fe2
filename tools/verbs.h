// The verbs of the operator's command and their options: the one table behind parsing, help, and the tests of the
// manual page and the completion.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep::tools {

struct OptionSpec {
  std::string_view name;   // without the dashes
  std::string_view value;  // what help calls its value; empty for a flag
  std::string_view help;
  bool required = false;
};

enum class ResourceOperand : unsigned char { Required, Optional };

struct VerbSpec {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view details;  // for the verb's own help
  ResourceOperand resource = ResourceOperand::Required;
  std::vector<std::string_view> operands;  // behind the resource: "PEER" must be there, "[PEER]" may
  std::vector<OptionSpec> options;         // besides the common ones
};

const std::vector<VerbSpec>& all_verbs();
const std::vector<OptionSpec>& common_options();
// Null when there is none of that name.
const VerbSpec* find_verb(std::string_view name);

// "lockstep wait RES --for CONDITION [--timeout SECONDS]"
std::string usage_line(const VerbSpec& verb);
std::string general_help();
std::string verb_help(const VerbSpec& verb);

}  // namespace lockstep::tools
