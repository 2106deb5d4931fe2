// `GET /metrics` over HTTP, for Prometheus: nothing else is served, one request a connection. Every request is answered
// from memory, so that a scrape never waits for a disk or a peer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "io/address.h"
#include "io/base/result.h"
#include "io/listener.h"
#include "io/loop.h"
#include "io/task.h"

namespace lockstep::tools {

// The whole response to a request's head.
std::string http_response(std::string_view head, const std::function<std::string()>& metrics);

class MetricsServer {
 public:
  // All that is named outlives the server; it outlives the loop's run(). Busy when the address is taken.
  static Result<std::unique_ptr<MetricsServer>> open(io::Loop& loop, const io::Address& address,
                                                     std::function<std::string()> metrics);

  const io::Address& bound_address() const { return listener_->bound_address(); }
  void close() { listener_->close(); }

 private:
  // What a client may cost: one that says nothing, or more than a request is long, is gone after that.
  static constexpr size_t kMaximumHeadBytes = 8192;
  static constexpr size_t kMaximumClients = 16;
  static constexpr uint64_t kTimeoutMs = 5000;

  MetricsServer(io::Loop& loop, std::function<std::string()> metrics) : loop_(loop), metrics_(std::move(metrics)) {}
  io::Task<void> accept_connections();
  io::Task<void> answer(std::unique_ptr<io::Stream> stream);

  io::Loop& loop_;
  const std::function<std::string()> metrics_;
  std::unique_ptr<io::Listener> listener_;
  size_t clients_ = 0;
};

}  // namespace lockstep::tools
