#include "io/address.h"

#include <catch2/catch.hpp>
#include <string>

namespace lockstep::io {
namespace {

std::string refusal(const std::string& text) {
  Result<Address> parsed = parse_address(text);
  if (parsed.ok()) return {};
  CHECK(parsed.error().kind == ErrorKind::Invalid);
  return parsed.error().message;
}

}  // namespace

TEST_CASE("addresses of all forms are read, and written so that they can be read back") {
  struct Row {
    const char* text;
    Address address;
    const char* formatted;
  };
  const Row rows[] = {
      {"unix:/run/x.sock", {AddressFamily::Unix, "/run/x.sock", "", 0}, "unix:/run/x.sock"},
      {"unix:relative:with:colons", {AddressFamily::Unix, "relative:with:colons", "", 0}, "unix:relative:with:colons"},
      {"10.0.0.1:7789", {AddressFamily::Tcp, "", "10.0.0.1", 7789}, "tcp:10.0.0.1:7789"},
      {"tcp:alpha.example:1", {AddressFamily::Tcp, "", "alpha.example", 1}, "tcp:alpha.example:1"},
      {"[::1]:65535", {AddressFamily::Tcp, "", "::1", 65535}, "tcp:[::1]:65535"},
      {"tcp:[fe80::1%eth0]:7789", {AddressFamily::Tcp, "", "fe80::1%eth0", 7789}, "tcp:[fe80::1%eth0]:7789"},
      {"localhost:0", {AddressFamily::Tcp, "", "localhost", 0}, "tcp:localhost:0"},
      {"*:10809", {AddressFamily::Tcp, "", "*", 10809}, "tcp:*:10809"},
      {":10809", {AddressFamily::Tcp, "", "", 10809}, "tcp::10809"},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    Result<Address> parsed = parse_address(row.text);
    REQUIRE(parsed.ok());
    CHECK(*parsed == row.address);
    CHECK(format_address(*parsed) == row.formatted);
    Result<Address> again = parse_address(format_address(*parsed));
    REQUIRE(again.ok());
    CHECK(*again == *parsed);
  }
}

TEST_CASE("what is no address is refused with its text and the reason") {
  CHECK(refusal("").find("port is missing") != std::string::npos);
  CHECK(refusal("alpha").find("'alpha' is not an address: the port is missing") != std::string::npos);
  CHECK(refusal("alpha:").find("'' is not a port") != std::string::npos);
  CHECK(refusal("alpha:65536").find("'65536' is not a port") != std::string::npos);
  CHECK(refusal("alpha:-1").find("'-1' is not a port") != std::string::npos);
  CHECK(refusal("alpha:80x").find("'80x' is not a port") != std::string::npos);
  CHECK(refusal("::1:80").find("[::1]") != std::string::npos);
  CHECK(refusal("[::1:80").find("']' is missing") != std::string::npos);
  CHECK(refusal("[::1]").find("port is missing") != std::string::npos);
  CHECK(refusal("[alpha]:80").find("not an IPv6 address") != std::string::npos);
  CHECK(refusal("al pha:80").find("not a host") != std::string::npos);
  CHECK(refusal("/run/x.sock:80").find("not a host") != std::string::npos);
  CHECK(refusal("unix:").find("path is missing") != std::string::npos);
  CHECK(refusal("unix:/" + std::string(107, 'x')).find("107 bytes") != std::string::npos);
  CHECK(refusal("unix:/" + std::string(106, 'x')).empty());
  CHECK(refusal(std::string("unix:/a\0b", 9)).find("zero byte") != std::string::npos);
}

TEST_CASE("loopback is what only this host can reach") {
  for (const char* text : {"unix:/run/x", "localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1"}) {
    INFO(text);
    CHECK(is_loopback(*parse_address(text)));
  }
  for (const char* text : {"10.0.0.1:1", "*:1", ":1", "0.0.0.0:1", "128.0.0.1:1", "[::2]:1", "127.example:1"}) {
    INFO(text);
    CHECK_FALSE(is_loopback(*parse_address(text)));
  }
}

}  // namespace lockstep::io
