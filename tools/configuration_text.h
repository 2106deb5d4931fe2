// The lines of an INI file: which section and key stands where, so that errors can name the line. The values
// themselves are parsed by Boost.Program_options, which forgets lines.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/base/result.h"

namespace lockstep::tools {

struct ConfigurationEntry {
  int line = 0;
  std::string section;
  std::string key;
};

struct ConfigurationSection {
  int line = 0;
  std::string name;  // without the brackets
};

struct ConfigurationLines {
  std::vector<ConfigurationSection> sections;
  std::vector<ConfigurationEntry> entries;

  // The line of the key's first occurrence in the section, or 0.
  int line_of(std::string_view section, std::string_view key) const;
  // The line of the `index`th (from 0) occurrence, or 0.
  int line_of(std::string_view section, std::string_view key, size_t index) const;
};

// An Error of kind Invalid, "PATH:LINE: what"; without the line when it is 0.
Error configuration_error(const std::string& path, int line, const std::string& what);

// Splits the text as Boost does ('#' starts a comment anywhere, blanks around words are dropped) and refuses what it
// would choke on: a line that is neither section nor "key = value", an empty name, a key before any section, a
// section that stands twice, control characters.
Result<ConfigurationLines> index_configuration(std::string_view text, const std::string& path);

}  // namespace lockstep::tools
