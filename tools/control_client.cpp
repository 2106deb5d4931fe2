#include "tools/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

namespace lockstep::tools {
namespace {

using nlohmann::json;

constexpr size_t kMaximumAnswerBytes = 16 * 1024 * 1024;
constexpr time_t kConnectTimeoutSeconds = 5;

}  // namespace

uint64_t monotonic_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

uint64_t deadline_after_ms(uint64_t timeout_ms) {
  return timeout_ms == kForever ? kForever : monotonic_ms() + timeout_ms;
}

Result<ControlConnection> ControlConnection::open(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Error{ErrorKind::Invalid, 0,
                 "the control socket's path " + path + " is too long: choose a shorter --run-dir"};
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return system_error("cannot make a socket", errno);
  ControlConnection connection(socket);
  // For a daemon whose backlog is full, and for one that has stopped taking what is sent.
  const timeval timeout{kConnectTimeoutSeconds, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int code = errno;
    Error error = system_error(path, code);
    if (code == ENOENT || code == ECONNREFUSED || code == ENOTDIR) error.kind = ErrorKind::NotFound;
    if (code == EAGAIN) error.kind = ErrorKind::TimedOut;
    return error;
  }
  return connection;
}

ControlConnection::~ControlConnection() {
  if (socket_ >= 0) ::close(socket_);
}

ControlConnection::ControlConnection(ControlConnection&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)), received_(std::move(other.received_)) {}

Status ControlConnection::send(const json& document) {
  const std::string line = document.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t part = ::send(socket_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (part < 0) {
      if (errno == EINTR) continue;
      Error error = system_error("the daemon takes no request", errno);
      if (errno == EPIPE || errno == ECONNRESET) error.kind = ErrorKind::Closed;
      return error;
    }
    sent += static_cast<size_t>(part);
  }
  return {};
}

Result<json> ControlConnection::receive(uint64_t deadline_ms) {
  for (;;) {
    const size_t end = received_.find('\n');
    if (end != std::string::npos) {
      json document =
          json::parse(received_.begin(), received_.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      received_.erase(0, end + 1);
      if (!document.is_object()) return Error{ErrorKind::Corrupt, 0, "the daemon sent what is no JSON object"};
      return document;
    }
    if (received_.size() > kMaximumAnswerBytes) return Error{ErrorKind::Corrupt, 0, "the daemon's answer has no end"};
    int wait_ms = -1;
    if (deadline_ms != kForever) {
      const uint64_t now_ms = monotonic_ms();
      const uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
      wait_ms = static_cast<int>(std::min<uint64_t>(left_ms, INT32_MAX));
    }
    pollfd waited{socket_, POLLIN, 0};
    const int ready = ::poll(&waited, 1, wait_ms);
    if (ready < 0 && errno != EINTR) return system_error("cannot wait for the daemon", errno);
    if (ready == 0 && deadline_ms <= monotonic_ms()) {
      return Error{ErrorKind::TimedOut, 0, "the daemon did not answer in time"};
    }
    if (ready <= 0) continue;
    std::array<char, 4096> part{};
    const ssize_t got = ::recv(socket_, part.data(), part.size(), 0);
    if (got > 0) {
      received_.append(part.data(), static_cast<size_t>(got));
    } else if (got == 0 || errno == ECONNRESET) {
      return Error{ErrorKind::Closed, 0, "the daemon ended the connection"};
    } else if (errno != EINTR && errno != EAGAIN) {
      return system_error("cannot read the daemon's answer", errno);
    }
  }
}

Result<ControlReply> ControlConnection::ask(const std::string& verb, const json& arguments, uint64_t deadline_ms) {
  // A daemon that serves too many clients answers and closes without reading: its answer is there all the same.
  const Status sent = send(json{{"verb", verb}, {"arguments", arguments}});
  if (!sent && sent.error().kind != ErrorKind::Closed) return sent.error();
  Result<json> answer = receive(deadline_ms);
  if (!answer) return std::move(answer).error();
  const auto exit = answer->find("exit");
  const auto message = answer->find("message");
  if (exit == answer->end() || !exit->is_number_integer() || message == answer->end() || !message->is_string()) {
    return Error{ErrorKind::Corrupt, 0, "the daemon's answer has no exit code or message"};
  }
  ControlReply reply;
  reply.exit = exit->get<int>();
  reply.message = message->get<std::string>();
  const auto data = answer->find("data");
  reply.data = std::make_shared<const json>(data == answer->end() ? json() : *data);
  return reply;
}

pid_t ControlConnection::peer_pid() const {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket_, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return 0;
  return peer.pid;
}

}  // namespace lockstep::tools
