// Commands that are run on events: when, with what, how many at once.
#include "tools/handlers.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "tests/unit/io/support.h"
#include "tests/unit/tools/temporary_folder.h"
#include "tools/handler_environment.h"

namespace lockstep::tools {
namespace {

using Events = std::vector<Happening>;
constexpr uint64_t kSecondUs = 1'000'000;

WatchedState state_with_peer(repl::ConnectionState connection, repl::ReplicationState replication) {
  WatchedState state;
  state.disk_state = repl::DiskState::UpToDate;
  state.peers.push_back({connection, replication, repl::Role::Primary, repl::DiskState::UpToDate});
  return state;
}

const WatchedState kAway = state_with_peer(repl::ConnectionState::Connecting, repl::ReplicationState::Off);
const WatchedState kThere = state_with_peer(repl::ConnectionState::Connected, repl::ReplicationState::Established);

// A handler that appends its first argument and its LOCKSTEP_N to a file, and then does what `end` says.
struct Scene {
  TemporaryFolder folder;
  std::unique_ptr<io::Loop> loop = io::make_loop();
  HandlersConfiguration configuration;

  void handle(HandlerEvent event, const std::string& end = "") {
    const std::string name(name_of(event));
    const std::string path = folder.write(name, "#!/bin/sh\necho \"$1 $N\" >>" + log() + "\n" + end + "\n");
    configuration.commands[static_cast<size_t>(event)] = "/bin/sh " + path + " " + name;
  }
  std::string log() const { return folder.path() + "/log"; }
  std::string logged() const {
    std::ifstream file(log());
    std::stringstream content;
    content << file.rdbuf();
    return content.str();
  }
};

io::Task<void> run_some(io::Loop& loop, Handlers& handlers, std::vector<std::pair<HandlerEvent, std::string>> calls,
                        std::vector<bool>& ends) {
  io::Signal ended(loop);
  for (const auto& [event, number] : calls) {
    handlers.run(event, number, {"N=" + number}, [&](bool well) {
      ends.push_back(well);
      ended.notify_all();
    });
  }
  while (ends.size() < calls.size()) co_await ended.wait();
}

std::vector<bool> ends_of(Scene& scene, const std::vector<std::pair<HandlerEvent, std::string>>& calls) {
  Handlers handlers(*scene.loop, "r", scene.configuration);
  std::vector<bool> ends;
  io::run_to_end(*scene.loop, run_some(*scene.loop, handlers, calls, ends));
  return ends;
}

io::Task<void> run_then_close(Handlers& handlers, HandlerEvent event, int count) {
  for (int i = 0; i < count; ++i) handlers.run(event, std::to_string(i), {"N=" + std::to_string(i)});
  co_await handlers.close();
}

io::Task<void> run_same_then_close(Handlers& handlers, HandlerEvent event) {
  for (const char* number : {"1", "2", "3"}) handlers.run(event, "", {"N=" + std::string(number)});
  co_await handlers.close();
}

}  // namespace

TEST_CASE("handlers of one event run one after the other, and tell how they ended") {
  Scene scene;
  scene.handle(HandlerEvent::PeerLost, "[ $N != 2 ]");
  CHECK(ends_of(scene, {{HandlerEvent::PeerLost, "1"}, {HandlerEvent::PeerLost, "2"}, {HandlerEvent::PeerLost, "3"}}) ==
        std::vector<bool>{true, false, true});
  CHECK(scene.logged() == "peer-lost 1\npeer-lost 2\npeer-lost 3\n");
}

TEST_CASE("a handler without an end holds up no other event's, and is killed at the deadline") {
  Scene scene;
  scene.configuration.timeout_ms = 1000;
  scene.handle(HandlerEvent::PeerLost, "sleep 1000");
  scene.handle(HandlerEvent::Promoted);
  CHECK(ends_of(scene, {{HandlerEvent::PeerLost, "1"}, {HandlerEvent::Promoted, "2"}}) ==
        std::vector<bool>{true, false});
}

TEST_CASE("a program that is not there is a handler that failed") {
  Scene scene;
  scene.configuration.commands[static_cast<size_t>(HandlerEvent::Demoted)] = "/nowhere/at/all";
  CHECK(ends_of(scene, {{HandlerEvent::Demoted, "1"}}) == std::vector<bool>{false});
}

TEST_CASE("an event without a handler does nothing") {
  Scene scene;
  Handlers handlers(*scene.loop, "r", scene.configuration);
  CHECK_FALSE(handlers.has(HandlerEvent::Demoted));
  io::run_to_end(*scene.loop, run_then_close(handlers, HandlerEvent::Demoted, 1));
  CHECK(scene.logged().empty());
}

TEST_CASE("what waits is bounded; what runs and waits when the node stops is run to its end") {
  Scene scene;
  scene.handle(HandlerEvent::Suspended);
  Handlers handlers(*scene.loop, "r", scene.configuration);
  io::run_to_end(*scene.loop, run_then_close(handlers, HandlerEvent::Suspended, 100));
  const std::string log = scene.logged();
  CHECK(std::count(log.begin(), log.end(), '\n') == 1 + Handlers::kWaiting);
}

TEST_CASE("of calls that are about the same and have not started, the newest counts") {
  Scene scene;
  scene.handle(HandlerEvent::LocalIoError);
  Handlers handlers(*scene.loop, "r", scene.configuration);
  io::run_to_end(*scene.loop, run_same_then_close(handlers, HandlerEvent::LocalIoError));
  CHECK(scene.logged() == "local-io-error 1\nlocal-io-error 3\n");
}

TEST_CASE("a role and a suspension that change are events") {
  StateWatch watch(1);
  WatchedState state = kAway;
  CHECK(watch.update(state, 1).empty());
  state.role = repl::Role::Primary;
  CHECK(watch.update(state, 2) == Events{{HandlerEvent::Promoted, {}}});
  CHECK(watch.update(state, 3).empty());
  state.suspension = repl::Suspension::PeerLoss;
  CHECK(watch.update(state, 4) == Events{{HandlerEvent::Suspended, {}}});
  state.suspension = repl::Suspension::Operator;  // for another reason: it was told
  CHECK(watch.update(state, 5).empty());
  CHECK(watch.before().suspension == repl::Suspension::PeerLoss);
  state.suspension = repl::Suspension::No;
  state.role = repl::Role::Secondary;
  CHECK(watch.update(state, 6) == Events{{HandlerEvent::Demoted, {}}, {HandlerEvent::Resumed, {}}});
}

TEST_CASE("a link that is back at once was not lost") {
  StateWatch watch(1);
  CHECK(watch.update(kThere, 1) == Events{{HandlerEvent::PeerConnected, 0}});
  CHECK_FALSE(watch.due_us());
  CHECK(watch.update(kAway, kSecondUs).empty());
  REQUIRE(watch.due_us());
  CHECK(*watch.due_us() == kSecondUs + StateWatch::kLostAfterUs);
  CHECK(watch.update(kThere, *watch.due_us() - 1).empty());
  CHECK_FALSE(watch.due_us());
  watch.update(kAway, 3 * kSecondUs);
  CHECK(watch.update(kAway, 4 * kSecondUs) == Events{{HandlerEvent::PeerLost, 0}});
  CHECK_FALSE(watch.due_us());
  CHECK(watch.before().peers[0].replication == repl::ReplicationState::Established);
  CHECK(watch.update(kThere, 5 * kSecondUs) == Events{{HandlerEvent::PeerConnected, 0}});
}

TEST_CASE("the end of a resync is an event of its target only") {
  const auto change = [](repl::ReplicationState from, repl::ReplicationState to) {
    StateWatch watch(1);
    watch.update(state_with_peer(repl::ConnectionState::Connected, from), 1);
    return watch.update(state_with_peer(repl::ConnectionState::Connected, to), 2);
  };
  using repl::ReplicationState;
  CHECK(change(ReplicationState::SyncTarget, ReplicationState::Established) ==
        Events{{HandlerEvent::AfterResyncTarget, 0}});
  CHECK(change(ReplicationState::PausedSyncT, ReplicationState::Established) ==
        Events{{HandlerEvent::AfterResyncTarget, 0}});
  CHECK(change(ReplicationState::SyncTarget, ReplicationState::Off).empty());
  CHECK(change(ReplicationState::SyncSource, ReplicationState::Established).empty());
  CHECK(change(ReplicationState::Off, ReplicationState::Established).empty());
}

TEST_CASE("a handler's environment") {
  ResourceConfiguration configuration;
  configuration.name = "r";
  configuration.path = "/etc/lockstep/r.conf";
  NodeConfiguration node;
  node.name = "a";
  node.disk = "/d/a";
  node.metadata = "/d/a.meta";
  const repl::Generation generation{1, 2};
  const std::string run_dir = "/run/lockstep";
  const std::vector<std::string> one{"b"}, two{"b", "c"};
  const auto has = [](const std::vector<std::string>& list, const std::string& entry) {
    return std::find(list.begin(), list.end(), entry) != list.end();
  };
  StateWatch watch(1);
  watch.update(kThere, 1);
  watch.update(kAway, 2);
  const HandlerContext context{configuration, node, run_dir, one, watch.now(), watch.before(), generation, {4096}};
  const auto list = handler_environment(context, {HandlerEvent::PeerLost, 0}, "why");
  for (const char* entry :
       {"LOCKSTEP_EVENT=peer-lost", "LOCKSTEP_RESOURCE=r", "LOCKSTEP_NODE=a", "LOCKSTEP_PEER=b",
        "LOCKSTEP_GENERATION=00000000000000010000000000000002", "LOCKSTEP_CONFIG=/etc/lockstep/r.conf",
        "LOCKSTEP_RUN_DIR=/run/lockstep", "LOCKSTEP_DISK=/d/a", "LOCKSTEP_METADATA=/d/a.meta", "LOCKSTEP_REASON=why",
        "LOCKSTEP_CONNECTION_STATE=Connecting", "LOCKSTEP_OLD_CONNECTION_STATE=Connected",
        "LOCKSTEP_REPLICATION_STATE=Off", "LOCKSTEP_OLD_REPLICATION_STATE=Established",
        "LOCKSTEP_OUT_OF_SYNC_BYTES=4096"}) {
    CAPTURE(entry);
    CHECK(has(list, entry));
  }
  // Of two nodes every event is about the other one; of more, only what concerns one.
  CHECK(has(handler_environment(context, {HandlerEvent::Promoted, {}}, ""), "LOCKSTEP_PEER=b"));
  StateWatch of_two(2);
  const HandlerContext more{configuration, node, run_dir, two, of_two.now(), of_two.before(), generation, {0, 8192}};
  CHECK_FALSE(has(handler_environment(more, {HandlerEvent::Promoted, {}}, ""), "LOCKSTEP_PEER=b"));
  CHECK(has(handler_environment(more, {HandlerEvent::PeerLost, 1}, ""), "LOCKSTEP_PEER=c"));
}

TEST_CASE("lockstep.conf(5) has every event and every variable") {
  std::ifstream file(std::string(LOCKSTEP_SOURCE_FOLDER) + "/tools/man/lockstep.conf.5");
  std::stringstream content;
  content << file.rdbuf();
  const std::string page = content.str();
  const auto in_roff = [](std::string_view text) {
    std::string escaped;
    for (const char c : text) escaped += c == '-' ? "\\-" : std::string(1, c);
    return escaped;
  };
  for (const HandlerEvent event : kHandlerEvents) {
    CAPTURE(name_of(event));
    CHECK(page.find("\\fB" + in_roff(name_of(event)) + "\\fP\n") != std::string::npos);
  }
  const ResourceConfiguration configuration;
  const NodeConfiguration node;
  const std::string run_dir = "/run";
  const std::vector<std::string> names{"b"};
  const StateWatch watch(1);
  const HandlerContext context{configuration, node, run_dir, names, watch.now(), watch.before(), {}, {0}};
  for (const std::string& entry : handler_environment(context, {HandlerEvent::PeerLost, 0}, "why")) {
    const std::string name = entry.substr(0, entry.find('='));
    CAPTURE(name);
    CHECK(page.find(name) != std::string::npos);
  }
}

}  // namespace lockstep::tools
