#include "tools/arguments.h"

#include <catch2/catch.hpp>

using namespace lockstep;
using namespace lockstep::tools;

namespace {

std::string error_of(const std::vector<std::string>& words) {
  const auto result = parse_arguments(words);
  return result ? "no error" : result.error().message;
}

}  // namespace

TEST_CASE("options may stand anywhere") {
  const std::vector<std::vector<std::string>> same = {
      {"wait", "pgdata", "--for", "synced", "--timeout", "10", "--node", "alpha"},
      {"--node", "alpha", "wait", "--timeout=10", "pgdata", "--for=synced"},
      {"--for", "synced", "--node=alpha", "--timeout", "10", "wait", "pgdata"},
  };
  for (const auto& words : same) {
    const auto arguments = parse_arguments(words);
    REQUIRE(arguments.ok());
    CHECK(arguments->verb->name == "wait");
    CHECK(arguments->resource == "pgdata");
    CHECK(arguments->operands.empty());
    CHECK(arguments->value("for") == "synced");
    CHECK(arguments->value("timeout") == "10");
    CHECK(arguments->value("node") == "alpha");
    CHECK_FALSE(arguments->has("json"));
  }
}

TEST_CASE("operands behind the resource") {
  const auto resize = parse_arguments({"resize", "pgdata", "40G"});
  REQUIRE(resize.ok());
  CHECK(resize->operands == std::vector<std::string>{"40G"});
  CHECK(parse_arguments({"connect", "pgdata"}).value().operands.empty());
  CHECK(parse_arguments({"connect", "pgdata", "beta"}).value().operands == std::vector<std::string>{"beta"});
  CHECK(parse_arguments({"status"}).value().resource.empty());
  CHECK(parse_arguments({"status", "--json", "--watch"}).value().has("watch"));
}

TEST_CASE("help and version need nothing else") {
  CHECK(parse_arguments({"--help"}).value().verb == nullptr);
  CHECK(parse_arguments({"--version"}).value().has("version"));
  CHECK(parse_arguments({"promote", "--help"}).value().verb->name == "promote");
}

TEST_CASE("wrong usage says what to type") {
  CHECK(error_of({}) == "no verb: see 'lockstep --help'");
  CHECK(error_of({"promot", "r"}) == "unknown verb 'promot', did you mean 'promote'?: see 'lockstep --help'");
  CHECK(error_of({"xyzzy-plugh", "r"}) == "unknown verb 'xyzzy-plugh': see 'lockstep --help'");
  CHECK(error_of({"up"}) == "'up' needs the name of a resource: see 'lockstep up --help'");
  CHECK(error_of({"up", "../etc"}) == "'../etc' cannot be the name of a resource: see 'lockstep up --help'");
  CHECK(error_of({"up", "r", "x"}) == "unexpected 'x': see 'lockstep up --help'");
  CHECK(error_of({"resize", "r"}) == "'resize' needs SIZE: see 'lockstep resize --help'");
  CHECK(error_of({"wait", "r"}) == "'wait' needs --for CONDITION: see 'lockstep wait --help'");
  CHECK(error_of({"promote", "r", "--force"}) ==
        "--force is not an option of 'promote': see 'lockstep promote --help'");
  CHECK(error_of({"promote", "r", "--peer-fence"}) ==
        "unknown option '--peer-fence', did you mean '--peer-fenced'?: see 'lockstep promote --help'");
  CHECK(error_of({"up", "r", "--node", "a", "--node", "b"}) == "--node was given twice: see 'lockstep --help'");
  CHECK(error_of({"up", "r", "--node"}).find("'--node'") != std::string::npos);
  CHECK(error_of({"up", "r", "--js"}).find("unknown option '--js'") != std::string::npos);
}

TEST_CASE("an option of one name has one shape in every verb") {
  std::map<std::string, bool> takes_value;
  for (const OptionSpec& option : common_options()) takes_value.emplace(option.name, !option.value.empty());
  for (const VerbSpec& verb : all_verbs()) {
    for (const OptionSpec& option : verb.options) {
      const auto [place, added] = takes_value.emplace(option.name, !option.value.empty());
      CHECK(place->second == !option.value.empty());
    }
  }
}

TEST_CASE("help names every verb, option and exit code") {
  const std::string general = general_help();
  for (const VerbSpec& verb : all_verbs()) {
    CAPTURE(verb.name);
    CHECK(general.find("  " + std::string(verb.name) + " ") != std::string::npos);
    const std::string help = verb_help(verb);
    CHECK(help.find("Usage: lockstep " + std::string(verb.name)) == 0);
    for (const OptionSpec& option : verb.options) {
      CHECK(help.find("  --" + std::string(option.name)) != std::string::npos);
    }
    CHECK(help.find("5 the awaited condition did not come in time") != std::string::npos);
  }
  CHECK(usage_line(*find_verb("wait")) == "lockstep wait RES --for CONDITION [--timeout SECONDS]");
  CHECK(usage_line(*find_verb("status")) == "lockstep status [RES] [--watch]");
}

TEST_CASE("seconds") {
  CHECK(parse_seconds_ms("10").value() == 10000);
  CHECK(parse_seconds_ms("0.5").value() == 500);
  CHECK(parse_seconds_ms("0").value() == 0);
  for (const char* text : {"", "-1", "1s", "nan", "inf", "1e3", "0x10", "99999999", "1.2.3"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_seconds_ms(text).ok());
  }
}
