#include "tools/progress_events.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace lockstep::tools;
using nlohmann::json;

namespace {

json at(double percent, const char* state = "SyncSource") {
  return {
      {"resource", "pgdata"},
      {"peers",
       {{{"node", "beta"},
         {"replication-state", state},
         {"resync",
          {{"done-percent", percent}, {"bytes-left", 1 << 20}, {"bytes-per-second", 1 << 20}, {"eta-seconds", 1}}}}}}};
}

}  // namespace

TEST_CASE("a resync is told of by each tenth that is done") {
  ProgressEvents events;
  CHECK(events.due(at(3), 0).empty());
  CHECK(events.due(at(9.9), 100).empty());
  CHECK(events.due(at(10.1), 200) == "progress peer pgdata beta resync:10.1% left:1.0M rate:1.0M/s eta:1s\n");
  CHECK(events.due(at(19.9), 300).empty());
  CHECK_FALSE(events.due(at(45), 400).empty());
  CHECK(events.due(at(45), 500).empty());
}

TEST_CASE("a slow resync is told of each five seconds, a paused one is not") {
  ProgressEvents events;
  CHECK(events.due(at(1), 1000).empty());
  CHECK(events.due(at(1), 5999).empty());
  CHECK_FALSE(events.due(at(1), 6000).empty());
  CHECK(events.due(at(1), 10'999).empty());
  CHECK(events.due(at(1, "PausedSyncS"), 20'000).empty());
  CHECK_FALSE(events.due(at(1), 20'001).empty());
}

TEST_CASE("the next resync begins anew, also unseen, and verify counts apart") {
  ProgressEvents events;
  CHECK(events.due(at(85), 0).empty());
  CHECK(events.due(at(12), 100).empty());
  CHECK_FALSE(events.due(at(20), 200).empty());
  json status = at(20);
  status["peers"][0]["verify"] = {{"done-percent", 50.0}};
  CHECK(events.due(status, 300).empty());
  status["peers"][0]["verify"]["done-percent"] = 61.0;
  CHECK(events.due(status, 400).starts_with("progress peer pgdata beta verify:61.0%"));
}

TEST_CASE("looked at again is what runs, and nothing else") {
  CHECK(ProgressEvents::runs(at(0)));
  CHECK(ProgressEvents::runs(at(0, "VerifyT")));
  CHECK(ProgressEvents::runs(at(0, "WFBitMapS")));
  CHECK_FALSE(ProgressEvents::runs(at(0, "Established")));
  CHECK_FALSE(ProgressEvents::runs(at(0, "Off")));
  CHECK_FALSE(ProgressEvents::runs(json::object()));
  CHECK_FALSE(ProgressEvents::runs(json()));
}
