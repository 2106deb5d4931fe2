// What the operator's arbiter program is told: docs/arbiter.md.
#include "tools/fence_command.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "replicator/core/types.h"

using namespace lockstep;

namespace {

constexpr repl::Generation kCurrent{1, 1}, kBefore{2, 2}, kReserved{3, 3};

std::vector<std::string> told(repl::ArbiterQuestion question, const repl::Generation& generation) {
  repl::ArbiterRequest request;
  request.question = question;
  request.peers = {"beta"};
  request.behind = {"gamma"};
  request.role = repl::Role::Primary;
  request.generations.current = kCurrent;
  request.generations.history[0] = kBefore;
  request.generations.reserved = kReserved;
  request.generation = generation;
  return tools::FenceCommand::environment_of({"pgdata", "alpha", {"alpha", "beta", "gamma"}, {}}, request);
}

std::string value_of(const std::vector<std::string>& environment, const std::string& name) {
  const auto found = std::find_if(environment.begin(), environment.end(),
                                  [&](const std::string& each) { return each.rfind(name + "=", 0) == 0; });
  return found == environment.end() ? "absent" : found->substr(name.size() + 1);
}

}  // namespace

TEST_CASE("a Primary that lost its peer tells the program what its record is to bear, and who is behind") {
  const auto environment = told(repl::ArbiterQuestion::FencePeers, kReserved);
  CHECK(value_of(environment, "LOCKSTEP_GENERATION") == to_string(kCurrent));
  CHECK(value_of(environment, "LOCKSTEP_NEXT_GENERATION") == to_string(kReserved));
  CHECK(value_of(environment, "LOCKSTEP_HISTORY") == to_string(kBefore) + " " + to_string(kReserved));
  CHECK(value_of(environment, "LOCKSTEP_PEERS") == "beta");
  CHECK(value_of(environment, "LOCKSTEP_BEHIND") == "gamma");
}

TEST_CASE("the record keeps the name of a Primary's next generation when a peer is put back before it is used") {
  const auto environment = told(repl::ArbiterQuestion::PeersInSync, kReserved);
  CHECK(value_of(environment, "LOCKSTEP_GENERATION") == to_string(kReserved));
  const std::string history = value_of(environment, "LOCKSTEP_HISTORY");
  CHECK(history == to_string(kCurrent) + " " + to_string(kBefore) + " " + to_string(kReserved));
  CHECK(value_of(environment, "LOCKSTEP_NEXT_GENERATION") == "absent");
  CHECK(value_of(environment, "LOCKSTEP_BEHIND") == "absent");
  CHECK(value_of(told(repl::ArbiterQuestion::PeersInSync, kCurrent), "LOCKSTEP_GENERATION") == to_string(kCurrent));
}
