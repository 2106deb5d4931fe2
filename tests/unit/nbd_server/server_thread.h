// An NBD server on a thread of its own, over memory, so that real clients can be used from the test's thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "io/loop.h"
#include "nbd-server/export_table.h"
#include "nbd-server/listener.h"
#include "tests/support/memory_backend.h"

namespace lockstep::nbd {

struct ServerThreadOptions {
  uint64_t size_bytes = 16 * kMiB;
  uint32_t minimum_block_bytes = 512;
  size_t arena_bytes = 16 * kMiB;  // payloads may be half as long
  ServerOptions server;
  TlsTerms tls;  // of both sockets
};

class ServerThread {
 public:
  explicit ServerThread(const ServerThreadOptions& options = {});
  // Ends the server, if end() has not.
  ~ServerThread();

  // Stops the server, and checks that it has given everything back.
  void end();
  // Runs `work` on the loop's thread and waits for it.
  void call(std::function<void()> work);
  // Starts the closing of the export's sessions; closed() tells when it has ended.
  void start_closing();
  bool closed();
  // Asks on the loop's thread until it is true; false after ten seconds.
  bool eventually(std::function<bool()> condition);

  const std::string& socket_path() const { return socket_path_; }
  uint16_t port() const { return port_; }

  // From within call() only.
  tests::MemoryBackend& backend() { return *backend_; }
  Export& exported() { return *export_; }
  NbdServer& server() { return *server_; }
  io::Loop& loop() { return *loop_; }

 private:
  void run(const ServerThreadOptions& options);
  io::Task<void> serve_calls();
  io::Task<void> close_export();
  void wake();

  std::string folder_;
  std::string socket_path_;
  uint16_t port_ = 0;
  int event_fd_ = -1;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::function<void()>> calls_;
  bool started_ = false;
  bool ending_ = false;
  bool closed_ = false;
  std::string failure_;

  std::unique_ptr<io::Loop> loop_;
  std::unique_ptr<tests::MemoryBackend> backend_;
  std::unique_ptr<ExportTable> exports_;
  Export* export_ = nullptr;
  std::unique_ptr<NbdServer> server_;
  std::thread thread_;
};

// A client of plain bytes on the server's unix socket. Every read gives up after ten seconds.
class RawClient {
 public:
  explicit RawClient(const std::string& socket_path);
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void send(const std::vector<uint8_t>& bytes);
  // Exactly so many bytes; fewer only at the end of the stream.
  std::vector<uint8_t> receive(size_t bytes);
  // True when the server closed the connection and nothing is left to read.
  bool at_end() { return receive(1).empty(); }
  void close();

  // The whole handshake, ending in transmission.
  void enter(bool structured = false);
  void send_option(uint32_t option, const std::vector<uint8_t>& data = {});
  void send_request(uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes);
  // The cookie and error of the next simple reply.
  std::pair<uint64_t, uint32_t> receive_simple();

 private:
  int fd_ = -1;
};

}  // namespace lockstep::nbd
