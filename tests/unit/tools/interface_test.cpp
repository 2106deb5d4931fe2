// The verbs are an interface: scripts are written against these lines, which may gain options but lose nothing.
#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tools/arguments.h"
#include "tools/lockstep_confirm.h"
#include "tools/verbs.h"

using namespace lockstep::tools;

namespace {

constexpr std::array kPromised{
    "create r --existing-data --force",
    "up r",
    "down r",
    "status",
    "status r --json --watch",
    "events r --json",
    "wait r --for up",
    "wait r --for connected --timeout 1",
    "wait r --for synced --timeout 0.5",
    "wait r --for role=Primary",
    "wait r --for role=Secondary",
    "wait r --for promotable",
    "wait r --for verified",
    "promote r",
    "promote r --peer-fenced",
    "promote r --force-data-loss 00112233445566778899aabbccddeeff",
    "demote r --force",
    "switchover r --to beta",
    "connect r",
    "connect r beta",
    "disconnect r",
    "disconnect r beta",
    "resync r beta",
    "resync r beta --discard-my-data 00112233445566778899aabbccddeeff",
    "pause-resync r",
    "pause-resync r beta",
    "resume-resync r",
    "resume-resync r beta",
    "invalidate r",
    "invalidate-peer r beta",
    "verify r",
    "verify r beta --repair",
    "resume r --alone",
    "resize r 21G",
    "detach r",
    "attach r",
    "explain r",
    "dump-metadata r --json",
    "metrics r",
};

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

}  // namespace

TEST_CASE("what was promised to scripts is understood, with the common options anywhere") {
  for (const char* line : kPromised) {
    CAPTURE(line);
    std::vector<std::string> words = words_of(line);
    CHECK(parse_arguments(words));
    const bool has_json = std::find(words.begin(), words.end(), "--json") != words.end();
    words.insert(words.end(), {"--config", "/f", "--node", "alpha", "--run-dir", "/d"});
    if (!has_json) words.emplace_back("--json");
    CHECK(parse_arguments(words));
    words = words_of(line);
    words.insert(words.begin(), "--node=alpha");
    CHECK(parse_arguments(words));
  }
}

TEST_CASE("every verb has help with its options and the exit statuses") {
  for (const VerbSpec& verb : all_verbs()) {
    CAPTURE(verb.name);
    const std::string help = verb_help(verb);
    CHECK(help.starts_with("Usage: lockstep " + std::string(verb.name)));
    for (const OptionSpec& option : verb.options)
      CHECK(help.find("--" + std::string(option.name)) != std::string::npos);
    for (const char* code : {"0 done", "1 failed", "2 wrong usage", "3 refused", "4 no daemon", "5 the awaited"}) {
      CHECK(help.find(code) != std::string::npos);
    }
    CHECK(general_help().find("  " + std::string(verb.name) + " ") != std::string::npos);
    CHECK_FALSE(verb.summary.empty());
    const bool needs_resource = verb.resource == ResourceOperand::Required;
    CHECK(parse_arguments({std::string(verb.name)}).ok() != needs_resource);
    CHECK_FALSE(parse_arguments({std::string(verb.name), "r", "--no-such-option"}));
    CHECK_FALSE(parse_arguments({std::string(verb.name), "r", "a", "b", "c"}));
  }
}

TEST_CASE("nothing that discards takes all peers or all resources, and each of it has a dry run") {
  size_t seen = 0;
  for (const char* line : kPromised) {
    CAPTURE(line);
    const auto arguments = parse_arguments(words_of(line));
    REQUIRE(arguments);
    if (!may_lose(*arguments) && arguments->verb->name != "create") continue;
    ++seen;
    const VerbSpec& verb = *arguments->verb;
    CHECK(verb.resource == ResourceOperand::Required);
    for (const std::string_view operand : verb.operands) CHECK_FALSE(operand.starts_with('['));
    const auto has = [&](std::string_view name) {
      return std::any_of(verb.options.begin(), verb.options.end(),
                         [&](const OptionSpec& option) { return option.name == name; });
    };
    CHECK(has("dry-run"));
    CHECK((has("generation") || has("discard-my-data")));
  }
  CHECK(seen == 7);
}
