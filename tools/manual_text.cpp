#include "tools/manual_text.h"

#include <algorithm>

#include "tools/configuration_keys.h"
#include "tools/marked_text.h"
#include "tools/verbs.h"

namespace lockstep::tools {
namespace {

std::string option_usage(const OptionSpec& option) {
  std::string text = roff_bold("--" + std::string(option.name));
  if (!option.value.empty()) text += " " + roff_italic(option.value);
  return text;
}

std::string option_item(const OptionSpec& option) {
  std::string text = ".TP\n" + option_usage(option) + "\n" + roff_text(as_sentence(option.help), ".IP");
  if (option.values.empty()) return text;
  text += ".RS\n";
  for (const OptionValue& each : option.values) {
    text += ".TP\n" + roff_bold(each.value) + "\n" + roff_text(as_sentence(each.help), ".IP");
  }
  return text + ".RE\n";
}

// "connect RES [PEER]". Options that are explained once, below, would only make it long.
std::string verb_usage(const VerbSpec& verb) {
  const auto in_brackets = [](std::string_view name) { return "[" + roff_italic(name) + "]"; };
  std::string line = roff_bold(verb.name) + " ";
  line += verb.resource == ResourceOperand::Required ? roff_italic("RES") : in_brackets("RES");
  for (const std::string_view operand : verb.operands) {
    const bool optional = operand.front() == '[';
    line += " " + (optional ? in_brackets(operand.substr(1, operand.size() - 2)) : roff_italic(operand));
  }
  for (const OptionSpec& option : verb.options) {
    if (option.everywhere) continue;
    line += option.required ? " " + option_usage(option) : " [" + option_usage(option) + "]";
  }
  return line;
}

std::string verbs_page() {
  std::string page;
  for (const VerbGroup& group : verb_groups()) {
    page += ".SS " + std::string(group.title) + "\n";
    for (const VerbSpec& verb : group.verbs) {
      page += ".TP\n" + verb_usage(verb) + "\n" + roff_text(as_sentence(verb.summary), ".IP");
      if (!verb.details.empty()) page += ".IP\n" + roff_text(verb.details, ".IP");
      std::string options;
      for (const OptionSpec& option : verb.options) {
        if (!option.everywhere) options += option_item(option);
      }
      if (!options.empty()) page += ".RS\n" + options + ".RE\n";
    }
  }
  return page;
}

std::string common_options_page() {
  std::string page;
  for (const OptionSpec& option : common_options()) page += option_item(option);
  return page;
}

std::string keys_page(const std::vector<KeySpec>& keys) {
  std::string page;
  for (const KeySpec& key : keys) {
    page += ".TP\n" + roff_bold(key.name) + "\n" +
            roff_text((key.required ? "Required. " : "") + std::string(key.help), ".IP");
  }
  return page;
}

// Every option that takes a value, once.
std::vector<OptionSpec> valued_options() {
  std::vector<OptionSpec> list;
  const auto add = [&list](const OptionSpec& option) {
    const bool known =
        std::ranges::any_of(list, [&option](const OptionSpec& other) { return other.name == option.name; });
    if (!option.value.empty() && !known) list.push_back(option);
  };
  for (const OptionSpec& option : common_options()) add(option);
  for (const VerbSpec& verb : all_verbs()) {
    for (const OptionSpec& option : verb.options) add(option);
  }
  return list;
}

std::string names_of(const std::vector<OptionSpec>& options, std::string_view but = {}) {
  std::string names;
  for (const OptionSpec& option : options) {
    if (option.name != but) names += (names.empty() ? "--" : " --") + std::string(option.name);
  }
  return names;
}

std::string shell_case(std::string_view word, const std::string& answer) {
  return "    " + std::string(word) + ") echo '" + answer + "' ;;\n";
}

std::string completion_tables() {
  std::vector<std::string> verbs;
  std::string options = shell_case("''", "--version");
  std::string with_peer;
  for (const VerbSpec& verb : all_verbs()) {
    verbs.emplace_back(verb.name);
    if (!verb.options.empty()) options += shell_case(verb.name, names_of(verb.options));
    const bool takes_peer = std::ranges::any_of(
        verb.operands, [](std::string_view operand) { return operand.find("PEER") != std::string_view::npos; });
    if (takes_peer) with_peer += (with_peer.empty() ? "" : " | ") + std::string(verb.name);
  }
  std::string values;
  std::string choices;
  for (const OptionSpec& option : valued_options()) {
    values += shell_case("--" + std::string(option.name), std::string(option.value));
    std::string words;
    for (const OptionValue& each : option.values) words += (words.empty() ? "" : " ") + std::string(each.value);
    if (!words.empty()) choices += shell_case(option.value, words);
  }
  std::string script = fill_lines(verbs, "_lockstep_verbs='", 2, 119);
  script.insert(script.size() - 1, "'");
  script += "_lockstep_common_options='" + names_of(common_options(), "version") + "'\n";
  script += "# The options of the verb $1.\n_lockstep_options_of() {\n  case $1 in\n" + options + "  esac\n}\n";
  script +=
      "# What stands behind the option $1; nothing behind one that stands alone.\n_lockstep_value_of() {\n  case $1 "
      "in\n" +
      values + "  esac\n}\n";
  script += "# The words that may stand for the value $1.\n_lockstep_choices_of() {\n  case $1 in\n" + choices +
            "  esac\n}\n";
  script += "_lockstep_takes_peer() {\n  case $1 in\n    " + with_peer + ") return 0 ;;\n  esac\n  return 1\n}\n";
  return script;
}

}  // namespace

std::vector<ManualPart> manual_parts() {
  return {{"man/lockstep.8", "common options", common_options_page()},
          {"man/lockstep.8", "verbs", verbs_page()},
          {"man/lockstep.conf.5", "keys of resource", keys_page(resource_key_specs())},
          {"man/lockstep.conf.5", "keys of a node", keys_page(node_key_specs())},
          {"man/lockstep.conf.5", "keys of handlers", keys_page(handler_key_specs())},
          {"completion/lockstep.bash", "verbs", completion_tables()}};
}

Result<std::string> with_part(std::string_view content, const ManualPart& part) {
  const std::string name(part.name);
  const size_t begin = content.find("begin " + name + "\n");
  const size_t end = content.find("end " + name + "\n", begin == std::string_view::npos ? 0 : begin);
  if (begin == std::string_view::npos || end == std::string_view::npos) {
    return Error{ErrorKind::Invalid, 0,
                 std::string(part.file) + " has no lines with 'begin " + name + "' and 'end " + name + "'"};
  }
  const size_t first = content.find('\n', begin) + 1;
  const size_t last = content.rfind('\n', end) + 1;
  return std::string(content.substr(0, first)) + part.text + std::string(content.substr(last));
}

}  // namespace lockstep::tools
