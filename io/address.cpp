#include "io/address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <charconv>

namespace lockstep::io {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kTcpPrefix = "tcp:";

Error invalid(std::string_view text, const std::string& why) {
  return Error{ErrorKind::Invalid, 0,
               "'" + std::string(text) + "' is not an address: " + why + "; write unix:/PATH or HOST:PORT"};
}

}  // namespace

Result<Address> parse_address(std::string_view text) {
  Address address;
  if (text.starts_with(kUnixPrefix)) {
    address.family = AddressFamily::Unix;
    address.path = text.substr(kUnixPrefix.size());
    if (address.path.empty()) return invalid(text, "the path is missing");
    if (address.path.find('\0') != std::string::npos) return invalid(text, "the path holds a zero byte");
    if (address.path.size() >= sizeof(sockaddr_un::sun_path)) {
      return invalid(text, "the path is longer than the " + std::to_string(sizeof(sockaddr_un::sun_path) - 1) +
                               " bytes that a socket's may have");
    }
    return address;
  }

  std::string_view rest = text;
  if (rest.starts_with(kTcpPrefix)) rest.remove_prefix(kTcpPrefix.size());
  std::string_view port;
  if (rest.starts_with('[')) {
    const size_t end = rest.find(']');
    if (end == std::string_view::npos) return invalid(text, "']' is missing");
    address.host = rest.substr(1, end - 1);
    in6_addr parsed{};
    const std::string without_scope = address.host.substr(0, address.host.find('%'));
    if (inet_pton(AF_INET6, without_scope.c_str(), &parsed) != 1) {
      return invalid(text, "what stands in brackets is not an IPv6 address");
    }
    rest.remove_prefix(end + 1);
    if (!rest.starts_with(':')) return invalid(text, "the port is missing");
    port = rest.substr(1);
  } else {
    const size_t colon = rest.rfind(':');
    if (colon == std::string_view::npos) return invalid(text, "the port is missing");
    address.host = rest.substr(0, colon);
    port = rest.substr(colon + 1);
    if (address.host.find(':') != std::string::npos) {
      return invalid(text, "an IPv6 address stands in brackets, as in [::1]:7789");
    }
    if (address.host.find_first_of(" \t/[]") != std::string::npos || address.host.find('\0') != std::string::npos) {
      return invalid(text, "'" + address.host + "' is not a host");
    }
  }
  const auto [end, code] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (port.empty() || code != std::errc{} || end != port.data() + port.size()) {
    return invalid(text, "'" + std::string(port) + "' is not a port (0 to 65535)");
  }
  return address;
}

std::string format_address(const Address& address) {
  if (address.family == AddressFamily::Unix) return std::string(kUnixPrefix) + address.path;
  const bool brackets = address.host.find(':') != std::string::npos;
  return std::string(kTcpPrefix) + (brackets ? "[" + address.host + "]" : address.host) + ":" +
         std::to_string(address.port);
}

bool is_loopback(const Address& address) {
  if (address.family == AddressFamily::Unix || address.host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, address.host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return false;
}

}  // namespace lockstep::io
