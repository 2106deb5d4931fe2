// What a line of the log is about, beside its words: for a log that keeps fields, as the journal does. It stands around
// the call that logs, in one function and across no co_await, and the sink looks at it.
#pragma once

#include <string_view>

namespace lockstep::io {

class LogAbout {
 public:
  // `event` is a word such as "resync-started", `peer` a node's name; either may be empty. Both must outlive this.
  LogAbout(std::string_view event, std::string_view peer) : event_(event), peer_(peer), outer_(present()) {
    present() = this;
  }
  ~LogAbout() { present() = outer_; }
  LogAbout(const LogAbout&) = delete;
  LogAbout& operator=(const LogAbout&) = delete;

  std::string_view event() const { return event_; }
  std::string_view peer() const { return peer_; }
  // Of this thread's present call; null where nobody has said.
  static const LogAbout* current() { return present(); }

 private:
  static const LogAbout*& present() {
    static thread_local const LogAbout* about = nullptr;
    return about;
  }

  std::string_view event_;
  std::string_view peer_;
  const LogAbout* outer_;
};

}  // namespace lockstep::io
