#include "tools/service_status.h"

#include <catch2/catch.hpp>

using namespace lockstep::tools;
using nlohmann::json;

TEST_CASE("the service manager is told role, disk, what is wrong, and each peer") {
  json status = {{"role", "Primary"},
                 {"disk-state", "UpToDate"},
                 {"suspended", "no"},
                 {"degraded", false},
                 {"peers",
                  {{{"node", "beta"},
                    {"connection-state", "Connected"},
                    {"disk-state", "UpToDate"},
                    {"replication-state", "Established"}},
                   {{"node", "gamma"}, {"connection-state", "Connecting"}, {"disk-state", "DUnknown"}}}}};
  CHECK(service_status(status) == "Primary, UpToDate; beta: Connected, UpToDate, Established; gamma: Connecting");
  status["peers"][1] = {{"node", "gamma"}, {"connection-state", "StandAlone"}, {"split-brain", true}};
  CHECK(service_status(status).ends_with("; gamma: StandAlone, split brain"));
  status["suspended"] = "peer-loss";
  status["degraded"] = true;
  status.erase("peers");
  CHECK(service_status(status) == "Primary, UpToDate, suspended: peer-loss, degraded");
}
