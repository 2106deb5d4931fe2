// A two-way byte stream over a socket. An interface, so that an encrypted stream can stand in its place.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "io/address.h"
#include "io/base/result.h"
#include "io/loop.h"
#include "io/task.h"

namespace lockstep::io {

// One reader and one writer at a time, which may be different tasks. The stream outlives every task that it gave out:
// to end a session, shutdown(), wait for its reader and writer to end, and then destroy the stream.
class Stream {
 public:
  virtual ~Stream() = default;

  // At least one byte and at most into.size(). Closed at the end of the stream, after shutdown(), and when the loop
  // stops (then with system_errno ECANCELED). `into` must not be empty.
  virtual Task<Result<size_t>> read_some(std::span<uint8_t> into) = 0;
  // What comes with that and has no room in `into` goes to `then`, where the stream can do so at no cost: the two
  // together get so many.
  virtual Task<Result<size_t>> read_scattered(std::span<uint8_t> into, std::span<uint8_t> then);
  // All of `into`. Closed also when the stream ends in the middle (the message says so).
  Task<Status> read_exact(std::span<uint8_t> into);
  // And what comes with its end, as above: how much of `then` that is, nothing perhaps.
  Task<Result<size_t>> read_exact(std::span<uint8_t> into, std::span<uint8_t> then);
  // All pieces, in order, gathered into as few system calls as possible. The pieces and the array that names them
  // stay valid and unchanged until the task ends.
  virtual Task<Status> write_all(std::span<const iovec> pieces) = 0;
  Task<Status> write_all(std::span<const uint8_t> bytes);

  // Ends both directions now: pending and later reads and writes end with Closed. May be called any number of times.
  virtual void shutdown() = 0;
  // The peer reads the end of the stream once it has read everything; reading here goes on.
  virtual void shutdown_writing() = 0;
  // Says what the stream's own protocol has to say before the end (TLS: close_notify). No write may be going on.
  virtual Task<void> end_writing() { co_return; }
  // shutdown(), and the descriptor is given back as soon as no operation uses it.
  virtual void close() = 0;
  virtual bool is_shut_down() const = 0;

  // For messages: "10.0.0.2:41822", "unix socket /run/x.sock", with the process id and user where the system tells.
  virtual const std::string& peer_description() const = 0;
  // The peer's host alone ("10.0.0.2"); "local" for a unix socket. Two streams of one host have the same.
  virtual const std::string& peer_host() const = 0;
  // Of a unix socket, as the kernel knows the process that connected.
  struct Credentials {
    uint32_t process = 0;
    uint32_t user = 0;
  };
  virtual std::optional<Credentials> peer_credentials() const { return std::nullopt; }
};

struct StreamOptions {
  // TCP: after this time without an acknowledgement for sent bytes the connection ends (TCP_USER_TIMEOUT). 0: the
  // system's default.
  uint32_t user_timeout_ms = 0;
  // 0: the system's default.
  uint32_t send_buffer_bytes = 0;
  uint32_t receive_buffer_bytes = 0;
};

// Takes a connected socket, and owns it from now on. TCP: sets TCP_NODELAY and keepalive.
std::unique_ptr<Stream> make_socket_stream(Loop& loop, int fd, const StreamOptions& options = {});

// Names are resolved before (a blocking look-up, at once for numeric addresses); each address of the name is tried in
// turn. TimedOut, or Io with the last reason and the address in the message. `timeout_ms` is for all tries together.
Task<Result<std::unique_ptr<Stream>>> connect_stream(Loop& loop, Address address, uint64_t timeout_ms,
                                                     StreamOptions options = {});

// Two ends of one connection inside this process, for tests.
Result<std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>> make_stream_pair(Loop& loop);

}  // namespace lockstep::io
