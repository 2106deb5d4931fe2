#include "tools/journal.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace lockstep::tools {

std::string journal_entry(const JournalFields& fields) {
  std::string entry;
  for (const auto& [name, value] : fields) {
    if (value.empty()) continue;
    entry += name;
    entry += '=';
    entry += value;
    entry += '\n';
  }
  return entry;
}

Journal::Journal(std::string socket_path)
    : socket_path_(std::move(socket_path)), socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {}

Journal::~Journal() {
  if (socket_ >= 0) ::close(socket_);
}

bool Journal::send(std::string_view entry) const {
  sockaddr_un address{};
  if (socket_ < 0 || socket_path_.size() >= sizeof address.sun_path) return false;
  address.sun_family = AF_UNIX;
  socket_path_.copy(address.sun_path, sizeof address.sun_path - 1);
  ssize_t sent = 0;
  do {
    sent = ::sendto(socket_, entry.data(), entry.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(entry.size());
}

}  // namespace lockstep::tools
