// Addresses as the socket calls want them. Private to this folder.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "io/address.h"
#include "io/base/result.h"

namespace lockstep::io {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// All that the address names, in the resolver's order; never empty. `to_listen`: an empty host or "*" is any address
// of this host, IPv6 (which takes IPv4 as well) first; otherwise it is the loopback. May block on a name server.
Result<std::vector<SocketAddress>> resolve(const Address& address, bool to_listen);

// "10.0.0.2", "::1": an IPv4 address inside IPv6 is written as IPv4. "local" for a unix socket.
std::string numeric_host(const SocketAddress& address);
// "10.0.0.2:41822", "[::1]:41822".
std::string numeric_host_and_port(const SocketAddress& address);
uint16_t port_of(const SocketAddress& address);

}  // namespace lockstep::io
