// The daemon's control socket: orders and questions from the operator's command, one JSON document per line.
//
//   {"verb":"promote","arguments":{"peer-fenced":true}}   ->   {"exit":0,"message":"…","data":…}
//   {"verb":"status"}   ->   {"exit":0,"message":"","data":{…}}
//   {"verb":"events"}   ->   {"event":"exists","status":{…}}, then {"event":"change","status":{…}} for each change
//
// Several requests may follow one another on a connection; "events" is a connection's last. Arguments are booleans,
// unsigned numbers and strings. A line is at most 64 KiB, and at most 32 clients are served at once: what breaks that,
// or is not such a document, gets one answer with exit 1 and the end of its connection. A client of "events" that does
// not read is dropped. The socket's file has mode 0600: who may open it may do everything.
//
// What the operator's command sends, besides "status" and "events" (arguments that were not given are left out):
//   down; promote {"peer-fenced":bool, "force-data-loss":"GENERATION"}; demote {"force":bool};
//   switchover {"to":"NODE"};
//   connect, disconnect, pause-resync, resume-resync {"peer":"NODE"};
//   resync {"peer":"NODE", "discard-my-data":"GENERATION"};
//   invalidate; invalidate-peer {"peer":"NODE"}; verify {"peer":"NODE", "repair":bool};
//   resume {"alone":bool}; resize {"size-bytes":number}; suspend; outdate; detach; attach; reload; explain; metrics;
//   latencies
// Orders also take {"user":"…", "sudo-user":"…"}, for the audit log; {"generation":"…"}, refused unless it is the
// node's own; and {"dry-run":bool}: nothing is done, "message" says what would be lost, and "data" has it as "lost"
// (null: nothing). With "order-follows" a dry run that is refused is recorded as the order would be. "down" is answered
// before the daemon ends. The answers of explain and metrics carry their text in "message"; for explain, "data" may
// hold the same as an object.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "io/base/result.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/task.h"

namespace lockstep::io {
class Listener;
class Stream;
}  // namespace lockstep::io

namespace lockstep::repl {

// The exit codes of the operator's command.
enum class ControlExit : uint8_t {
  Done = 0,
  Failed = 1,
  Usage = 2,    // wrong arguments
  Refused = 3,  // by a safety rule
};

class ControlRequest {
 public:
  using Value = std::variant<bool, uint64_t, std::string>;

  std::string verb;
  std::map<std::string, Value> arguments;
  // Who sent it, as the kernel knows; nothing where it does not.
  std::optional<uint32_t> process;
  std::optional<uint32_t> user;

  bool has(const std::string& name) const { return arguments.count(name) != 0; }
  // True only for a boolean that is true.
  bool flag(const std::string& name) const;
  // The string, or empty when it is missing or of another type.
  std::string text(const std::string& name) const;
  // The number, or 0 when it is missing or of another type.
  uint64_t number(const std::string& name) const;
};

// Takes the answer to one request. It may outlive the client and the socket. Destroyed without done(): the client
// reads that the daemon ended before the order was carried out.
class ControlAnswer {
 public:
  virtual ~ControlAnswer() = default;
  // Once. `message`: one line for people; empty where there is nothing to say. Other exits than Done: what was refused
  // or failed, why, and what to do.
  void done(ControlExit exit, const std::string& message);
  virtual void done(ControlExit exit, const std::string& message, const nlohmann::json& data) = 0;
};

// What the daemon implements. Called on the loop's thread, never from inside state_changed().
class ControlVerbs {
 public:
  virtual ~ControlVerbs() = default;
  // One object, as in `lockstep status --json`.
  virtual nlohmann::json status() = 0;
  // Every verb but "status" and "events". An unknown verb is answered with Usage by the implementation.
  virtual void execute(ControlRequest request, std::unique_ptr<ControlAnswer> answer) = 0;
};

// What "events" compares: the strings and booleans of a status, and "size-bytes", in all its objects. Other numbers
// are counters, whose changes are no events; "resync" and "verify" are progress.
nlohmann::json state_part(const nlohmann::json& status);

class ControlSocket {
 public:
  // Listens on `path`. Busy when a daemon answers there already; a stale socket file is replaced. `loop` and `verbs`
  // outlive the socket.
  static Result<std::unique_ptr<ControlSocket>> open(io::Loop& loop, const std::string& path, ControlVerbs& verbs);
  // After close() has ended, or after the loop has.
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

  // Something that status() tells may have changed. Cheap; may be called anywhere and often: status() is asked later
  // in the same turn, once, and only if somebody listens.
  void state_changed();

  // Removes the socket's file, tells clients whose order is not done that the daemon ends, and ends all connections.
  // Answers given before are still delivered.
  io::Task<void> close();

 private:
  struct Session;
  class SessionAnswer;
  class ChangeNotice;

  ControlSocket(io::Loop& loop, ControlVerbs& verbs, std::unique_ptr<io::Listener> listener);
  io::Task<void> accept_clients();
  io::Task<void> serve(std::shared_ptr<Session> session);
  // False: the connection ends.
  io::Task<bool> answer_line(std::shared_ptr<Session> session, std::string line);
  io::Task<void> await_answer(std::shared_ptr<Session> session);
  io::Task<void> stream_events(std::shared_ptr<Session> session);
  io::Task<void> watch_for_end(std::shared_ptr<Session> session);
  io::Task<void> refuse(std::unique_ptr<io::Stream> stream);
  void publish_changes();

  io::Loop& loop_;
  ControlVerbs& verbs_;
  std::unique_ptr<io::Listener> listener_;
  io::Gate gate_;
  std::vector<std::shared_ptr<Session>> sessions_;
  std::unique_ptr<ChangeNotice> notice_;
  bool closing_ = false;
};

}  // namespace lockstep::repl
