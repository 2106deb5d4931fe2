// What a running daemon takes over from its configuration file, and what it refuses to.
#include "tools/reload.h"

#include <catch2/catch.hpp>

using namespace lockstep::tools;

namespace {

const std::string kText = R"([resource]
name = r
size = 1G
protocol = C
peer-timeout = 3s
[node.a]
address = 127.0.0.1:1
disk = /d/a
nbd = unix:/run/a
[node.b]
address = 127.0.0.1:2
disk = /d/b
nbd = unix:/run/b
)";

std::string with(std::string text, const std::string& what, const std::string& instead) {
  const size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), instead);
}

std::string refusal(const std::string& text) {
  const auto running = parse_configuration(kText, "r.conf");
  const auto wanted = parse_configuration(text, "r.conf");
  REQUIRE(running.ok());
  REQUIRE(wanted.ok());
  return refusal_to_reload(*running, *wanted);
}

}  // namespace

TEST_CASE("protocol may change, and where things stand in the file") {
  CHECK(refusal(kText) == "");
  CHECK(refusal(with(kText, "protocol = C", "protocol = A")) == "");
  CHECK(refusal(with(kText, "protocol = C\n", "")) == "");
  CHECK(refusal(with(kText, "nbd = unix:/run/b\n", "nbd = unix:/run/b\nprotocol = A\n")) == "");
  CHECK(refusal(with(kText, "name = r\n", "\n# a comment\nname = r\n\n")) == "");
}

TEST_CASE("a reload names what else has changed") {
  CHECK(refusal(with(with(kText, "protocol = C", "protocol = A"), "3s", "4s")) ==
        "reload refused: r.conf changes peer-timeout, and a running node takes over nothing but protocol: restart its "
        "daemon for that, or undo it in the file");
  const auto names = [](const std::string& text, const std::string& key) {
    return refusal(text).find("changes " + key + ",") != std::string::npos;
  };
  CHECK(names(with(kText, "1G", "2G"), "size"));
  CHECK(names(with(kText, "protocol = C", "sync = any 1"), "sync"));
  CHECK(names(with(kText, "protocol = C", "insecure = yes"), "secret-file or insecure"));
  CHECK(names(with(kText, "protocol = C", "activity-log-extents = 100"), "activity-log-extents"));
  CHECK(names(with(kText, "protocol = C", "poll-us = 0"), "poll-us"));
  CHECK(names(kText + "[handlers]\npromoted = /bin/true\n", "the section [handlers]"));
  CHECK(names(with(kText, "/d/b", "/d/c"), "a [node.NAME] section"));
  CHECK(names(kText + "[node.c]\naddress = 127.0.0.1:3\ndisk = /d/c\nnbd = unix:/run/c\n", "a [node.NAME] section"));
}
