#include "tools/progress_events.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/render.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

constexpr std::array kKinds{"resync", "verify"};

double steps(double percent) {
  return std::floor(percent / ProgressEvents::kTellEveryPercent);
}

}  // namespace

bool ProgressEvents::runs(const json& status) {
  if (!status.is_object()) return false;
  for (const json& peer : status.value("peers", json::array())) {
    // A resync begins in this state before it can say how much it has to do.
    const std::string state = peer.value("replication-state", std::string());
    if (state != "Established" && state != "Off" && !state.empty()) return true;
  }
  return false;
}

std::string ProgressEvents::due(const json& status, uint64_t now_ms) {
  std::string lines;
  std::map<std::string, Told> running;
  for (const json& peer : status.value("peers", json::array())) {
    const std::string node = peer.value("node", std::string("?"));
    const bool paused = peer.value("replication-state", std::string()).starts_with("Paused");
    for (const char* kind : kKinds) {
      const auto found = peer.find(kind);
      if (found == peer.end() || !found->is_object()) continue;
      const double percent = found->value("done-percent", 0.0);
      const std::string key = std::string(kind) + " " + node;
      const auto before = told_.find(key);
      // A later resync begins anew.
      if (before == told_.end() || percent < before->second.percent) {
        running[key] = {percent, now_ms};
        continue;
      }
      Told told = before->second;
      const bool is_late = !paused && now_ms - told.at_ms >= kTellEveryMs;
      if (steps(percent) > steps(told.percent) || is_late) {
        lines += "progress peer " + status.value("resource", std::string("?")) + " " + node +
                 render_progress(peer, kind) + "\n";
        told = {percent, now_ms};
      }
      running[key] = told;
    }
  }
  told_ = std::move(running);
  return lines;
}

}  // namespace lockstep::tools
