// Places in the core that the simulator watches and breaks. In every build but the simulator's both are nothing.
//
//   LOCKSTEP_MARK("name");             a rare branch was taken: a sweep that takes it in no seed fails
//   if (LOCKSTEP_MUTANT("name")) …     a known bug, put back in while the simulator runs with that mutant: it must be
//                                      found. Everywhere else the condition is the constant false
//
// docs/testing.md tells how to add one.
#pragma once

#ifdef LOCKSTEP_PROBES

#include <algorithm>
#include <cstddef>

namespace lockstep::repl::probes {

// Defined by the simulator. Numbers are given while the program starts, so that a place that no run reaches is known.
size_t register_mark(const char* name);
const bool* register_mutant(const char* name);  // true while it is switched on
void reach(size_t mark);

template <size_t Length>
struct Name {
  char text[Length];
  constexpr Name(const char (&name)[Length]) {  // NOLINT(google-explicit-constructor): a literal becomes a Name
    std::copy_n(name, Length, text);
  }
};
template <Name kName>
struct Mark {
  static inline const size_t number = register_mark(kName.text);
};
template <Name kName>
struct Mutant {
  static inline const bool* const is_on = register_mutant(kName.text);
};

}  // namespace lockstep::repl::probes

#define LOCKSTEP_MARK(name) (::lockstep::repl::probes::reach(::lockstep::repl::probes::Mark<name>::number))
#define LOCKSTEP_MUTANT(name) (*::lockstep::repl::probes::Mutant<name>::is_on)

#else

#define LOCKSTEP_MARK(name) (static_cast<void>(0))
#define LOCKSTEP_MUTANT(name) (false)

#endif
