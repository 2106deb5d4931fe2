#include "tools/render.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tools/wait_condition.h"

using namespace lockstep;
using namespace lockstep::tools;
using nlohmann::json;

namespace {

json healthy() {
  return json::parse(R"({"resource": "pgdata", "node": "alpha", "role": "Primary", "disk-state": "UpToDate",
    "generation": "6f0c", "size-bytes": 21474836480, "protocol": "C", "suspended": "no", "degraded": false,
    "promotable": true, "nbd": [], "writes": 0,
    "peers": [{"node": "beta", "connection-state": "Connected", "role": "Secondary",
      "replication-state": "Established", "disk-state": "UpToDate", "out-of-sync-bytes": 0, "lag-bytes": 0,
      "lag-ms": 0}]})");
}

}  // namespace

TEST_CASE("the status of a healthy resource") {
  CHECK(render_status(healthy(), false) ==
        "pgdata role:Primary disk:UpToDate\n"
        "  beta connection:Connected role:Secondary disk:UpToDate replication:Established lag:0B/0ms\n");
  CHECK(render_status(healthy(), true).starts_with("pgdata node:alpha role:Primary disk:UpToDate\n"));
}

TEST_CASE("what is out of the ordinary is told") {
  json status = healthy();
  status["suspended"] = "peer-loss";
  status["degraded"] = true;
  json& peer = status["peers"][0];
  peer["connection-state"] = "Connecting";
  peer["role"] = "Unknown";
  peer["disk-state"] = "DUnknown";
  peer["replication-state"] = "Off";
  peer["out-of-sync-bytes"] = 1536 * 1024;
  CHECK(render_status(status, false) ==
        "pgdata role:Primary disk:UpToDate suspended:peer-loss degraded:yes\n"
        "    clients wait for a peer that is lost; what ends it: 'lockstep explain pgdata'\n"
        "  beta connection:Connecting role:Unknown disk:DUnknown replication:Off out-of-sync:1.5M\n");
}

TEST_CASE("a suspension, and requests that fail, name what ends it") {
  json status = healthy();
  status["suspended"] = "operator";
  CHECK(render_status(status, false).find("to go on: 'lockstep resume pgdata'\n") != std::string::npos);
  status["suspended"] = "no";
  status["failing"] = true;
  CHECK(render_status(status, false)
            .find("disk:UpToDate failing:yes\n    requests of clients fail; what ends it: "
                  "'lockstep explain pgdata'\n") != std::string::npos);
  status["failing"] = false;
  status["suspended"] = "no-data";
  CHECK(render_status(status, false).find("what ends it: 'lockstep explain pgdata'\n") != std::string::npos);
}

TEST_CASE("who stands apart from a peer is told why, and where to read what ends it") {
  json status = healthy();
  json& peer = status["peers"][0];
  peer["connection-state"] = "StandAlone";
  peer["split-brain"] = false;
  CHECK(render_status(status, false).find("split-brain") == std::string::npos);
  peer["split-brain"] = true;
  CHECK(render_status(status, false) ==
        "pgdata role:Primary disk:UpToDate generation:6f0c\n"
        "  beta connection:StandAlone role:Secondary disk:UpToDate replication:Established split-brain:yes\n"
        "    both wrote apart from each other, and neither gives way by itself; how to end it: "
        "'lockstep explain pgdata'\n");
  CHECK(render_event(status, healthy()).find("replication:Established split-brain:yes\n") != std::string::npos);
  peer["split-brain"] = false;
  peer["unrelated"] = true;
  CHECK(render_status(status, false).find(" unrelated:yes\n    the two have no data in common") != std::string::npos);
  peer["unrelated"] = false;
  peer["refused"] = "no";
  CHECK(render_status(status, false).find("refused") == std::string::npos);
  peer["refused"] = "both-primary";
  CHECK(render_status(status, false).find(" refused:both-primary\n    the two meet, and do not go together") !=
        std::string::npos);
}

TEST_CASE("a running resync shows its progress") {
  json status = healthy();
  json& peer = status["peers"][0];
  peer["replication-state"] = "SyncSource";
  peer["disk-state"] = "Inconsistent";
  peer["lag-bytes"] = 4096;
  peer["lag-ms"] = 3;
  peer["resync"] = {
      {"done-percent", 12.5}, {"bytes-left", 1288490189}, {"bytes-per-second", 104857600}, {"eta-seconds", 12}};
  CHECK(render_peer(peer) ==
        "connection:Connected role:Secondary disk:Inconsistent replication:SyncSource lag:4.0K/3ms resync:12.5% "
        "left:1.2G "
        "rate:100.0M/s eta:12s");
  peer["resync"]["bytes-per-second"] = 0;
  CHECK(render_peer(peer).ends_with("resync:12.5% left:1.2G rate:0B/s eta:?"));
  peer["resync"]["bytes-per-second"] = 1;
  peer["resync"]["eta-seconds"] = nullptr;
  CHECK(render_peer(peer).ends_with("eta:?"));
}

