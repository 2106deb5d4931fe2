// libnbd as a client of ServerThread, its errors turned into failed tests.
#pragma once

#include <libnbd.h>

#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/support/libnbd_strictness.h"
#include "tests/unit/nbd_server/server_thread.h"

namespace lockstep::nbd {

struct CloseClient {
  void operator()(nbd_handle* client) const { nbd_close(client); }
};
using Client = std::unique_ptr<nbd_handle, CloseClient>;

inline void ok(int64_t result) {
  INFO((result < 0 ? nbd_get_error() : ""));
  REQUIRE(result >= 0);
}

inline Client new_client(bool structured = true) {
  Client client(nbd_create());
  REQUIRE(client != nullptr);
  ok(nbd_set_request_structured_replies(client.get(), structured));
#ifdef LIBNBD_HAVE_NBD_SET_REQUEST_EXTENDED_HEADERS
  ok(nbd_set_request_extended_headers(client.get(), structured));
#endif
  ok(nbd_set_strict_mode(client.get(), kNoClientChecks));
  return client;
}

inline Client connected(const ServerThread& server, bool structured = true, bool tcp = false) {
  Client client = new_client(structured);
  ok(nbd_set_export_name(client.get(), "pgdata"));
  if (tcp) {
    ok(nbd_connect_tcp(client.get(), "127.0.0.1", std::to_string(server.port()).c_str()));
  } else {
    ok(nbd_connect_unix(client.get(), server.socket_path().c_str()));
  }
  return client;
}

inline std::vector<uint8_t> pattern(size_t length, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(length);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

}  // namespace lockstep::nbd
