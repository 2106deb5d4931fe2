// status, events and wait: what daemons tell of themselves.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "tools/lockstep_common.h"
#include "tools/lockstep_host.h"
#include "tools/lockstep_progress.h"
#include "tools/node_choice.h"
#include "tools/progress_events.h"
#include "tools/render.h"
#include "tools/wait_condition.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

constexpr auto kWatchPeriod = std::chrono::seconds(1);
constexpr uint64_t kLookPeriodMs = 500;
constexpr auto kRetryPeriod = std::chrono::milliseconds(10);

json status_of_stopped(const std::string& resource, const std::string& node) {
  return {{"resource", resource}, {"node", node}, {"running", false}, {"role", "Unknown"}, {"disk-state", "DUnknown"}};
}

std::string render_host(const HostStatus& host) {
  std::map<std::string, int> nodes;
  for (const json& status : host.running) ++nodes[status.value("resource", std::string())];
  std::string text;
  for (const json& status : host.running)
    text += render_status(status, nodes[status.value("resource", std::string())] > 1);
  for (const auto& stopped : host.stopped)
    text += stopped.resource + " node:" + stopped.node + " " + stopped.line + "\n";
  return text;
}

ExitCode print_host_once(const Arguments& arguments) {
  if (arguments.has("config")) throw CommandError(ExitCode::Usage, "--config needs the name of its resource");
  const bool default_place = !arguments.has("run-dir");
  HostStatus host = host_status(choose_run_dir(arguments.value("run-dir")), default_place);
  if (arguments.has("node")) {
    const std::string node = arguments.value("node");
    std::erase_if(host.running, [&](const json& status) { return status.value("node", std::string()) != node; });
    std::erase_if(host.stopped, [&](const auto& stopped) { return stopped.node != node; });
  }
  if (arguments.has("json")) {
    json all = host.running;
    for (const auto& stopped : host.stopped) all.push_back(status_of_stopped(stopped.resource, stopped.node));
    print_json(all.is_null() ? json::array() : all);
  } else {
    print_text(render_host(host));
    if (host.running.empty() && host.stopped.empty()) std::fputs("lockstep: no resource runs here\n", stderr);
  }
  for (const std::string& error : host.errors) std::fprintf(stderr, "lockstep: %s\n", error.c_str());
  return host.errors.empty() ? ExitCode::Done : ExitCode::Usage;
}

ExitCode print_resource_once(const Arguments& arguments) {
  const Place place = place_of_daemon(arguments);
  const Result<json> status = ask_status(place.socket_path, deadline_after_ms(kStatusTimeoutMs));
  if (!status) fail_without_daemon(place, status.error());
  if (arguments.has("json")) {
    print_json(json::array({*status}));
  } else {
    print_text(render_status(*status, false));
  }
  return ExitCode::Done;
}

ExitCode print_once(const Arguments& arguments) {
  return arguments.resource.empty() ? print_host_once(arguments) : print_resource_once(arguments);
}

// "role:Secondary disk:UpToDate; beta connection:Connecting …": one line of a status.
std::string one_line(const json& status) {
  std::string text = render_resource(status);
  for (const json& peer : status.value("peers", json::array())) {
    text += "; " + peer.value("node", std::string("?")) + " " + render_peer(peer);
  }
  return text;
}

[[noreturn]] void fail_not_in_time(const Place& place, const std::string& condition, const std::string& timeout,
                                   const std::string& state) {
  throw CommandError(ExitCode::NotInTime, place.resource + " on node " + place.node + " was not " + condition +
                                              " within " + timeout + " s: " + state);
}

// Of the first resync or verify that runs. Progress is no event.
void show_progress(const Place& place, ProgressShow& show) {
  const Result<json> status = ask_status(place.socket_path, deadline_after_ms(kStatusTimeoutMs));
  if (!status) return;
  for (const json& peer : status->value("peers", json::array())) {
    for (const char* what : {"resync", "verify"}) {
      if (!peer.contains(what)) continue;
      show.update(std::string(what) + " " + peer.value("node", std::string("?")), progress_of(peer[what]));
      return;
    }
  }
  show.clear();
}

