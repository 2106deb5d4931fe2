#include "tools/arguments.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <cmath>
#include <cstdlib>
#include <set>

#include "tools/configuration.h"

namespace lockstep::tools {
namespace {

namespace po = boost::program_options;

Error usage_error(const std::string& what, const VerbSpec* verb) {
  const std::string help = verb == nullptr ? "lockstep --help" : "lockstep " + std::string(verb->name) + " --help";
  return Error{ErrorKind::Invalid, 0, what + ": see '" + help + "'"};
}

// Every option of every verb: the same name means the same shape everywhere.
po::options_description known_options() {
  po::options_description known;
  std::set<std::string> added;
  const auto add = [&](const OptionSpec& option) {
    const std::string name(option.name);
    if (!added.insert(name).second) return;
    if (option.value.empty()) {
      known.add_options()(name.c_str(), "");
    } else {
      known.add_options()(name.c_str(), po::value<std::string>(), "");
    }
  };
  for (const OptionSpec& option : common_options()) add(option);
  for (const VerbSpec& verb : all_verbs()) {
    for (const OptionSpec& option : verb.options) add(option);
  }
  known.add_options()("words", po::value<std::vector<std::string>>(), "");
  return known;
}

bool is_of(const std::vector<OptionSpec>& options, const std::string& name) {
  return std::any_of(options.begin(), options.end(), [&](const OptionSpec& option) { return option.name == name; });
}

std::vector<std::string> option_names(const VerbSpec* verb) {
  std::vector<std::string> names;
  for (const OptionSpec& option : common_options()) names.push_back("--" + std::string(option.name));
  if (verb != nullptr) {
    for (const OptionSpec& option : verb->options) names.push_back("--" + std::string(option.name));
  }
  return names;
}

Status check_complete(const Arguments& arguments) {
  const VerbSpec& verb = *arguments.verb;
  if (verb.resource == ResourceOperand::Required && arguments.resource.empty()) {
    return usage_error("'" + std::string(verb.name) + "' needs the name of a resource", &verb);
  }
  if (!arguments.resource.empty() && !is_valid_name(arguments.resource)) {
    return usage_error("'" + arguments.resource + "' cannot be the name of a resource", &verb);
  }
  const auto is_required = [](std::string_view operand) { return !operand.starts_with('['); };
  const auto required = std::count_if(verb.operands.begin(), verb.operands.end(), is_required);
  if (arguments.operands.size() < static_cast<size_t>(required)) {
    return usage_error(
        "'" + std::string(verb.name) + "' needs " + std::string(verb.operands[arguments.operands.size()]), &verb);
  }
  if (arguments.operands.size() > verb.operands.size()) {
    return usage_error("unexpected '" + arguments.operands[verb.operands.size()] + "'", &verb);
  }
  for (const OptionSpec& option : verb.options) {
    const std::string name(option.name);
    if (option.required && !arguments.has(name)) {
      const std::string value = option.value.empty() ? "" : " " + std::string(option.value);
      return usage_error("'" + std::string(verb.name) + "' needs --" + name + value, &verb);
    }
  }
  return {};
}

}  // namespace

std::string Arguments::value(const std::string& option) const {
  const auto found = options.find(option);
  return found == options.end() ? std::string() : found->second;
}

Result<Arguments> parse_arguments(const std::vector<std::string>& words) {
  Arguments arguments;
  po::parsed_options parsed(nullptr);
  const po::options_description known = known_options();
  try {
    po::positional_options_description positional;
    positional.add("words", -1);
    // Abbreviated options would change their meaning when options are added.
    const int style = po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                      po::command_line_style::long_allow_next;
    parsed =
        po::command_line_parser(words).options(known).positional(positional).style(style).allow_unregistered().run();
  } catch (const po::error& error) {
    return usage_error(error.what(), nullptr);
  }

  std::vector<std::string> plain;
  std::string unknown;
  for (const po::option& option : parsed.options) {
    if (option.position_key >= 0) {
      plain.insert(plain.end(), option.value.begin(), option.value.end());
    } else if (option.unregistered) {
      if (unknown.empty()) unknown = option.original_tokens.front();
    } else {
      const bool added =
          arguments.options.emplace(option.string_key, option.value.empty() ? "" : option.value.front()).second;
      if (!added) return usage_error("--" + option.string_key + " was given twice", nullptr);
    }
  }
  if (!plain.empty()) {
    arguments.verb = find_verb(plain[0]);
    if (arguments.verb == nullptr) {
      std::vector<std::string> names;
      for (const VerbSpec& verb : all_verbs()) names.emplace_back(verb.name);
      const std::string nearest = nearest_word(plain[0], names);
      return usage_error(
          "unknown verb '" + plain[0] + "'" + (nearest.empty() ? "" : ", did you mean '" + nearest + "'?"), nullptr);
    }
    if (plain.size() > 1) arguments.resource = plain[1];
    if (plain.size() > 2) arguments.operands.assign(plain.begin() + 2, plain.end());
  }
  if (!unknown.empty()) {
    const std::string nearest = nearest_word(unknown.substr(0, unknown.find('=')), option_names(arguments.verb));
    return usage_error(
        "unknown option '" + unknown + "'" + (nearest.empty() ? "" : ", did you mean '" + nearest + "'?"),
        arguments.verb);
  }
  for (const auto& [name, value] : arguments.options) {
    if (is_of(common_options(), name)) continue;
    if (arguments.verb != nullptr && !is_of(arguments.verb->options, name)) {
      return usage_error("--" + name + " is not an option of '" + std::string(arguments.verb->name) + "'",
                         arguments.verb);
    }
  }
  if (arguments.has("help") || arguments.has("version")) return arguments;
  if (arguments.verb == nullptr) return usage_error("no verb", nullptr);
  if (Status status = check_complete(arguments); !status) return std::move(status).error();
  return arguments;
}

Result<uint64_t> parse_seconds_ms(const std::string& text) {
  constexpr double kMaximumSeconds = 365.0 * 24 * 3600;
  char* end = nullptr;
  const double seconds = std::strtod(text.c_str(), &end);
  const bool plain = !text.empty() && text.find_first_not_of("0123456789.") == std::string::npos;
  if (!plain || *end != '\0' || !(seconds >= 0) || seconds > kMaximumSeconds) {
    return Error{ErrorKind::Invalid, 0, "'" + text + "' is not a time: write seconds, such as 10 or 0.5"};
  }
  return static_cast<uint64_t>(std::llround(seconds * 1000));
}

}  // namespace lockstep::tools
