#include "tools/stopped_node.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/control_client.h"

namespace lockstep::tools {
namespace {

constexpr uint64_t kAnswerMs = 2000;

// Also one that nobody has reaped yet. A process that cannot be looked at (0: of another name space) runs.
bool has_ended(pid_t process) {
  if (process <= 0) return false;
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
  if (fd < 0) return errno == ESRCH;
  pollfd waited{fd, POLLIN, 0};
  const bool ended = ::poll(&waited, 1, 0) > 0;
  ::close(fd);
  return ended;
}

bool is_socket(const std::string& path) {
  struct stat about {};
  return ::lstat(path.c_str(), &about) == 0 && S_ISSOCK(about.st_mode);
}

}  // namespace

Patience& StoppedNode::patience() {
  if (!patience_) {
    patience_.emplace([](const std::string& what) { std::fprintf(stderr, "lockstep: %s\n", what.c_str()); });
  }
  return *patience_;
}

// Busy: somebody listens there who is gone.
Status StoppedNode::look() {
  const Error runs{ErrorKind::Refused, 0,
                   "the daemon of " + place_.resource + " runs on node " + place_.node + ": stop it first with '" +
                       place_.command("down") + "', or take the disk away from it with '" + place_.command("detach") +
                       "'"};
  const Error dies{ErrorKind::Busy, 0,
                   "the daemon of " + place_.resource + " on node " + place_.node +
                       " was killed, and the kernel has not yet ended what it had begun"};
  Result<ControlConnection> connection = ControlConnection::open(place_.socket_path);
  if (!connection) return connection.error().kind == ErrorKind::TimedOut ? Status(runs) : Status();
  const pid_t process = connection->peer_pid();
  const auto reply = connection->ask("status", nlohmann::json::object(), deadline_after_ms(kAnswerMs));
  if (!reply) return reply.error().kind == ErrorKind::Closed || has_ended(process) ? dies : runs;
  // One without its disk leaves the files alone until it is told to attach them; their locks say if that is so.
  const std::string disk_state = reply->data->is_object() ? reply->data->value("disk-state", "") : "";
  return disk_state == "Diskless" || disk_state == "Failed" ? Status() : Status(runs);
}

Status StoppedNode::check() {
  // A daemon that ends removes its socket; one that was killed does not.
  Status status = look();
  if (!status && status.error().kind == ErrorKind::Busy) status = patience().when_free([this] { return look(); });
  if (status && is_socket(place_.socket_path) && !ControlConnection::open(place_.socket_path)) patience();
  return status;
}

Result<HeldPath> StoppedNode::hold(const std::string& path) {
  if (!patience_) return HeldPath::open(path);
  return patience_->when_free([&] { return HeldPath::open(path); });
}

}  // namespace lockstep::tools
