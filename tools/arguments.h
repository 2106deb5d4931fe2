// The command line of `lockstep`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/base/result.h"
#include "tools/verbs.h"

namespace lockstep::tools {

struct Arguments {
  const VerbSpec* verb = nullptr;  // null only with help or version
  std::string resource;            // empty only where the verb allows it
  std::vector<std::string> operands;
  std::map<std::string, std::string> options;  // all that were given, without dashes; flags have an empty value

  bool has(const std::string& option) const { return options.count(option) != 0; }
  // The option's value, or empty.
  std::string value(const std::string& option) const;
};

// `words` without the program's name. Options may stand anywhere, as "--name value" or "--name=value". Errors are of
// kind Invalid and say what to type. With --help or --version nothing else needs to be complete.
Result<Arguments> parse_arguments(const std::vector<std::string>& words);

// "1.5": seconds, in milliseconds. Not negative, at most a year.
Result<uint64_t> parse_seconds_ms(const std::string& text);

}  // namespace lockstep::tools
