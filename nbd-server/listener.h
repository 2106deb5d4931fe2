// The NBD server: listens on its addresses and runs a session for each connection.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "io/address.h"
#include "io/base/result.h"
#include "io/listener.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/task.h"
#include "nbd-server/export_table.h"
#include "nbd-server/session.h"

namespace lockstep::nbd {

struct ServerOptions {
  // On each address, in their handshake. A further one ends an older one: the oldest of the host that has most of them,
  // so that a host that opens connections without end is in its own way only.
  size_t handshakes_per_listener = 256;
  SessionOptions session;
  io::ListenerOptions listener;
};

class NbdServer {
 public:
  // Loop and table must outlive the server. One server serves a table.
  NbdServer(io::Loop& loop, ExportTable& exports, ServerOptions options = {});
  // Either stop() has ended, or nothing has been listened on.
  ~NbdServer();
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  // Opens the address and takes connections from now on. TCP port 0 takes a free port. Errors as io::Listener::open.
  Status listen(const io::Address& address, TlsTerms tls = {});
  // Of each listen() that succeeded, in order, with the real port.
  std::vector<io::Address> addresses() const;

  // Connections, including those in their handshake.
  size_t connection_count() const { return gate_.inside() - accepting_; }

  // Takes no further connection, ends those in their handshake soon, closes the sessions of all exports (see
  // Export::close_sessions: the exports are refused from now on), and ends when nothing is left. Once.
  io::Task<void> stop();

 private:
  struct Door {
    std::unique_ptr<io::Listener> listener;
    TlsTerms tls;
    std::vector<Session*> sessions;  // oldest first
  };
  io::Task<void> accept_connections(Door& door);
  io::Task<void> run_session(Door& door, std::unique_ptr<Session> session);
  void make_room(Door& door);

  io::Loop& loop_;
  ExportTable& exports_;
  ServerOptions options_;
  SessionServices services_;
  std::vector<std::unique_ptr<Door>> doors_;
  size_t accepting_ = 0;
  bool stopping_ = false;
  io::Gate gate_;  // counts the accepting tasks and the sessions
};

}  // namespace lockstep::nbd
