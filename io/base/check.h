// Checks that stay on in every build: each guards the data of a user, so continuing would be worse than stopping.
#pragma once

namespace lockstep {

// Prints the place and the broken condition on stderr and aborts. Never returns.
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace lockstep

#define LOCKSTEP_CHECK(condition) \
  (static_cast<bool>(condition) ? static_cast<void>(0) : ::lockstep::check_failed(#condition, __FILE__, __LINE__))
