#include "replicator/link_listener.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace lockstep::repl {

LinkListener::LinkListener(io::Loop& loop, const LinkIdentity& self,
                           const std::vector<std::unique_ptr<PeerLink>>& links, const LinkOptions& options)
    : loop_(loop), self_(self), links_(links), options_(options) {}

Result<std::unique_ptr<LinkListener>> LinkListener::open(io::Loop& loop, const io::Address& address,
                                                         const LinkIdentity& self,
                                                         const std::vector<std::unique_ptr<PeerLink>>& links,
                                                         const LinkOptions& options) {
  std::unique_ptr<LinkListener> listener(new LinkListener(loop, self, links, options));
  auto opened = io::Listener::open(loop, address, {.stream = options.stream});
  if (!opened) return std::move(opened).error();
  listener->listener_ = std::move(*opened);
  loop.spawn(listener->accept_connections());
  return listener;
}

io::Task<void> LinkListener::accept_connections() {
  while (true) {
    Result<std::unique_ptr<io::Stream>> accepted = co_await listener_->accept();
    if (!accepted) break;
    // Whoever calls without a word must not keep out the peers: a few may be slow, the rest is dropped.
    if (greetings_ == kMaximumGreetings) continue;
    ++greetings_;
    std::unique_ptr<io::Stream> stream = std::move(*accepted);
    loop_.spawn(greet(std::move(stream)));
  }
}

io::Task<void> LinkListener::greet(std::unique_ptr<io::Stream> stream) {
  io::Timer deadline(loop_, [&stream] { stream->shutdown(); });
  deadline.start_once_ms(options_.handshake_timeout_ms);
  const Status secured = co_await secure_accepted(loop_, stream, options_.security);
  if (!secured) {
    --greetings_;
    // A peer with another key calls again and again.
    if (std::exchange(problem_, secured.error().message) != problem_) {
      spdlog::warn(
          "{}: no TLS with {} on the replication port: {} (has that node the same 'secret-file', or certificates "
          "of the same authority?)",
          self_.resource_name, stream->peer_description(), problem_);
    }
    co_return;
  }
  Result<Hello> hello = co_await receive_hello(*stream);
  --greetings_;
  if (!hello) {
    spdlog::debug("{}: a connection from {} on the replication port: {}", self_.resource_name,
                  stream->peer_description(), hello.error().message);
    co_return;
  }
  const auto link = std::find_if(links_.begin(), links_.end(),
                                 [&](const auto& candidate) { return candidate->peer_name() == hello->node_name; });
  if (link == links_.end()) {
    Refusal refusal{RefusalReason::UnknownNode, "there is no node " + hello->node_name + " of resource " +
                                                    self_.resource_name + " in the configuration of " +
                                                    self_.node_name};
    spdlog::warn("{}: refused a link from {}: {}", self_.resource_name, stream->peer_description(), refusal.text);
    // Whether it arrives is not our concern: the caller is told in any case that the connection ends.
    [[maybe_unused]] const Status told = co_await send_refusal(*stream, std::move(refusal));
    co_return;
  }
  if (!may_be(*stream, options_.security, hello->node_name)) {
    Refusal refusal{RefusalReason::UnknownNode,
                    "the certificate that was shown to " + self_.node_name + " is not of node " + hello->node_name};
    spdlog::warn("{}: refused a link from {}: {}", self_.resource_name, stream->peer_description(), refusal.text);
    [[maybe_unused]] const Status told = co_await send_refusal(*stream, std::move(refusal));
    co_return;
  }
  deadline.cancel();
  PeerLink& chosen = **link;
  Hello theirs = std::move(*hello);
  const io::Task<void> served = chosen.serve(std::move(stream), std::move(theirs));
  co_await served;
}

}  // namespace lockstep::repl
