// The documents know what the program knows: links, verbs, options and keys that they name are there.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "tools/configuration.h"
#include "tools/verbs.h"

using namespace lockstep::tools;
namespace fs = std::filesystem;

namespace {

const fs::path kRoot = LOCKSTEP_SOURCE_FOLDER;

std::string content_of(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

std::vector<fs::path> documents() {
  std::vector<fs::path> found;
  for (auto entry = fs::recursive_directory_iterator(kRoot); entry != fs::recursive_directory_iterator(); ++entry) {
    const std::string name = entry->path().filename().string();
    if (entry->is_directory() && (name == "build" || name.starts_with('.'))) entry.disable_recursion_pending();
    if (entry->is_regular_file() && entry->path().extension() == ".md") found.push_back(entry->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

struct Piece {
  std::string text;    // of `text` in a line, or a line of a fenced block
  std::string fence;   // "ini", "sh"; "-" for a fence without a word; empty for a span
  size_t line_number;  // from 1
};

// What stands as code in a document.
std::vector<Piece> code_of(const std::string& content) {
  static const std::regex span("`([^`]+)`");
  std::vector<Piece> pieces;
  std::istringstream lines(content);
  std::string fence;
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.starts_with("```")) {
      fence = !fence.empty() ? "" : (line.size() > 3 ? line.substr(3) : "-");
    } else if (!fence.empty()) {
      pieces.push_back({line, fence, number});
    } else {
      for (std::sregex_iterator it(line.begin(), line.end(), span), end; it != end; ++it)
        pieces.push_back({(*it)[1], "", number});
    }
  }
  return pieces;
}

// As GitHub makes them of headings.
std::string anchor_of(const std::string& heading) {
  std::string anchor;
  for (const char c : heading) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_') {
      anchor += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (c == ' ') {
      anchor += '-';
    }
  }
  return anchor;
}

bool has_anchor(const std::string& content, const std::string& anchor) {
  std::istringstream lines(content);
  for (std::string line; std::getline(lines, line);) {
    const size_t level = line.find_first_not_of('#');
    if (level == 0 || level == std::string::npos || line[level] != ' ') continue;
    if (anchor_of(line.substr(level + 1)) == anchor) return true;
  }
  return false;
}

bool is_option_of(const std::vector<OptionSpec>& options, const std::string& name) {
  return std::any_of(options.begin(), options.end(), [&](const OptionSpec& option) { return option.name == name; });
}

// What is wrong with the orders "lockstep VERB … --option …" in a piece of code; empty when nothing is.
std::string wrong_order_in(const std::string& text) {
  static const std::regex order("(^|[^-/A-Za-z.])lockstep ([a-z][a-z-]*)([^|;&#)\"'`]*)");
  static const std::regex option("(^| |\\[)--([a-z][a-z-]*)");
  for (std::sregex_iterator it(text.begin(), text.end(), order), end; it != end; ++it) {
    const VerbSpec* verb = find_verb((*it)[2].str());
    if (verb == nullptr) return "no verb '" + (*it)[2].str() + "'";
    const std::string rest = (*it)[3];
    for (std::sregex_iterator at(rest.begin(), rest.end(), option); at != end; ++at) {
      const std::string name = (*at)[2];
      if (!is_option_of(verb->options, name) && !is_option_of(common_options(), name))
        return "'" + std::string(verb->name) + "' has no option '--" + name + "'";
    }
  }
  return {};
}

bool is_option_of_any_verb(const std::string& name) {
  if (is_option_of(common_options(), name)) return true;
  return std::any_of(all_verbs().begin(), all_verbs().end(),
                     [&](const VerbSpec& verb) { return is_option_of(verb.options, name); });
}

// The parser itself is asked: whatever else is wrong with the value, an unknown key is found first.
bool is_key_of(const std::string& section, const std::string& key) {
  std::string text;
  for (const char* each : {"resource", "node.alpha", "handlers"})
    text += "[" + std::string(each) + "]\n" + (section == each ? key + " = x\n" : "");
  const auto parsed = parse_configuration(text, "f");
  return parsed.ok() || parsed.error().message.find("unknown ") == std::string::npos;
}

bool is_key(const std::string& key) {
  return is_key_of("resource", key) || is_key_of("node.alpha", key) || is_key_of("handlers", key);
}

// For those who run Lockstep: here an option or a key without more words around it is Lockstep's.
constexpr std::array kGuides{
    "README.md",      "docs/getting-started.md", "docs/tour.md",   "docs/postgresql.md",  "docs/from-drbd.md",
    "docs/sizing.md", "docs/operations.md",      "docs/states.md", "docs/nbd-support.md", "docs/arbiter.md"};

}  // namespace

TEST_CASE("every link of every document leads to a file and a heading that are there") {
  static const std::regex link("\\]\\(([^) ]+)\\)");
  size_t seen = 0;
  for (const fs::path& document : documents()) {
    const std::string content = content_of(document);
    for (std::sregex_iterator it(content.begin(), content.end(), link), end; it != end; ++it) {
      std::string target = (*it)[1];
      if (target.find("://") != std::string::npos || target.starts_with("mailto:")) continue;
      ++seen;
      const size_t hash = target.find('#');
      const std::string anchor = hash == std::string::npos ? "" : target.substr(hash + 1);
      target.resize(std::min(hash, target.size()));
      const fs::path path = target.empty() ? document : document.parent_path() / target;
      INFO(fs::relative(document, kRoot).string() << " links " << (*it)[1]);
      CHECK(fs::exists(path));
      if (!anchor.empty() && fs::is_regular_file(path)) CHECK(has_anchor(content_of(path), anchor));
    }
  }
  CHECK(seen > 50);
}

TEST_CASE("every order that a document shows is one that the command takes") {
  size_t seen = 0;
  for (const fs::path& document : documents()) {
    for (const Piece& piece : code_of(content_of(document))) {
      INFO(fs::relative(document, kRoot).string() << ":" << piece.line_number << ": " << piece.text);
      CHECK(wrong_order_in(piece.text).empty());
      if (piece.text.find("lockstep ") != std::string::npos) ++seen;
    }
  }
  CHECK(seen > 100);
  // The test is not blind.
  CHECK(wrong_order_in("lockstep promot r") == "no verb 'promot'");
  CHECK(wrong_order_in("x && lockstep demote r --peer-fenced") == "'demote' has no option '--peer-fenced'");
  CHECK(wrong_order_in("'lockstep wait RES --for synced --node a'").empty());
  CHECK(wrong_order_in("lockstep-attach pgdata; /etc/lockstep nothing").empty());
}

TEST_CASE("every option that a guide names alone belongs to a verb or to a tool") {
  std::string tools;
  for (const char* tool : {"quickstart", "check", "lockstep-attach", "lockstep-detach"})
    tools += content_of(kRoot / "tools" / tool);
  static const std::regex option("^--([a-z][a-z-]*)");
  size_t seen = 0;
  for (const char* guide : kGuides) {
    for (const Piece& piece : code_of(content_of(kRoot / guide))) {
      std::smatch match;
      if (!piece.fence.empty() || !std::regex_search(piece.text, match, option)) continue;
      ++seen;
      INFO(guide << ":" << piece.line_number << ": " << piece.text);
      CHECK((is_option_of_any_verb(match[1]) || tools.find("--" + match[1].str()) != std::string::npos));
    }
  }
  CHECK(seen > 10);
}

TEST_CASE("every key of the configuration that a guide sets is one") {
  static const std::regex section("^\\[([a-z.A-Z0-9]+)\\]$");
  static const std::regex setting("^([a-z][a-z-]*) = ");
  size_t seen = 0;
  for (const fs::path& document : documents()) {
    const std::string name = fs::relative(document, kRoot).string();
    const bool is_guide = std::find(kGuides.begin(), kGuides.end(), name) != kGuides.end();
    std::string within;
    for (const Piece& piece : code_of(content_of(document))) {
      std::smatch match;
      INFO(name << ":" << piece.line_number << ": " << piece.text);
      if (piece.fence == "ini" && std::regex_search(piece.text, match, section)) within = match[1];
      if (!std::regex_search(piece.text, match, setting)) continue;
      const bool ours = within == "resource" || within == "handlers" || within.starts_with("node.");
      if (piece.fence == "ini" && ours) {
        ++seen;
        CHECK(is_key_of(within.starts_with("node.") ? "node.alpha" : within, match[1]));
      } else if (piece.fence.empty() && is_guide) {
        ++seen;
        CHECK(is_key(match[1]));
      }
    }
  }
  CHECK(seen > 20);
  CHECK_FALSE(is_key("protokol"));
}

TEST_CASE("the options that stand beside DRBD's are keys") {
  std::istringstream lines(content_of(kRoot / "docs/from-drbd.md"));
  static const std::regex row("^\\|[^|]*\\|([^|]*)\\|[^|]*\\|$");
  static const std::regex span("`([a-z][a-z-]*)( = [^`]*)?`");
  size_t seen = 0;
  bool within = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("## ")) within = line == "## Options";
    std::smatch cells;
    if (!within || !std::regex_search(line, cells, row)) continue;
    const std::string cell = cells[1];
    for (std::sregex_iterator it(cell.begin(), cell.end(), span), end; it != end; ++it) {
      ++seen;
      INFO(line);
      CHECK(is_key((*it)[1]));
    }
  }
  CHECK(seen > 8);
}
