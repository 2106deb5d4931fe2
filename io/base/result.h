// Errors as values. A Result must be looked at: it is nodiscard, and reading the value of a failed one aborts.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "io/base/check.h"

namespace lockstep {

enum class ErrorKind : uint8_t {
  Invalid,      // the caller's input breaks a rule
  NotFound,     // a named thing does not exist
  Refused,      // a safety rule says no
  Busy,         // somebody else holds it
  Corrupt,      // stored or received bytes fail their check
  Unsupported,  // this host or build cannot do it
  Exhausted,    // a bounded resource is used up
  Closed,       // the other side, or we, ended it
  TimedOut,
  Io,  // the operating system reported an error: see system_errno
};

struct [[nodiscard]] Error {
  ErrorKind kind = ErrorKind::Io;
  int system_errno = 0;  // 0 where the operating system was not asked
  std::string message;   // one line: what failed, why, and what to do about it
};

// Makes the Error of a failed system call: `what` followed by the system's words for `system_errno` (positive).
Error system_error(std::string what, int system_errno);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    LOCKSTEP_CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    LOCKSTEP_CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    LOCKSTEP_CHECK(ok());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    LOCKSTEP_CHECK(!ok());
    return std::get<1>(state_);
  }
  Error&& error() && {
    LOCKSTEP_CHECK(!ok());
    return std::get<1>(std::move(state_));
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const& {
    LOCKSTEP_CHECK(!ok_);
    return error_;
  }
  Error&& error() && {
    LOCKSTEP_CHECK(!ok_);
    return std::move(error_);
  }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

}  // namespace lockstep
