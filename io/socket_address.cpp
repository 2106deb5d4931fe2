#include "io/socket_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

namespace lockstep::io {
namespace {

template <typename Kind>
Kind read_as(const SocketAddress& address) {
  Kind copy{};
  std::memcpy(&copy, &address.storage, sizeof(copy));
  return copy;
}

template <typename Kind>
SocketAddress make_from(const Kind& from) {
  SocketAddress made;
  std::memcpy(&made.storage, &from, sizeof(from));
  made.length = sizeof(from);
  return made;
}

SocketAddress unix_address(const Address& address) {
  sockaddr_un made{};
  made.sun_family = AF_UNIX;
  LOCKSTEP_CHECK(address.path.size() < sizeof(made.sun_path));
  std::memcpy(made.sun_path, address.path.data(), address.path.size());
  return make_from(made);
}

std::vector<SocketAddress> any_address(uint16_t port) {
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_addr = IN6ADDR_ANY_INIT;
  v6.sin6_port = htons(port);
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_addr.s_addr = htonl(INADDR_ANY);
  v4.sin_port = htons(port);
  return {make_from(v6), make_from(v4)};
}

}  // namespace

Result<std::vector<SocketAddress>> resolve(const Address& address, bool to_listen) {
  if (address.family == AddressFamily::Unix) {
    if (address.path.empty() || address.path.size() >= sizeof(sockaddr_un::sun_path)) {
      return Error{ErrorKind::Invalid, 0, "'" + address.path + "' is empty or too long for a socket's path"};
    }
    return std::vector<SocketAddress>{unix_address(address)};
  }
  const bool any = address.host.empty() || address.host == "*";
  if (any && to_listen) return any_address(address.port);

  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  const int failed = getaddrinfo(any ? "localhost" : address.host.c_str(), port.c_str(), &hints, &found);
  if (failed != 0) {
    const int system_errno = failed == EAI_SYSTEM ? errno : 0;
    return Error{ErrorKind::NotFound, system_errno,
                 "cannot find the host of " + format_address(address) + ": " + gai_strerror(failed)};
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, &freeaddrinfo);
  std::vector<SocketAddress> all;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    SocketAddress made;
    std::memcpy(&made.storage, one->ai_addr, one->ai_addrlen);
    made.length = one->ai_addrlen;
    all.push_back(made);
  }
  if (all.empty()) return Error{ErrorKind::NotFound, 0, format_address(address) + " names no address"};
  return all;
}

std::string numeric_host(const SocketAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.family() == AF_INET) {
    const auto v4 = read_as<sockaddr_in>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return text.data();
  }
  if (address.family() == AF_INET6) {
    const auto v6 = read_as<sockaddr_in6>(address);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text.data(), text.size());
    } else {
      inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    }
    return text.data();
  }
  return "local";
}

std::string numeric_host_and_port(const SocketAddress& address) {
  const std::string host = numeric_host(address);
  const std::string port = std::to_string(port_of(address));
  return host.find(':') == std::string::npos ? host + ":" + port : "[" + host + "]:" + port;
}

uint16_t port_of(const SocketAddress& address) {
  if (address.family() == AF_INET) return ntohs(read_as<sockaddr_in>(address).sin_port);
  if (address.family() == AF_INET6) return ntohs(read_as<sockaddr_in6>(address).sin6_port);
  return 0;
}

}  // namespace lockstep::io
