#include "tools/metrics_server.h"

#include <fmt/format.h>

#include <utility>

#include "io/stream.h"
#include "io/timer.h"

namespace lockstep::tools {
namespace {

std::string response(std::string_view status, std::string_view type, std::string_view body) {
  return fmt::format("HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", status,
                     type, body.size(), body);
}

}  // namespace

std::string http_response(std::string_view head, const std::function<std::string()>& metrics) {
  constexpr std::string_view kText = "text/plain; charset=utf-8";
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const size_t after_method = line.find(' ');
  const size_t after_target = line.rfind(' ');
  if (after_method == std::string_view::npos || after_target <= after_method ||
      !line.substr(after_target + 1).starts_with("HTTP/1.")) {
    return response("400 Bad Request", kText, "this is no HTTP/1 request\n");
  }
  const std::string_view method = line.substr(0, after_method);
  std::string_view target = line.substr(after_method + 1, after_target - after_method - 1);
  target = target.substr(0, target.find('?'));
  if (target != "/metrics") return response("404 Not Found", kText, "there is nothing here but /metrics\n");
  if (method != "GET") return response("405 Method Not Allowed", kText, "only GET\n");
  return response("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics());
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::open(io::Loop& loop, const io::Address& address,
                                                           std::function<std::string()> metrics) {
  std::unique_ptr<MetricsServer> server(new MetricsServer(loop, std::move(metrics)));
  auto opened = io::Listener::open(loop, address, {});
  if (!opened) return std::move(opened).error();
  server->listener_ = std::move(*opened);
  loop.spawn(server->accept_connections());
  return server;
}

io::Task<void> MetricsServer::accept_connections() {
  while (true) {
    Result<std::unique_ptr<io::Stream>> accepted = co_await listener_->accept();
    if (!accepted) break;
    if (clients_ == kMaximumClients) continue;
    ++clients_;
    std::unique_ptr<io::Stream> stream = std::move(*accepted);
    loop_.spawn(answer(std::move(stream)));
  }
}

io::Task<void> MetricsServer::answer(std::unique_ptr<io::Stream> stream) {
  io::Timer deadline(loop_, [&stream] { stream->shutdown(); });
  deadline.start_once_ms(kTimeoutMs);
  std::string head;
  std::string part(1024, '\0');
  while (head.find("\r\n\r\n") == std::string::npos && head.size() < kMaximumHeadBytes) {
    const std::span<uint8_t> into(reinterpret_cast<uint8_t*>(part.data()), part.size());
    const Result<size_t> got = co_await stream->read_some(into);
    if (!got) break;
    head.append(part, 0, *got);
  }
  if (head.find("\r\n\r\n") != std::string::npos) {
    const std::string text = http_response(head, metrics_);
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    const Status sent = co_await stream->write_all(bytes);
    if (sent) {
      // The client closes when it has read the end: nothing that it has not read yet is lost to a reset.
      stream->shutdown_writing();
      const std::span<uint8_t> into(reinterpret_cast<uint8_t*>(part.data()), part.size());
      Result<size_t> rest = co_await stream->read_some(into);
      while (rest) rest = co_await stream->read_some(into);
    }
  }
  --clients_;
}

}  // namespace lockstep::tools