TEST_CASE("the generation is printed where it has to be typed") {
  json status = healthy();
  status["disk-state"] = "Inconsistent";
  CHECK(render_resource(status) == "role:Primary disk:Inconsistent generation:6f0c");
  status = healthy();
  status["peers"][0]["connection-state"] = "StandAlone";
  CHECK(render_resource(status) == "role:Primary disk:UpToDate generation:6f0c");
}

TEST_CASE("a status with missing fields is rendered all the same") {
  CHECK(render_status(json::object(), false) == "? role:Unknown disk:DUnknown\n");
  CHECK(render_status(json{{"resource", "r"}, {"peers", {{{"node", "b"}}}}}, false) ==
        "r role:Unknown disk:DUnknown\n  b connection:StandAlone role:Unknown disk:DUnknown replication:Off\n");
}

TEST_CASE("events tell what exists, then only what changed") {
  const json first = healthy();
  CHECK(render_event(first, json()) ==
        "exists resource pgdata role:Primary disk:UpToDate\n"
        "exists peer pgdata beta connection:Connected role:Secondary disk:UpToDate replication:Established\n");
  json second = first;
  second["peers"][0]["connection-state"] = "Connecting";
  second["peers"][0]["lag-ms"] = 99;
  CHECK(render_event(second, first) ==
        "change peer pgdata beta connection:Connecting role:Secondary disk:UpToDate replication:Established\n");
  json third = second;
  third["degraded"] = true;
  CHECK(render_event(third, second) == "change resource pgdata role:Primary disk:UpToDate degraded:yes\n");
  CHECK(render_event(third, third).empty());
}

TEST_CASE("times for people") {
  CHECK(format_seconds(0) == "0s");
  CHECK(format_seconds(59) == "59s");
  CHECK(format_seconds(60) == "1m00s");
  CHECK(format_seconds(3599) == "59m59s");
  CHECK(format_seconds(7380) == "2h03m");
}

TEST_CASE("conditions of wait are read") {
  CHECK(parse_wait_condition("synced").value().kind == WaitKind::Synced);
  CHECK(parse_wait_condition("role=Secondary").value().role == "Secondary");
  CHECK(parse_wait_condition("role=primary").error().message ==
        "unknown condition 'role=primary': did you mean 'role=Primary'?");
  CHECK(parse_wait_condition("").error().message ==
        "unknown condition '': use up, connected, synced, role=Primary, role=Secondary, promotable or verified");
}

TEST_CASE("conditions of wait are evaluated on a status") {
  const auto holds = [](const char* condition, const json& status) {
    return is_fulfilled(parse_wait_condition(condition).value(), status);
  };
  const json good = healthy();
  for (const char* condition : {"up", "connected", "synced", "role=Primary", "promotable"}) {
    CAPTURE(condition);
    CHECK(holds(condition, good));
  }
  CHECK_FALSE(holds("role=Secondary", good));
  CHECK_FALSE(holds("verified", good));

  const std::vector<std::pair<const char*, const char*>> spoils = {
      {"connection-state", "Connecting"}, {"replication-state", "SyncSource"}, {"disk-state", "Inconsistent"}};
  for (const auto& [key, state] : spoils) {
    json status = good;
    status["peers"][0][key] = state;
    CAPTURE(key);
    CHECK_FALSE(holds("synced", status));
    CHECK(holds("connected", status) == (std::string(key) != "connection-state"));
  }
  json own_disk = good;
  own_disk["disk-state"] = "Inconsistent";
  CHECK_FALSE(holds("synced", own_disk));

  // All peers, not one of them.
  json three = good;
  three["peers"].push_back({{"node", "gamma"}, {"connection-state", "Connecting"}});
  CHECK_FALSE(holds("connected", three));
  CHECK_FALSE(holds("synced", three));

  json alone = good;
  alone["peers"] = json::array();
  CHECK(holds("synced", alone));
  alone["promotable"] = false;
  CHECK_FALSE(holds("promotable", alone));
}
