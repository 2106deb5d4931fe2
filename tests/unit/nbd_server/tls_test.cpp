// TLS with pre-shared keys, by libnbd and by raw socket. Certificates are tried with certtool's (tests/interop).
#include "io/tls.h"

#include <libnbd.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "nbd-server/wire.h"
#include "tests/unit/nbd_server/libnbd_client.h"

namespace lockstep::nbd {
namespace {

class KeyFile {
 public:
  explicit KeyFile(const std::string& text) {
    path_ = (std::filesystem::temp_directory_path() / "keys-XXXXXX").string();
    const int fd = ::mkstemp(path_.data());
    REQUIRE(fd >= 0);
    ::close(fd);
    std::ofstream(path_) << text;
  }
  ~KeyFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

const std::string kAlice = "alice:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
const std::string kBob = "bob:ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
const std::string kFalseAlice = "alice:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";

ServerThreadOptions with_tls(TlsMode mode) {
  const KeyFile keys(kAlice + kBob);
  auto credentials = io::TlsCredentials::load(io::TlsRole::Server, {"", keys.path(), false});
  REQUIRE(credentials.ok());
  ServerThreadOptions options;
  options.size_bytes = options.arena_bytes = 64 * kMiB;
  options.tls = {mode, *credentials};
  return options;
}

Client tls_client(const KeyFile& keys, const char* name) {
  Client client = new_client();
  ok(nbd_set_export_name(client.get(), "pgdata"));
  ok(nbd_set_tls(client.get(), LIBNBD_TLS_REQUIRE));
  ok(nbd_set_tls_username(client.get(), name));
  ok(nbd_set_tls_psk_file(client.get(), keys.path().c_str()));
  return client;
}

OptionReplyType ask(RawClient& client, Option option, const std::vector<uint8_t>& data = {}) {
  client.send_option(static_cast<uint32_t>(option), data);
  const auto header = decode_option_reply_header(client.receive(kOptionReplyHeaderBytes));
  REQUIRE(header.has_value());
  client.receive(header->length_bytes);
  return header->type;
}

void greet(RawClient& client) {
  client.receive(kGreetingBytes);
  client.send({0, 0, 0, 3});
}

}  // namespace

TEST_CASE("everything works through TLS, many requests at once") {
  ServerThread server(with_tls(TlsMode::Require));
  const KeyFile keys(kAlice);
  Client client = tls_client(keys, "alice");
  if (GENERATE(false, true)) {
    ok(nbd_connect_tcp(client.get(), "127.0.0.1", std::to_string(server.port()).c_str()));
  } else {
    ok(nbd_connect_unix(client.get(), server.socket_path().c_str()));
  }
  CHECK(nbd_get_tls_negotiated(client.get()) == 1);
  constexpr size_t kBytes = 200 * 1024;
  const auto written = pattern(64 * kBytes, 5);
  std::vector<uint8_t> read(written.size());
  for (size_t at = 0; at < written.size(); at += kBytes) {
    ok(nbd_aio_pwrite(client.get(), written.data() + at, kBytes, at, {}, at == 0 ? LIBNBD_CMD_FLAG_FUA : 0));
  }
  while (nbd_aio_in_flight(client.get()) > 0) ok(nbd_poll(client.get(), -1));
  ok(nbd_flush(client.get(), 0));
  for (size_t at = 0; at < written.size(); at += kBytes) {
    ok(nbd_aio_pread(client.get(), read.data() + at, kBytes, at, {}, 0));
  }
  while (nbd_aio_in_flight(client.get()) > 0) ok(nbd_poll(client.get(), -1));
  CHECK(read == written);
  ok(nbd_pwrite(client.get(), written.data(), 8 * kMiB, 0, 0));
  ok(nbd_shutdown(client.get(), 0));
  client.reset();
  CHECK(server.eventually([&] { return server.server().connection_count() == 0; }));
}

TEST_CASE("a wrong key and an unknown name are refused") {
  ServerThread server(with_tls(TlsMode::Require));
  {
    const KeyFile keys(kFalseAlice);
    Client client = tls_client(keys, "alice");
    CHECK(nbd_connect_unix(client.get(), server.socket_path().c_str()) == -1);
  }
  {
    const KeyFile keys("mallory" + kAlice.substr(5));
    Client client = tls_client(keys, "mallory");
    CHECK(nbd_connect_unix(client.get(), server.socket_path().c_str()) == -1);
  }
  CHECK(server.eventually([&] { return server.server().connection_count() == 0; }));
}

TEST_CASE("TLS required: a plain client learns why, and gets in only with TLS") {
  ServerThread server(with_tls(TlsMode::Require));
  RawClient client(server.socket_path());
  greet(client);
  CHECK(ask(client, Option::Go, {0, 0, 0, 0, 0, 0}) == OptionReplyType::ErrTlsReqd);
  CHECK(ask(client, Option::List) == OptionReplyType::ErrTlsReqd);
  Client plain = new_client();
  CHECK(nbd_connect_unix(plain.get(), server.socket_path().c_str()) == -1);
}

TEST_CASE("TLS offered: plain clients are served, too") {
  ServerThread server(with_tls(TlsMode::On));
  Client plain = connected(server);
  CHECK(nbd_get_tls_negotiated(plain.get()) == 0);
  const KeyFile keys(kBob);
  Client client = tls_client(keys, "bob");
  ok(nbd_connect_unix(client.get(), server.socket_path().c_str()));
  CHECK(nbd_get_tls_negotiated(client.get()) == 1);
}

TEST_CASE("an export for certain names") {
  ServerThread server(with_tls(TlsMode::On));
  server.call([&] {
    ExportOptions options;
    options.allowed_names = {"bob", "carol"};
    server.exported().set_options(options);
  });
  const auto connect = [&](const std::string& key, const char* name) {
    const KeyFile keys(key);
    Client client = tls_client(keys, name);
    return nbd_connect_tcp(client.get(), "127.0.0.1", std::to_string(server.port()).c_str());
  };
  CHECK(connect(kBob, "bob") == 0);
  CHECK(connect(kAlice, "alice") == -1);
  std::string refusal;
  server.call([&] { refusal = server.exported().offer_to({"10.0.0.5", false, true, {"alice"}}).refusal; });
  CHECK(refusal == "'alice' is not among the names that may use this export");
  Client plain = new_client();
  ok(nbd_set_export_name(plain.get(), "pgdata"));
  CHECK(nbd_connect_tcp(plain.get(), "127.0.0.1", std::to_string(server.port()).c_str()) == -1);
  // The unix socket's permissions are its list.
  Client local = connected(server);
}

TEST_CASE("bytes behind STARTTLS end the connection: they must not pass for encrypted ones") {
  ServerThread server(with_tls(TlsMode::On));
  RawClient client(server.socket_path());
  greet(client);
  std::vector<uint8_t> bytes(2 * kOptionHeaderBytes);
  encode(OptionHeader{5, 0}, std::span(bytes).first<kOptionHeaderBytes>());
  encode(OptionHeader{3, 0}, std::span(bytes).last<kOptionHeaderBytes>());
  client.send(bytes);
  CHECK(client.receive(kOptionReplyHeaderBytes).size() == kOptionReplyHeaderBytes);
  CHECK(client.at_end());
}

TEST_CASE("what is no TLS ends the connection, and takes the server nowhere") {
  ServerThread server(with_tls(TlsMode::Require));
  const std::vector<uint8_t> bytes = GENERATE(
      std::vector<uint8_t>(4096, 0x41), std::vector<uint8_t>{0x16, 3, 1, 0xff, 0xff}, std::vector<uint8_t>(16, 0));
  RawClient client(server.socket_path());
  greet(client);
  CHECK(ask(client, Option::StartTls) == OptionReplyType::Ack);
  client.send(bytes);
  if (bytes.size() == 5) client.close();  // a record of 64 KiB is announced, and does not come
  if (bytes.size() != 5) {
    while (!client.receive(1).empty()) {  // an alert
    }
  }
  CHECK(server.eventually([&] { return server.server().connection_count() == 0; }));
}

TEST_CASE("a TLS handshake counts towards the handshake's limit") {
  ServerThreadOptions options = with_tls(TlsMode::Require);
  options.server.session.handshake_limit_ms = 50;
  ServerThread server(options);
  RawClient client(server.socket_path());
  greet(client);
  CHECK(ask(client, Option::StartTls) == OptionReplyType::Ack);
  CHECK(client.at_end());
}

TEST_CASE("files of keys that are no good are refused with the reason") {
  const auto load = [](const std::string& text) {
    const KeyFile keys(text);
    const auto credentials = io::TlsCredentials::load(io::TlsRole::Server, {"", keys.path(), false});
    return credentials.ok() ? std::string() : credentials.error().message;
  };
  CHECK(load(kAlice + "\n" + kBob).empty());
  CHECK(load("").find("holds no key") != std::string::npos);
  CHECK(load("alice").find(":1: no name") != std::string::npos);
  CHECK(load(kAlice + "bob:12").find(":2: no key of at least 16 bytes") != std::string::npos);
  CHECK(load("alice:zz0102030405060708090a0b0c0d0e0f").find("no key") != std::string::npos);
  CHECK(load(kAlice + kFalseAlice).find("twice") != std::string::npos);
  for (const std::string& text : {kAlice + "bob:12", kAlice + kFalseAlice}) {
    CHECK(load(text).find("000102") == std::string::npos);
    CHECK(load(text).find("aaaa") == std::string::npos);
  }
  const KeyFile keys(kAlice);
  ::chmod(keys.path().c_str(), 0644);
  const auto open_to_all = io::TlsCredentials::load(io::TlsRole::Server, {"", keys.path(), false});
  REQUIRE_FALSE(open_to_all.ok());
  CHECK(open_to_all.error().message.find("chmod 600") != std::string::npos);
  CHECK_FALSE(io::TlsCredentials::load(io::TlsRole::Server, {"/nonexistent", "", false}).ok());
  CHECK_FALSE(io::TlsCredentials::load(io::TlsRole::Server, {}).ok());
}

}  // namespace lockstep::nbd
