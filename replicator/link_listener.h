// The replication port of a node: finds out who calls and hands the stream to that peer's link.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/address.h"
#include "io/base/result.h"
#include "io/listener.h"
#include "io/loop.h"
#include "io/task.h"
#include "replicator/peer_link.h"

namespace lockstep::repl {

class LinkListener {
 public:
  // All that is named outlives the listener; it outlives the loop's run(). Busy when the address is taken.
  static Result<std::unique_ptr<LinkListener>> open(io::Loop& loop, const io::Address& address,
                                                    const LinkIdentity& self,
                                                    const std::vector<std::unique_ptr<PeerLink>>& links,
                                                    const LinkOptions& options);

  // With the real port.
  const io::Address& bound_address() const { return listener_->bound_address(); }
  // No further connections. Established links go on.
  void close() { listener_->close(); }

 private:
  static constexpr size_t kMaximumGreetings = 16;

  LinkListener(io::Loop& loop, const LinkIdentity& self, const std::vector<std::unique_ptr<PeerLink>>& links,
               const LinkOptions& options);
  io::Task<void> accept_connections();
  io::Task<void> greet(std::unique_ptr<io::Stream> stream);

  io::Loop& loop_;
  const LinkIdentity& self_;
  const std::vector<std::unique_ptr<PeerLink>>& links_;
  const LinkOptions options_;
  std::unique_ptr<io::Listener> listener_;
  size_t greetings_ = 0;  // connections that have not said who they are
  std::string problem_;   // of the last caller that was refused before it said so
};

}  // namespace lockstep::repl
