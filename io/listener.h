// A listening socket.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "io/address.h"
#include "io/base/result.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/task.h"

namespace lockstep::io {

struct ListenerOptions {
  mode_t unix_mode = 0600;  // of the socket file, from its first instant
  int backlog = 64;
  StreamOptions stream;  // of each accepted stream
};

class Listener {
 public:
  // Unix: a socket file that nobody answers on is replaced; Busy when somebody does, Invalid when the path holds
  // something else than a socket. TCP: port 0 takes a free one. Busy names the address and says what to do.
  static Result<std::unique_ptr<Listener>> open(Loop& loop, const Address& address,
                                                const ListenerOptions& options = {});
  // No accept() may be pending: close(), and wait for its end. Closes the socket and unlinks the socket file.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // As given, with the real port.
  const Address& bound_address() const { return address_; }

  // The next connection; one caller at a time. Goes on by itself, after a pause, when descriptors have run out; a
  // connection that ended before it was accepted is skipped. Closed after close() and when the loop stops.
  Task<Result<std::unique_ptr<Stream>>> accept();

  // Ends a pending accept() with Closed. No connection is taken from now on, and the socket file is gone.
  void close();

 private:
  Listener(Loop& loop, Address address, ListenerOptions options, int fd);
  void unlink_socket_file();

  Loop& loop_;
  Address address_;
  ListenerOptions options_;
  int fd_;
  uint64_t device_ = 0;  // identity of the socket file, so that another's is not unlinked
  uint64_t inode_ = 0;
  bool closed_ = false;
  Operation* pending_ = nullptr;
};

}  // namespace lockstep::io
