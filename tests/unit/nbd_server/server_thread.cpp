#include "tests/unit/nbd_server/server_thread.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <stdexcept>
#include <utility>

#include "io/base/bytes.h"
#include "nbd-server/wire.h"

namespace lockstep::nbd {

ServerThread::ServerThread(const ServerThreadOptions& options) {
  std::string pattern = (std::filesystem::temp_directory_path() / "nbd-server-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  folder_ = pattern;
  socket_path_ = folder_ + "/nbd";
  event_fd_ = ::eventfd(0, EFD_CLOEXEC);
  thread_ = std::thread([this, options] { run(options); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return started_; });
  if (!failure_.empty()) {
    lock.unlock();
    thread_.join();
    throw std::runtime_error(failure_);
  }
}

ServerThread::~ServerThread() {
  end();
  ::close(event_fd_);
  std::filesystem::remove_all(folder_);
}

void ServerThread::run(const ServerThreadOptions& options) {
  const auto report = [this](std::string failure) {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
    started_ = true;
    changed_.notify_all();
  };
  io::LoopOptions loop_options;
  loop_options.buffer_arena_bytes = options.arena_bytes;
  Result<std::unique_ptr<io::Loop>> loop = io::Loop::create(loop_options);
  if (!loop.ok()) return report(loop.error().message);
  loop_ = std::move(loop).value();
  io::BlockGeometry geometry;
  geometry.size_bytes = options.size_bytes;
  geometry.minimum_block_bytes = options.minimum_block_bytes;
  backend_ = std::make_unique<tests::MemoryBackend>(*loop_, geometry);
  exports_ = std::make_unique<ExportTable>(*loop_);
  export_ = &exports_->add("pgdata", "the database");
  exports_->add("standby").refuse("this node is Secondary; the Primary is alpha");
  export_->open(*backend_);
  server_ = std::make_unique<NbdServer>(*loop_, *exports_, options.server);
  for (const io::Address& address : {io::Address{io::AddressFamily::Unix, socket_path_, {}, 0},
                                     io::Address{io::AddressFamily::Tcp, {}, "127.0.0.1", 0}}) {
    const Status listening = server_->listen(address, options.tls);
    if (!listening.ok()) return report(listening.error().message);
  }
  port_ = server_->addresses()[1].port;
  loop_->spawn(serve_calls());
  report({});
  loop_->run();
  server_.reset();
  exports_.reset();
  backend_.reset();
  loop_.reset();
}

io::Task<void> ServerThread::serve_calls() {
  for (;;) {
    static_cast<void>(co_await loop_->poll(event_fd_, POLLIN));
    uint64_t count = 0;
    static_cast<void>(::read(event_fd_, &count, sizeof(count)));
    std::vector<std::function<void()>> calls;
    bool ending = false;
    {
      const std::lock_guard lock(mutex_);
      calls.swap(calls_);
      ending = ending_;
    }
    for (const auto& work : calls) work();
    if (ending) break;
  }
  co_await server_->stop();
  loop_->stop();
}

void ServerThread::wake() {
  const uint64_t one = 1;
  static_cast<void>(::write(event_fd_, &one, sizeof(one)));
}

void ServerThread::call(std::function<void()> work) {
  std::promise<void> done;
  {
    const std::lock_guard lock(mutex_);
    calls_.push_back([&] {
      work();
      done.set_value();
    });
  }
  wake();
  done.get_future().wait();
}

void ServerThread::end() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    calls_.push_back([this] { backend_->hold(false); });
  }
  wake();
  thread_.join();
}

void ServerThread::start_closing() {
  call([this] {
    closed_ = false;
    loop_->spawn(close_export());
  });
}

io::Task<void> ServerThread::close_export() {
  co_await export_->close_sessions();
  closed_ = true;
}

bool ServerThread::closed() {
  bool closed = false;
  call([&] { closed = closed_; });
  return closed;
}

bool ServerThread::eventually(std::function<bool()> condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (std::chrono::steady_clock::now() < until) {
    bool holds = false;
    call([&] { holds = condition(); });
    if (holds) return true;
    std::this_thread::yield();
  }
  return false;
}

RawClient::RawClient(const std::string& socket_path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  REQUIRE(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  const timeval limit{10, 0};
  REQUIRE(::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
  REQUIRE(::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0);
}

void RawClient::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void RawClient::send(const std::vector<uint8_t>& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return;  // the server hung up: what it said before is still there to be read
    sent += static_cast<size_t>(count);
  }
}

std::vector<uint8_t> RawClient::receive(size_t bytes) {
  std::vector<uint8_t> received(bytes);
  size_t position = 0;
  while (position < bytes) {
    const ssize_t count = ::recv(fd_, received.data() + position, bytes - position, 0);
    if (count < 0 && errno == EAGAIN) FAIL("the server did not answer in ten seconds");
    if (count <= 0) break;
    position += static_cast<size_t>(count);
  }
  received.resize(position);
  return received;
}

void RawClient::send_option(uint32_t option, const std::vector<uint8_t>& data) {
  std::vector<uint8_t> bytes(kOptionHeaderBytes);
  encode(OptionHeader{option, static_cast<uint32_t>(data.size())}, std::span(bytes).first<kOptionHeaderBytes>());
  bytes.insert(bytes.end(), data.begin(), data.end());
  send(bytes);
}

void RawClient::enter(bool structured) {
  REQUIRE(receive(kGreetingBytes).size() == kGreetingBytes);
  send({0, 0, 0, 3});
  if (structured) {
    send_option(static_cast<uint32_t>(Option::StructuredReply));
    REQUIRE(receive(kOptionReplyHeaderBytes).size() == kOptionReplyHeaderBytes);
  }
  send_option(static_cast<uint32_t>(Option::ExportName));
  REQUIRE(receive(10).size() == 10);
}

void RawClient::send_request(uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset_bytes,
                             uint32_t length_bytes) {
  std::vector<uint8_t> bytes(kRequestBytes);
  encode_compact({flags, command, cookie, offset_bytes, length_bytes}, std::span(bytes).first<kRequestBytes>());
  send(bytes);
}

std::pair<uint64_t, uint32_t> RawClient::receive_simple() {
  const auto reply = decode_simple_reply(receive(kSimpleReplyBytes));
  REQUIRE(reply.has_value());
  return {reply->cookie, static_cast<uint32_t>(reply->error)};
}

}  // namespace lockstep::nbd
