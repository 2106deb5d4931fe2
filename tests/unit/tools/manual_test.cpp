// The manual pages and the completion know what the program knows.
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "tools/verbs.h"

using namespace lockstep::tools;

namespace {

std::string content_of(const std::string& name) {
  std::ifstream file(std::string(LOCKSTEP_SOURCE_FOLDER) + "/tools/" + name);
  REQUIRE(file.good());
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

// As roff writes it, so that a dash can be copied from the page.
std::string in_roff(std::string_view text) {
  std::string escaped;
  for (const char c : text) escaped += c == '-' ? "\\-" : std::string(1, c);
  return escaped;
}

bool has_word(const std::string& text, const std::string& word) {
  const std::string name_characters = "abcdefghijklmnopqrstuvwxyz-";
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const bool starts = at == 0 || name_characters.find(text[at - 1]) == std::string::npos;
    const char next = at + word.size() < text.size() ? text[at + word.size()] : ' ';
    if (starts && name_characters.find(next) == std::string::npos) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("lockstep(8) has every verb and option") {
  const std::string page = content_of("man/lockstep.8");
  for (const VerbSpec& verb : all_verbs()) {
    CAPTURE(verb.name);
    CHECK(page.find(".BI " + in_roff(verb.name) + " ") != std::string::npos);
    for (const OptionSpec& option : verb.options) {
      CAPTURE(option.name);
      CHECK(page.find("\\-\\-" + in_roff(option.name)) != std::string::npos);
    }
  }
  for (const OptionSpec& option : common_options()) {
    CAPTURE(option.name);
    CHECK(page.find("\\-\\-" + in_roff(option.name)) != std::string::npos);
  }
}

TEST_CASE("the completion has every verb and option") {
  const std::string script = content_of("completion/lockstep.bash");
  for (const VerbSpec& verb : all_verbs()) {
    CAPTURE(verb.name);
    CHECK(has_word(script, std::string(verb.name)));
    for (const OptionSpec& option : verb.options) {
      CAPTURE(option.name);
      CHECK(has_word(script, "--" + std::string(option.name)));
    }
  }
  for (const OptionSpec& option : common_options()) CHECK(has_word(script, "--" + std::string(option.name)));
}

TEST_CASE("lockstep.conf(5) has every key") {
  const std::string page = content_of("man/lockstep.conf.5");
  for (const char* key :
       {"name", "size", "protocol", "on-peer-loss", "peer-timeout", "insecure", "secret-file", "link-certificates",
        "activity-log-extents", "fence-command", "address", "disk", "metadata", "nbd", "metrics", "audit"}) {
    CAPTURE(key);
    CHECK(page.find(".B " + in_roff(key) + "\n") != std::string::npos);
  }
}
