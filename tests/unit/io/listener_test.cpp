#include "io/listener.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "io/timer.h"
#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

Address unix_at(const std::string& path) {
  return {AddressFamily::Unix, path, "", 0};
}

std::unique_ptr<Listener> listen_at(Loop& loop, const Address& address, const ListenerOptions& options = {}) {
  Result<std::unique_ptr<Listener>> listener = Listener::open(loop, address, options);
  INFO((listener.ok() ? std::string() : listener.error().message));
  REQUIRE(listener.ok());
  return std::move(listener).value();
}

bool exists(const std::string& path) {
  struct stat found {};
  return lstat(path.c_str(), &found) == 0;
}

Task<void> accept_some(Listener& listener, size_t count, std::vector<std::string>& peers, std::string& ended) {
  for (size_t i = 0; i < count; ++i) {
    Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
    if (!stream.ok()) {
      ended = stream.error().kind == ErrorKind::Closed ? "Closed" : stream.error().message;
      co_return;
    }
    peers.push_back((*stream)->peer_host());
  }
}

Task<void> connect_some(Loop& loop, Address address, size_t count, size_t& connected) {
  for (size_t i = 0; i < count; ++i) {
    Result<std::unique_ptr<Stream>> stream = co_await connect_stream(loop, address, 5000);
    if (stream.ok()) ++connected;
  }
}

Task<void> sleep_then_close(Loop& loop, Listener& listener) {
  co_await loop.sleep_ms(1);
  listener.close();
  co_await loop.sleep_ms(0);
}

Task<void> only_sleep(Loop& loop, uint64_t time_ms) {
  co_await loop.sleep_ms(time_ms);
}

}  // namespace

TEST_CASE("a TCP listener on port 0 tells the port that it got, and accepts there") {
  auto loop = make_loop();
  auto listener = listen_at(*loop, {AddressFamily::Tcp, "", "127.0.0.1", 0});
  CHECK(listener->bound_address().port != 0);
  CHECK(listener->bound_address().host == "127.0.0.1");
  std::vector<std::string> peers;
  std::string ended;
  size_t connected = 0;
  loop->spawn(connect_some(*loop, listener->bound_address(), 5, connected));
  run_to_end(*loop, accept_some(*listener, 5, peers, ended));
  CHECK(peers == std::vector<std::string>(5, "127.0.0.1"));
}

TEST_CASE("any address of this host can be listened on") {
  auto loop = make_loop();
  auto listener = listen_at(*loop, {AddressFamily::Tcp, "", "*", 0});
  std::vector<std::string> peers;
  std::string ended;
  size_t connected = 0;
  loop->spawn(connect_some(*loop, {AddressFamily::Tcp, "", "127.0.0.1", listener->bound_address().port}, 1, connected));
  run_to_end(*loop, accept_some(*listener, 1, peers, ended));
  CHECK(peers == std::vector<std::string>{"127.0.0.1"});
}

TEST_CASE("a port in use is Busy, and the message names it and says what to do") {
  auto loop = make_loop();
  auto listener = listen_at(*loop, {AddressFamily::Tcp, "", "127.0.0.1", 0});
  Result<std::unique_ptr<Listener>> second = Listener::open(*loop, listener->bound_address());
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().kind == ErrorKind::Busy);
  INFO(second.error().message);
  CHECK(second.error().message.find(format_address(listener->bound_address())) != std::string::npos);
  CHECK(second.error().message.find("choose another") != std::string::npos);
}

TEST_CASE("an address that this host does not have is Invalid") {
  auto loop = make_loop();
  Result<std::unique_ptr<Listener>> listener = Listener::open(*loop, {AddressFamily::Tcp, "", "192.0.2.1", 0});
  REQUIRE_FALSE(listener.ok());
  CHECK(listener.error().kind == ErrorKind::Invalid);
}

TEST_CASE("a socket file has its mode, whatever the umask, and goes with its listener") {
  auto loop = make_loop();
  const TempFolder folder;
  const std::string path = folder.file("sock");
  const mode_t mode = GENERATE(0600, 0666);
  ListenerOptions options;
  options.unix_mode = mode;
  {
    auto listener = listen_at(*loop, unix_at(path), options);
    struct stat made {};
    REQUIRE(stat(path.c_str(), &made) == 0);
    CHECK((made.st_mode & 07777) == mode);
    std::vector<std::string> peers;
    std::string ended;
    size_t connected = 0;
    loop->spawn(connect_some(*loop, unix_at(path), 1, connected));
    run_to_end(*loop, accept_some(*listener, 1, peers, ended));
    CHECK(peers == std::vector<std::string>{"local"});
  }
  CHECK_FALSE(exists(path));
}

