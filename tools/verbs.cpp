#include "tools/verbs.h"

#include <algorithm>

#include "tools/marked_text.h"

namespace lockstep::tools {
namespace {

constexpr std::string_view kExitCodes =
    "Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by a\n"
    "safety rule, 4 no daemon answers, 5 the awaited condition did not come in time.\n";
constexpr size_t kColumns = 80;
constexpr size_t kVerbColumn = 20;
constexpr size_t kOptionColumn = 30;

std::string paragraphs(std::string_view text) {
  std::string lines;
  for (const auto& words : plain_paragraphs(text)) lines += "\n" + fill_lines(words, "", 0, kColumns);
  return lines;
}

// "  left    text", the text's lines below each other.
std::string entry(std::string left, std::string_view text, size_t column) {
  left.resize(std::max(left.size() + 2, column), ' ');
  std::string lines;
  for (const auto& words : plain_paragraphs(text)) {
    lines += fill_lines(words, lines.empty() ? left : std::string(column, ' '), column, kColumns);
  }
  return lines;
}

std::string option_entry(const OptionSpec& option) {
  std::string left = "  --" + std::string(option.name);
  if (!option.value.empty()) left += " " + std::string(option.value);
  std::string lines = entry(left, option.help, kOptionColumn);
  for (const OptionValue& each : option.values) {
    lines += entry("      " + std::string(each.value), each.help, kOptionColumn);
  }
  return lines;
}

}  // namespace

const std::vector<VerbSpec>& all_verbs() {
  static const std::vector<VerbSpec> verbs = [] {
    std::vector<VerbSpec> list;
    for (const VerbGroup& group : verb_groups()) list.insert(list.end(), group.verbs.begin(), group.verbs.end());
    return list;
  }();
  return verbs;
}

const VerbSpec* find_verb(std::string_view name) {
  const auto& verbs = all_verbs();
  const auto found = std::find_if(verbs.begin(), verbs.end(), [&](const VerbSpec& verb) { return verb.name == name; });
  return found == verbs.end() ? nullptr : &*found;
}

std::string usage_line(const VerbSpec& verb) {
  std::string line = "lockstep " + std::string(verb.name);
  line += verb.resource == ResourceOperand::Required ? " RES" : " [RES]";
  for (const std::string_view operand : verb.operands) line += " " + std::string(operand);
  for (const OptionSpec& option : verb.options) {
    std::string text = "--" + std::string(option.name);
    if (!option.value.empty()) text += " " + std::string(option.value);
    line += option.required ? " " + text : " [" + text + "]";
  }
  return line;
}

std::string general_help() {
  std::string text = "Usage: lockstep VERB RES [OPERANDS] [OPTIONS]\n";
  text += paragraphs(
      "Works on the replicated device RES of this node: through its daemon, lockstepd, or on the files of a stopped "
      "node. A daemon refuses orders that its version does not know.");
  text += "\nVerbs:\n";
  for (const VerbGroup& group : verb_groups()) {
    text += " " + std::string(group.title) + "\n";
    for (const VerbSpec& verb : group.verbs) text += entry("  " + std::string(verb.name), verb.summary, kVerbColumn);
  }
  text += "\nOptions, anywhere on the line:\n";
  for (const OptionSpec& option : common_options()) text += option_entry(option);
  text += "\n'lockstep VERB --help' tells more about a verb; so does lockstep(8).\n\n" + std::string(kExitCodes);
  return text;
}

std::string verb_help(const VerbSpec& verb) {
  std::string text =
      "Usage: " + usage_line(verb) + "\n" + paragraphs(as_sentence(verb.summary)) + paragraphs(verb.details);
  if (!verb.options.empty()) {
    text += "\nOptions:\n";
    for (const OptionSpec& option : verb.options) text += option_entry(option);
  }
  text += "\nCommon options:\n";
  for (const OptionSpec& option : common_options()) text += option_entry(option);
  return text + "\n" + std::string(kExitCodes);
}

}  // namespace lockstep::tools
