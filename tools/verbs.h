// The verbs of the operator's command and their options: the one table behind parsing, help, the manual page's part
// about them and the completion.
//
// Texts are written once for all of these. `code` stands out (bold in the manual, in quotes or as it is in help), _X_
// is something to put a value for; an empty line begins a paragraph, other line breaks are spaces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep::tools {

struct OptionValue {
  std::string_view value;
  std::string_view help;
};

struct OptionSpec {
  std::string_view name;   // without the dashes
  std::string_view value;  // what help calls its value; empty for a flag
  std::string_view help;
  bool required = false;
  bool everywhere = false;               // of many verbs, and explained once in the manual
  std::vector<OptionValue> values = {};  // where only these are taken
};

enum class ResourceOperand : unsigned char { Required, Optional };

struct VerbSpec {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view details;  // what the summary does not say
  ResourceOperand resource = ResourceOperand::Required;
  std::vector<std::string_view> operands;  // behind the resource: "PEER" must be there, "[PEER]" may
  std::vector<OptionSpec> options;         // besides the common ones
};

struct VerbGroup {
  std::string_view title;
  std::vector<VerbSpec> verbs;
};

// verb_table.cpp
const std::vector<VerbGroup>& verb_groups();
const std::vector<OptionSpec>& common_options();

const std::vector<VerbSpec>& all_verbs();
// Null when there is none of that name.
const VerbSpec* find_verb(std::string_view name);

// "lockstep wait RES --for CONDITION [--timeout SECONDS]"
std::string usage_line(const VerbSpec& verb);
// Of 80 columns at most, but for the usage.
std::string general_help();
std::string verb_help(const VerbSpec& verb);

}  // namespace lockstep::tools
