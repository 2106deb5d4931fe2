// One section's values with their lines: every reader of a value reports its own errors.
#pragma once

#include <boost/program_options.hpp>
#include <string>
#include <utility>
#include <vector>

#include "io/base/result.h"
#include "tools/configuration.h"
#include "tools/configuration_text.h"

namespace lockstep::tools {

inline std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ", ";
    text += word;
  }
  return text;
}

class SectionReader {
 public:
  SectionReader(const boost::program_options::variables_map& values, const ConfigurationLines& lines,
                const std::string& path, ConfigurationSection section)
      : values_(values), lines_(lines), path_(path), section_(std::move(section)) {}

  bool given(const std::string& key) const { return values_.count(section_.name + "." + key) != 0; }
  int line(const std::string& key) const { return lines_.line_of(section_.name, key); }

  std::string text(const std::string& key, const std::string& fallback) const {
    return given(key) ? values_[section_.name + "." + key].as<std::string>() : fallback;
  }
  std::vector<std::string> texts(const std::string& key) const {
    return given(key) ? values_[section_.name + "." + key].as<std::vector<std::string>>() : std::vector<std::string>{};
  }
  Result<std::string> required(const std::string& key) const {
    if (!given(key)) {
      return configuration_error(path_, section_.line, "[" + section_.name + "] lacks the required key '" + key + "'");
    }
    std::string value = text(key, "");
    if (value.empty()) return bad(key, "must not be empty");
    return value;
  }
  Error bad(const std::string& key, const std::string& rule) const {
    return configuration_error(path_, line(key), "bad value '" + text(key, "") + "' for '" + key + "': " + rule);
  }

  template <typename Value>
  Status choose(const std::string& key, Value& value, const std::vector<std::pair<std::string, Value>>& choices) const {
    if (!given(key)) return {};
    const std::string word = text(key, "");
    std::vector<std::string> words;
    for (const auto& [name, choice] : choices) {
      if (name == word) {
        value = choice;
        return {};
      }
      words.push_back(name);
    }
    return bad(key, "must be one of " + joined(words));
  }

 private:
  const boost::program_options::variables_map& values_;
  const ConfigurationLines& lines_;
  const std::string& path_;
  ConfigurationSection section_;
};

// [handlers]
Status read_handlers(const SectionReader& section, HandlersConfiguration& handlers);

}  // namespace lockstep::tools