TEST_CASE("a socket file that nobody answers on is replaced") {
  auto loop = make_loop();
  const TempFolder folder;
  const std::string path = folder.file("sock");
  {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof(address.sun_path), "%s", path.c_str());
    REQUIRE(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    close(fd);
  }
  REQUIRE(exists(path));
  auto listener = listen_at(*loop, unix_at(path));
  size_t connected = 0;
  run_to_end(*loop, connect_some(*loop, unix_at(path), 1, connected));
  CHECK(connected == 1);
}

TEST_CASE("a socket file that somebody answers on is left alone") {
  auto loop = make_loop();
  const TempFolder folder;
  const std::string path = folder.file("sock");
  auto first = listen_at(*loop, unix_at(path));
  Result<std::unique_ptr<Listener>> second = Listener::open(*loop, unix_at(path));
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().kind == ErrorKind::Busy);
  CHECK(second.error().message.find(path) != std::string::npos);
  CHECK(exists(path));
}

TEST_CASE("what is no socket is never replaced") {
  auto loop = make_loop();
  const TempFolder folder;
  const std::string path = folder.file("precious");
  std::ofstream(path) << "data";
  Result<std::unique_ptr<Listener>> listener = Listener::open(*loop, unix_at(path));
  REQUIRE_FALSE(listener.ok());
  CHECK(listener.error().kind == ErrorKind::Invalid);
  CHECK(exists(path));
}

TEST_CASE("a listener does not remove the socket file of its successor") {
  auto loop = make_loop();
  const TempFolder folder;
  const std::string path = folder.file("sock");
  auto first = listen_at(*loop, unix_at(path));
  REQUIRE(unlink(path.c_str()) == 0);
  auto second = listen_at(*loop, unix_at(path));
  first.reset();
  CHECK(exists(path));
}

TEST_CASE("a socket in a folder that is not there is NotFound") {
  auto loop = make_loop();
  const TempFolder folder;
  Result<std::unique_ptr<Listener>> listener = Listener::open(*loop, unix_at(folder.file("none/sock")));
  REQUIRE_FALSE(listener.ok());
  CHECK(listener.error().kind == ErrorKind::NotFound);
}

TEST_CASE("close ends a pending accept, and nobody can connect any more") {
  auto loop = make_loop();
  const TempFolder folder;
  const Address address =
      GENERATE(true, false) ? Address{AddressFamily::Tcp, "", "127.0.0.1", 0} : unix_at(folder.file("sock"));
  auto listener = listen_at(*loop, address);
  std::vector<std::string> peers;
  std::string ended;
  size_t connected = 0;
  loop->spawn(accept_some(*listener, 1, peers, ended));
  loop->spawn(sleep_then_close(*loop, *listener));
  const Address bound = listener->bound_address();
  run_to_end(*loop, only_sleep(*loop, 5));
  CHECK(ended == "Closed");
  auto later = make_loop();
  run_to_end(*later, connect_some(*later, bound, 1, connected));
  CHECK(connected == 0);
}

TEST_CASE("a stopping loop ends a pending accept") {
  auto loop = make_loop();
  auto listener = listen_at(*loop, {AddressFamily::Tcp, "", "127.0.0.1", 0});
  std::vector<std::string> peers;
  std::string ended;
  loop->spawn(accept_some(*listener, 1, peers, ended));
  run_to_end(*loop, only_sleep(*loop, 1));
  CHECK(ended == "Closed");
}

// Not under a sanitizer: it opens descriptors itself to look at memory, and takes their lack for a broken object.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LOCKSTEP_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LOCKSTEP_SANITIZED 1
#endif
#endif
#ifndef LOCKSTEP_SANITIZED
TEST_CASE("accepting goes on after descriptors had run out") {
  auto loop = make_loop();
  auto listener = listen_at(*loop, {AddressFamily::Tcp, "", "127.0.0.1", 0});
  size_t connected = 0;
  {
    auto connecting = make_loop();
    run_to_end(*connecting, connect_some(*connecting, listener->bound_address(), 1, connected));
  }
  REQUIRE(connected == 1);  // it waits in the backlog

  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit none = before;
  none.rlim_cur = 0;
  std::vector<std::string> peers;
  std::string ended;
  bool was_waiting = false;
  Timer allow_again(*loop, [&] {
    was_waiting = peers.empty() && ended.empty();
    setrlimit(RLIMIT_NOFILE, &before);
  });
  allow_again.start_once_ms(10);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  run_to_end(*loop, accept_some(*listener, 1, peers, ended));
  CHECK(was_waiting);
  CHECK(ended.empty());
  CHECK(peers.size() == 1);
}
#endif

}  // namespace lockstep::io
