#include "tests/sim/probes.h"

#include <algorithm>
#include <deque>

#include "replicator/core/generation_rules.h"
#include "replicator/core/probes.h"

namespace lockstep::sim {
namespace {

struct Mutants {
  std::vector<std::string> names;
  std::deque<bool> is_on;  // addresses stay
};

// Filled while the program starts, in whatever order its parts do; sorted by name where it is shown.
std::vector<std::string>& marks() {
  static std::vector<std::string> names;
  return names;
}
Mutants& mutants() {
  static Mutants all;
  return all;
}

// Rules are marked where their name is noted, so that the checks' own use of the table does not count.
const bool kRulesRegistered = [] {
  for (int rule = 0; rule < 256; ++rule) {
    const std::string name(to_string(static_cast<repl::Rule>(rule)));
    if (name == "unknown") break;
    marks().push_back("rule " + name);
  }
  return true;
}();

thread_local std::vector<uint8_t> reached;

}  // namespace

const std::vector<std::string>& mark_names() {
  return marks();
}

size_t mark_of_rule(const char* rule) {
  const auto found = std::find(marks().begin(), marks().end(), std::string("rule ") + rule);
  return static_cast<size_t>(found - marks().begin());
}

void begin_marks() {
  reached.assign(marks().size(), 0);
}

const std::vector<uint8_t>& marks_reached() {
  return reached;
}

void reach_mark(size_t mark) {
  if (mark < reached.size()) reached[mark] = 1;
}

const std::vector<std::string>& mutant_names() {
  return mutants().names;
}

bool switch_mutant_on(const std::string& name) {
  Mutants& all = mutants();
  const auto found = std::find(all.names.begin(), all.names.end(), name);
  if (found == all.names.end()) return false;
  all.is_on[static_cast<size_t>(found - all.names.begin())] = true;
  return true;
}

bool is_mutant_on(const char* name) {
  const Mutants& all = mutants();
  const auto found = std::find(all.names.begin(), all.names.end(), name);
  return found != all.names.end() && all.is_on[static_cast<size_t>(found - all.names.begin())];
}

const std::vector<UnreachedMark>& unreached_marks() {
  static const std::vector<UnreachedMark> list = {
      {"bitmap in several messages", "a bitmap of a run has fewer than 256 runs of bits"},
      {"third generation before the second is confirmed", "it takes a second peer"},
      {"rule both-inconsistent", "it takes a third node, who was source to both"},
      {"rule inconsistent-would-be-source", "the same"},
      {"asked to serve while it gives up its data", "it takes a third node, who is source"},
      {"rule self-is-partial", "it takes a third node"},
      {"rule peer-is-partial", "the same"},
      {"rule self-is-unanswered", "the same"},
      {"rule peer-is-unanswered", "the same"},
      {"rule primary-decides", "the same"},
      {"rule primary-decides-self-is-behind", "the same"},
      {"rule primary-decides-peer-is-behind", "the same"},
      {"rule target-of-another", "the same"},
      {"rule self-follows-another", "the same"},
      {"rule peer-follows-another", "the same"},
      {"rule equal-self-received-more", "it takes two survivors of a third node"},
      {"rule equal-peer-received-more", "the same"},
      {"rule equal-self-may-lack", "the same"},
      {"rule equal-peer-may-lack", "the same"},
      {"read asked of another peer", "the same"},
      {"rule equal-self-fresher", "who has bits and is UpToDate has a generation of its own"},
      {"rule equal-peer-fresher", "the same"},
      {"rule peer-is-far-behind", "rare without --lost-disks"},
      {"rule self-is-far-behind", "the same"},
      {"rule peer-rolled-back", "it takes --lost-disks"},
      {"rule self-rolled-back", "the same"},
      {"rule both-rolled-back", "both disks would have to be rolled back"},
      {"rule unrelated", "no run mixes disks of two resources"},
      {"rule unrelated-self-gives-way", "the same"},
      {"rule unrelated-peer-gives-way", "the same"},
  };
  return list;
}

}  // namespace lockstep::sim

namespace lockstep::repl::probes {

size_t register_mark(const char* name) {
  const auto found = std::find(sim::marks().begin(), sim::marks().end(), name);
  if (found != sim::marks().end()) return static_cast<size_t>(found - sim::marks().begin());
  sim::marks().emplace_back(name);
  return sim::marks().size() - 1;
}

const bool* register_mutant(const char* name) {
  sim::Mutants& all = sim::mutants();
  const auto found = std::find(all.names.begin(), all.names.end(), name);
  if (found != all.names.end()) return &all.is_on[static_cast<size_t>(found - all.names.begin())];
  all.names.emplace_back(name);
  all.is_on.push_back(false);
  return &all.is_on.back();
}

void reach(size_t mark) {
  sim::reach_mark(mark);
}

}  // namespace lockstep::repl::probes
