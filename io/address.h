// Where a socket listens or connects to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/base/result.h"

namespace lockstep::io {

enum class AddressFamily : uint8_t { Unix, Tcp };

struct Address {
  AddressFamily family = AddressFamily::Tcp;
  std::string path;   // Unix: of the socket file
  std::string host;   // Tcp: a name or a numeric address, without brackets; empty or "*" is any
  uint16_t port = 0;  // Tcp

  friend bool operator==(const Address&, const Address&) = default;
};

// "unix:/path", "tcp:HOST:PORT", "HOST:PORT"; an IPv6 address stands in brackets: "[::1]:7789". Invalid names the
// text and what is wrong with it.
Result<Address> parse_address(std::string_view text);

// "unix:/path" or "tcp:HOST:PORT": parse_address() reads it back.
std::string format_address(const Address& address);

// True when only this host can reach it: a unix socket, "localhost", 127.0.0.0/8, ::1.
bool is_loopback(const Address& address);

}  // namespace lockstep::io
