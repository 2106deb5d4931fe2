#include "io/base/result.h"

#include <system_error>

namespace lockstep {

Error system_error(std::string what, int system_errno) {
  what += ": ";
  what += std::generic_category().message(system_errno);
  return Error{ErrorKind::Io, system_errno, std::move(what)};
}

}  // namespace lockstep
