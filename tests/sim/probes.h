// The simulator's side of replicator/core/probes.h: which marks a run reached, and which mutant is switched on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lockstep::sim {

// Marks: those of the core, and one for each rule of the handshake ("rule NAME").
const std::vector<std::string>& mark_names();
size_t mark_of_rule(const char* rule);

// Which marks this thread's run reached since it began; each thread runs one run at a time.
void begin_marks();
const std::vector<uint8_t>& marks_reached();
void reach_mark(size_t mark);

const std::vector<std::string>& mutant_names();
bool switch_mutant_on(const std::string& name);  // before any run; false if there is none of that name
bool is_mutant_on(const char* name);

// Marks that no run can reach today, each with the reason.
struct UnreachedMark {
  const char* name;
  const char* why;
};
const std::vector<UnreachedMark>& unreached_marks();

}  // namespace lockstep::sim
