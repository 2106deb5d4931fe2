// The manual pages and the completion know what the program knows.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/unit/tools/temporary_folder.h"
#include "tools/configuration_keys.h"
#include "tools/handler_events.h"
#include "tools/manual_text.h"
#include "tools/marked_text.h"
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

// What bash would offer for the last word of a line. `folder` has what it looks into.
std::string offered(const std::string& line, const std::string& folder) {
  std::istringstream words(line);
  std::string array;
  size_t count = 0;
  for (std::string word; words >> word; ++count) array += "'" + (word == "_" ? "" : word) + "' ";
  const std::string script = "export LOCKSTEP_RUN_DIR=" + folder + "; source " + LOCKSTEP_SOURCE_FOLDER +
                             "/tools/completion/lockstep.bash; COMP_WORDS=(" + array +
                             "); COMP_CWORD=" + std::to_string(count - 1) + "; _lockstep; echo ${COMPREPLY[*]}";
  const std::string file = folder + "/script";
  std::ofstream(file) << script;
  FILE* pipe = ::popen(("bash " + file).c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  std::array<char, 4096> part{};
  while (const size_t got = std::fread(part.data(), 1, part.size(), pipe)) text.append(part.data(), got);
  CHECK(::pclose(pipe) == 0);
  if (!text.empty()) text.pop_back();
  return text;
}

}  // namespace

TEST_CASE("the manual and the completion are what the tables make of them") {
  for (const ManualPart& part : manual_parts()) {
    const std::string content = content_of(std::string(part.file));
    const auto wanted = with_part(content, part);
    REQUIRE(wanted.ok());
    INFO("tools/" << part.file << ": bring it up to date with 'cmake --build --preset dev --target manual'");
    CHECK(*wanted == content);
  }
}

TEST_CASE("a part is put in its place, and a file without one is refused") {
  const ManualPart part{"f", "verbs", "new\n"};
  CHECK(*with_part("a\n# begin verbs\nold\n# end verbs\nb\n", part) == "a\n# begin verbs\nnew\n# end verbs\nb\n");
  CHECK(*with_part("# begin verbs\n# end verbs\n", part) == "# begin verbs\nnew\n# end verbs\n");
  CHECK_FALSE(with_part("a\n# begin verbs\n", part));
  CHECK_FALSE(with_part("a\n# end verbs\n# begin verbs\n", part));
}

TEST_CASE("lockstep(8) has every verb and option") {
  const std::string page = content_of("man/lockstep.8");
  for (const VerbSpec& verb : all_verbs()) {
    CAPTURE(verb.name);
    CHECK(page.find("\n\\fB" + in_roff(verb.name) + "\\fP ") != std::string::npos);
    for (const OptionSpec& option : verb.options) {
      CAPTURE(option.name);
      CHECK(page.find("\\-\\-" + in_roff(option.name)) != std::string::npos);
    }
  }
}

TEST_CASE("texts of the tables, on a terminal and in the manual") {
  const std::string text =
      "Sets `--to` of _NODE_, as `lockstep up` does;\nsee `blkid`(8), $RUN_DIR and _A_B.log_.\n\n.x \\ a-b";
  const auto paragraphs = plain_paragraphs(text);
  REQUIRE(paragraphs.size() == 2);
  CHECK(fill_lines(paragraphs[0], "", 0, 200) ==
        "Sets --to of NODE, as 'lockstep up' does; see blkid(8), $RUN_DIR and A_B.log.\n");
  CHECK(fill_lines(paragraphs[0], "- ", 2, 24) ==
        "- Sets --to of NODE, as\n  'lockstep up' does;\n  see blkid(8), $RUN_DIR\n  and A_B.log.\n");
  CHECK(roff_text(text, ".IP") ==
        "Sets \\fB\\%\\-\\-to\\fP of \\fI\\%NODE\\fP, as \\fB\\%lockstep \\%up\\fP does; see \\fB\\%blkid\\fP(8), "
        "$RUN_DIR and "
        "\\fI\\%A_B.log\\fP.\n.IP\n\\&.x \\e a-b\n");
}

TEST_CASE("help fits a terminal of 80 columns, but for the usage") {
  std::string all = general_help();
  for (const VerbSpec& verb : all_verbs()) {
    all += verb_help(verb);
    CHECK(verb.summary.size() <= 60);  // one line for each verb
  }
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    CHECK((line.size() <= 80 || line.starts_with("Usage: ")));
    CHECK(line.find('`') == std::string::npos);
  }
}

TEST_CASE("the completion offers verbs, options, nodes and what a condition may be") {
  TemporaryFolder folder;
  const std::string file = folder.write("r.conf", "[resource]\n[node.alpha]\n [node.beta]\n");
  CHECK(offered("lockstep pro_", folder.path()).empty());
  CHECK(offered("lockstep prom", folder.path()) == "promote");
  CHECK(offered("lockstep demote r --f", folder.path()) == "--force");
  CHECK(offered("lockstep status --w", folder.path()) == "--watch");
  CHECK(offered("lockstep --v", folder.path()) == "--version");
  CHECK(offered("lockstep up --v", folder.path()).empty());
  CHECK(offered("lockstep wait r --for role", folder.path()) == "role=Primary role=Secondary");
  CHECK(offered("lockstep wait r --timeout _", folder.path()).empty());
  CHECK(offered("lockstep resync r --config " + file + " _", folder.path()) == "alpha beta");
  CHECK(offered("lockstep --config " + file + " switchover r --to b", folder.path()) == "beta");
  CHECK(offered("lockstep demote r --config " + file + " _", folder.path()).empty());
  CHECK(offered("lockstep up --run-dir " + folder.path() + " --config " + folder.path() + "/r", folder.path()) == file);
}

TEST_CASE("the keys of handlers are the events, and no key stands twice in a section") {
  const std::vector<std::string> handlers = names_of(handler_key_specs());
  for (const HandlerEvent event : kHandlerEvents) {
    CAPTURE(name_of(event));
    CHECK(std::count(handlers.begin(), handlers.end(), name_of(event)) == 1);
  }
  for (const auto* section : {&resource_key_specs(), &node_key_specs(), &handler_key_specs()}) {
    std::set<std::string_view> names;
    for (const KeySpec& key : *section) {
      CAPTURE(key.name);
      CHECK(names.insert(key.name).second);
      CHECK(std::string("`_ABCDEFGHIJKLMNOPQRSTUVWXYZ1").find(key.help[0]) != std::string::npos);
      CHECK(key.help.back() == (key.name == "name" ? '-' : '.'));
    }
  }
}
