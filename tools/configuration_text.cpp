#include "tools/configuration_text.h"

#include <algorithm>

namespace lockstep::tools {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t' && c != '\r') || byte == 0x7f;
  });
}

}  // namespace

int ConfigurationLines::line_of(std::string_view section, std::string_view key) const {
  return line_of(section, key, 0);
}

int ConfigurationLines::line_of(std::string_view section, std::string_view key, size_t index) const {
  for (const ConfigurationEntry& entry : entries) {
    if (entry.section != section || entry.key != key) continue;
    if (index == 0) return entry.line;
    --index;
  }
  return 0;
}

Error configuration_error(const std::string& path, int line, const std::string& what) {
  const std::string where = line == 0 ? path : path + ":" + std::to_string(line);
  return Error{ErrorKind::Invalid, 0, where + ": " + what};
}

Result<ConfigurationLines> index_configuration(std::string_view text, const std::string& path) {
  ConfigurationLines lines;
  std::string section;
  int line = 0;
  while (!text.empty()) {
    ++line;
    const size_t end = text.find('\n');
    std::string_view content = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (has_control_character(content)) {
      return configuration_error(path, line, "a control character stands in this line: this is a text file");
    }
    content = trimmed(content.substr(0, content.find('#')));
    if (content.empty()) continue;
    if (content.front() == '[' && content.back() == ']' && content.size() >= 2) {
      section = std::string(content.substr(1, content.size() - 2));
      if (section.empty() || trimmed(section) != section) {
        return configuration_error(path, line,
                                   "'" + std::string(content) + "' names no section: write [resource] or [node.NAME]");
      }
      const auto first = std::find_if(lines.sections.begin(), lines.sections.end(),
                                      [&](const ConfigurationSection& other) { return other.name == section; });
      if (first != lines.sections.end()) {
        const std::string kind =
            section.starts_with("node.") ? "node '" + section.substr(5) + "'" : "[" + section + "]";
        return configuration_error(path, line, kind + " stands twice: first on line " + std::to_string(first->line));
      }
      lines.sections.push_back({line, section});
      continue;
    }
    const size_t equals = content.find('=');
    if (equals == std::string_view::npos) {
      return configuration_error(path, line, "'" + std::string(content) + "' is neither a [section] nor 'key = value'");
    }
    const std::string key(trimmed(content.substr(0, equals)));
    if (key.empty()) return configuration_error(path, line, "a value without a key: write 'key = value'");
    if (section.empty()) {
      return configuration_error(path, line, "key '" + key + "' stands before any section: start with [resource]");
    }
    lines.entries.push_back({line, section, key});
  }
  return lines;
}

}  // namespace lockstep::tools
