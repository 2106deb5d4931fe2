// The live screen, and lines of progress.
#include "tools/watch_screen.h"

#include <catch2/catch.hpp>
#include <sstream>

#include "tools/progress_line.h"

using namespace lockstep::tools;
using nlohmann::json;

namespace {

json status_of(uint64_t writes) {
  return json::parse(R"({"resource": "pgdata", "node": "alpha", "role": "Primary", "disk-state": "UpToDate",
    "size-bytes": 21474836480, "protocol": "C", "sync": "all", "suspended": "no", "degraded": true,
    "nbd": [{"uri": "x", "clients": 2}], "writes": )" +
                     std::to_string(writes) + R"(, "written-bytes": )" + std::to_string(writes * 4096) +
                     R"(, "reads": 0, "read-bytes": 0, "flushes": 7, "in-flight": 3,
    "peers": [{"node": "beta", "connection-state": "Connected", "role": "Secondary", "disk-state": "Inconsistent",
      "replication-state": "SyncSource", "out-of-sync-bytes": 1073741824, "lag-bytes": 0, "lag-ms": 0,
      "resync": {"done-percent": 50.0, "bytes-left": 1073741824, "bytes-per-second": 10485760, "eta-seconds": 102}}]})");
}

json latencies_of(uint64_t fast, uint64_t slow) {
  return {{"bounds-us", {100, 1000, 5000}}, {"write", {fast, 0, slow, 0}}, {"peer-write", {{"beta", {fast, 0, 0, 0}}}}};
}

WatchHistory history() {
  WatchHistory result;
  auto& samples = result[{"pgdata", "alpha"}];
  samples.push_back({1000, status_of(100), latencies_of(0, 0)});
  samples.push_back({3000, status_of(1100), latencies_of(90, 10)});
  return result;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    REQUIRE(line.ends_with('\r'));
    line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

}  // namespace

TEST_CASE("the screen shows roles, rates, percentiles and a resync in 80 columns") {
  WatchView view;
  view.title = "now";
  const std::vector<std::string> lines = lines_of(render_watch(history(), view));
  REQUIRE(lines.size() == 6);
  CHECK(lines[1] == " !  pgdata on alpha          Primary   UpToDate  20.0G, protocol C, degraded");
  CHECK(lines[2] == "      write 500/s 2.0M/s  read 0/s 0B/s  flush 0/s  in flight 3  clients 2");
  CHECK(lines[3] == "      p50/p99<=ms  write 0.1/5  beta 0.1/0.1");
  CHECK(lines[4] == " !    beta         Connected Secondary Inconsistent SyncSource lag 0B/0ms");
  CHECK(lines[5] == "      resync [##############---------------] 50.0% of 2.0G, 10.0M/s, 1m42s to go");
}

TEST_CASE("no line is wider and no screen higher than the terminal, colours or not") {
  for (const size_t columns : {10U, 40U, 60U, 80U, 200U}) {
    for (const bool colours : {false, true}) {
      WatchView view;
      view.columns = columns;
      view.colours = colours;
      view.notices = {std::string(300, 'x')};
      size_t codes = 0;
      for (std::string line : lines_of(render_watch(history(), view))) {
        for (size_t at = line.find('\033'); at != std::string::npos; at = line.find('\033')) {
          line.erase(at, line.find('m', at) + 1 - at);
          ++codes;
        }
        CHECK(line.size() <= columns);
      }
      CHECK((codes != 0) == colours);
    }
  }
  WatchView low;
  low.rows = 3;
  const auto lines = lines_of(render_watch(history(), low));
  REQUIRE(lines.size() == 3);
  CHECK(lines[2] == "... 4 more lines: the screen is too low");
  CHECK(render_watch({}, WatchView{}).find("no resource runs here") != std::string::npos);
}

TEST_CASE("a suspension and a split brain stand out by words, too") {
  WatchHistory changed = history();
  json& status = changed.begin()->second.back().status;
  status["suspended"] = "peer-loss";
  status["peers"][0]["connection-state"] = "StandAlone";
  status["peers"][0]["split-brain"] = true;
  const auto lines = lines_of(render_watch(changed, WatchView{}));
  CHECK(lines[1].starts_with(" !! pgdata"));
  CHECK(lines[2] == "      SUSPENDED (peer-loss): see 'lockstep explain pgdata'");
  CHECK(lines[5].starts_with(" !!   beta         StandAlone  SPLIT BRAIN: see 'lockstep explain'"));
}

TEST_CASE("a percentile is the bound of its bucket, over what was counted in between") {
  const json bounds = {100, 1000};
  CHECK(percentile_us(bounds, {5, 0, 0}, {5, 0, 0}, 0.5) == 0);
  CHECK(percentile_us(bounds, {5, 0, 0}, {6, 0, 0}, 0.5) == 100);
  CHECK(percentile_us(bounds, {0, 0, 0}, {50, 50, 0}, 0.5) == 100);
  CHECK(percentile_us(bounds, {0, 0, 0}, {50, 50, 0}, 0.51) == 1000);
  CHECK(percentile_us(bounds, {0, 0, 0}, {1, 0, 1}, 0.99) == UINT64_MAX);
  CHECK(percentile_us(bounds, nullptr, {1, 0, 1}, 0.99) == 0);
  CHECK(percentile_us(bounds, {9, 9, 9}, {1, 0, 0}, 0.5) == 0);  // another daemon
}

TEST_CASE("a line of progress gives way to a narrow terminal") {
  const Progress half{1 << 30, uint64_t{2} << 30, 10 << 20};
  CHECK(progress_line("zeroing /disk", half, 79) ==
        "zeroing /disk [#############--------------] 50.0% of 2.0G, 10.0M/s, 1m42s to go");
  for (size_t columns = 1; columns < 120; ++columns)
    CHECK(progress_line("zeroing /disk", half, columns).size() <= columns);
  CHECK(progress_words({2048, 2048, 5}) == "100.0% of 2.0K");
  CHECK(progress_words({9999, 10000, 0}) == "99.9% of 9.8K");
  CHECK(progress_words({0, 0, 0}) == "100.0% of 0B");
  CHECK(bar(0, 6) == "[----]");
  CHECK(bar(100, 6) == "[####]");
}
