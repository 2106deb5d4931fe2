// A connection to a daemon's control socket, for programs that do nothing else meanwhile: everything here blocks.
// The documents are described in replicator/control_socket.h.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "io/base/result.h"

namespace lockstep::tools {

inline constexpr uint64_t kForever = UINT64_MAX;

// Milliseconds on the monotonic clock.
uint64_t monotonic_ms();
// `timeout_ms` from now; kForever stays it.
uint64_t deadline_after_ms(uint64_t timeout_ms);

struct ControlReply {
  int exit = 1;
  std::string message;
  std::shared_ptr<const nlohmann::json> data;  // never null; a JSON null where there is none
};

class ControlConnection {
 public:
  // NotFound when nobody listens on `path` (no file, or a file that a dead daemon left).
  static Result<ControlConnection> open(const std::string& path);
  ~ControlConnection();
  ControlConnection(ControlConnection&& other) noexcept;
  ControlConnection& operator=(ControlConnection&&) = delete;

  Status send(const nlohmann::json& document);
  // The next document. Closed at the connection's end, TimedOut at the deadline (monotonic_ms()), Corrupt for what is
  // no JSON object.
  Result<nlohmann::json> receive(uint64_t deadline_ms);
  // Sends a request and waits for its answer. `arguments`: an object.
  Result<ControlReply> ask(const std::string& verb, const nlohmann::json& arguments, uint64_t deadline_ms);

  // The daemon's process, as the kernel tells; 0 when it does not.
  pid_t peer_pid() const;

 private:
  explicit ControlConnection(int socket) : socket_(socket) {}

  int socket_;
  std::string received_;
};

}  // namespace lockstep::tools
