#include "tools/service_notification.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

namespace lockstep::tools {
namespace {

std::optional<uint64_t> number_in(const char* text) {
  if (text == nullptr) return {};
  uint64_t number = 0;
  const char* end = text + std::strlen(text);
  const auto [stopped, code] = std::from_chars(text, end, number);
  if (code != std::errc() || stopped != end) return {};
  return number;
}

}  // namespace

bool has_service_manager() {
  return std::getenv("NOTIFY_SOCKET") != nullptr;
}

void notify_service_manager(const char* state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if (length >= sizeof(address.sun_path)) return;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // the abstract name space
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto address_length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  // A service manager that is gone is no reason to stop serving.
  static_cast<void>(::sendto(fd, state, std::strlen(state), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                             address_length));
  ::close(fd);
}

std::optional<uint64_t> watchdog_period_ms(const char* microseconds, const char* process) {
  const std::optional<uint64_t> limit = number_in(microseconds);
  if (!limit || *limit == 0) return {};
  if (process != nullptr && number_in(process) != static_cast<uint64_t>(::getpid())) return {};
  return std::max<uint64_t>(*limit / 2000, 1);
}

}  // namespace lockstep::tools