ExitCode wait_until_up(const Place& place, const std::string& timeout, uint64_t deadline_ms) {
  for (;;) {
    const Result<json> status = ask_status(place.socket_path, deadline_ms);
    if (status) return ExitCode::Done;
    if (monotonic_ms() >= deadline_ms) fail_not_in_time(place, "up", timeout, status.error().message);
    std::this_thread::sleep_for(kRetryPeriod);
  }
}

}  // namespace

ExitCode run_status(const Arguments& arguments) {
  if (!arguments.has("watch")) return print_once(arguments);
  if (::isatty(STDOUT_FILENO) == 1 && !arguments.has("json")) return run_watch(arguments);
  for (;;) {
    try {
      print_once(arguments);
    } catch (const CommandError& error) {
      if (error.code() != ExitCode::NoDaemon) throw;
      print_text(std::string(error.what()) + "\n");
    }
    if (!arguments.has("json")) print_text("\n");
    std::this_thread::sleep_for(kWatchPeriod);
  }
}

ExitCode run_events(const Arguments& arguments) {
  const Place place = place_of_daemon(arguments);
  ControlConnection connection = connect_to_daemon(place);
  Status sent = connection.send(json{{"verb", "events"}});
  if (!sent) fail_without_daemon(place, sent.error());
  const auto print_document = [](const json& document) {
    print_text(document.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  };
  const bool text = !arguments.has("json");
  ProgressEvents progress;
  json previous;
  for (;;) {
    // The daemon tells of states. How far something is, is asked for while it runs.
    const bool looks = ProgressEvents::runs(previous);
    Result<json> event = connection.receive(looks ? deadline_after_ms(kLookPeriodMs) : kForever);
    if (!event && event.error().kind == ErrorKind::TimedOut) {
      const Result<json> status = ask_status(place.socket_path, deadline_after_ms(kStatusTimeoutMs));
      if (!status) continue;
      const std::string lines = progress.due(*status, monotonic_ms());
      if (text) {
        print_text(lines);
      } else if (!lines.empty()) {
        print_document({{"event", "progress"}, {"status", *status}});
      }
      continue;
    }
    if (!event) fail_without_daemon(place, event.error());
    if (event->contains("exit")) throw CommandError(ExitCode::Failed, event->value("message", std::string()));
    json status = event->value("status", json::object());
    if (text) {
      print_text(render_event(status, previous));
    } else {
      print_document(*event);
    }
    previous = std::move(status);
  }
}

ExitCode run_wait(const Arguments& arguments) {
  const WaitCondition condition = value_or_fail(parse_wait_condition(arguments.value("for")));
  const uint64_t deadline_ms = deadline_after_ms(timeout_ms_of(arguments, kForever));
  const Place place = place_of_daemon(arguments);
  if (condition.kind == WaitKind::Up) return wait_until_up(place, arguments.value("timeout"), deadline_ms);

  ControlConnection connection = connect_to_daemon(place);
  Status sent = connection.send(json{{"verb", "events"}});
  if (!sent) fail_without_daemon(place, sent.error());
  std::string state = "its daemon did not answer";
  ProgressShow show(false);
  const bool shows = show.on_terminal() && (condition.kind == WaitKind::Synced || condition.kind == WaitKind::Verified);
  for (;;) {
    const uint64_t look_ms = shows ? std::min(deadline_ms, deadline_after_ms(kLookPeriodMs)) : deadline_ms;
    const Result<json> event = connection.receive(look_ms);
    if (!event && event.error().kind == ErrorKind::TimedOut && look_ms < deadline_ms) {
      show_progress(place, show);
      continue;
    }
    show.clear();
    if (!event && event.error().kind == ErrorKind::TimedOut) {
      fail_not_in_time(place, arguments.value("for"), arguments.value("timeout"), state);
    }
    if (!event) fail_without_daemon(place, event.error());
    if (event->contains("exit")) throw CommandError(ExitCode::Failed, event->value("message", std::string()));
    const json status = event->value("status", json::object());
    if (is_fulfilled(condition, status)) return ExitCode::Done;
    if (condition.kind == WaitKind::Verified && !tells_verified(status)) {
      throw CommandError(ExitCode::Failed, "this daemon does not tell whether its replicas were verified");
    }
    state = one_line(status);
  }
}

}  // namespace lockstep::tools
