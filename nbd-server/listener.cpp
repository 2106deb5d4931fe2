#include "nbd-server/listener.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "io/base/check.h"

namespace lockstep::nbd {

NbdServer::NbdServer(io::Loop& loop, ExportTable& exports, ServerOptions options)
    : loop_(loop), exports_(exports), options_(options), services_(loop, exports, options.session), gate_(loop) {}

NbdServer::~NbdServer() {
  LOCKSTEP_CHECK(gate_.inside() == 0);
}

Status NbdServer::listen(const io::Address& address, TlsTerms tls) {
  LOCKSTEP_CHECK(tls.mode == TlsMode::Off || tls.credentials != nullptr);
  Result<std::unique_ptr<io::Listener>> listener = io::Listener::open(loop_, address, options_.listener);
  if (!listener.ok()) return std::move(listener).error();
  auto door = std::make_unique<Door>();
  door->listener = std::move(listener).value();
  door->tls = std::move(tls);
  doors_.push_back(std::move(door));
  gate_.enter();
  ++accepting_;
  loop_.spawn(accept_connections(*doors_.back()));
  return {};
}

std::vector<io::Address> NbdServer::addresses() const {
  std::vector<io::Address> addresses;
  for (const auto& door : doors_) addresses.push_back(door->listener->bound_address());
  return addresses;
}

io::Task<void> NbdServer::accept_connections(Door& door) {
  for (;;) {
    Result<std::unique_ptr<io::Stream>> accepted = co_await door.listener->accept();
    if (!accepted.ok()) {
      if (!stopping_ && !loop_.stopping()) {
        spdlog::error("NBD server: no more connections are taken on {}: {}",
                      io::format_address(door.listener->bound_address()), accepted.error().message);
      }
      break;
    }
    std::unique_ptr<io::Stream> stream = std::move(accepted).value();
    if (stopping_) {
      stream->close();
      continue;
    }
    make_room(door);
    const bool unix_socket = door.listener->bound_address().family == io::AddressFamily::Unix;
    auto session = std::make_unique<Session>(services_, std::move(stream), door.tls, unix_socket);
    gate_.enter();
    door.sessions.push_back(session.get());
    loop_.spawn(run_session(door, std::move(session)));
  }
  --accepting_;
  gate_.leave();
}

void NbdServer::make_room(Door& door) {
  const auto in_handshake = [](const Session* session) { return !session->in_transmission(); };
  const auto handshakes = static_cast<size_t>(std::count_if(door.sessions.begin(), door.sessions.end(), in_handshake));
  if (handshakes < options_.handshakes_per_listener) return;
  std::map<std::string_view, size_t> of_host;
  std::string_view busiest;
  for (const Session* session : door.sessions) {
    if (!in_handshake(session)) continue;
    const std::string_view host = session->client().host;
    if (++of_host[host] > of_host[busiest]) busiest = host;
  }
  const auto oldest = std::find_if(door.sessions.begin(), door.sessions.end(), [&](const Session* session) {
    return in_handshake(session) && session->client().host == busiest;
  });
  LOCKSTEP_CHECK(oldest != door.sessions.end());
  (*oldest)->abort();
  // Its task ends in this turn; taking it from the list now keeps the count right and ends it only once.
  door.sessions.erase(oldest);
}

io::Task<void> NbdServer::run_session(Door& door, std::unique_ptr<Session> session) {
  const std::string peer = session->peer_description();
  const std::string ended_because = co_await session->serve();
  if (ended_because.empty()) {
    spdlog::debug("NBD server: {} disconnected", peer);
  } else {
    spdlog::debug("NBD server: the session of {} ended: {}", peer, ended_because);
  }
  std::erase(door.sessions, session.get());
  session.reset();
  gate_.leave();
}

io::Task<void> NbdServer::stop() {
  LOCKSTEP_CHECK(!stopping_);
  stopping_ = true;
  exports_.begin_shutdown();
  for (const auto& door : doors_) {
    door->listener->close();
    for (Session* session : door->sessions) {
      if (!session->in_transmission()) session->begin_close();
    }
  }
  for (const auto& entry : exports_.exports()) co_await entry->close_sessions();
  co_await gate_.emptied();
}

}  // namespace lockstep::nbd
