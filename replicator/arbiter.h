// Whom the driver asks when the core asks the arbiter (core/action.h, AskArbiter). docs/arbiter.md says what an arbiter
// must keep and promise.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "replicator/core/action.h"
#include "replicator/core/metadata_image.h"

namespace lockstep::repl {

struct ArbiterRequest {
  ArbiterQuestion question = ArbiterQuestion::FencePeers;
  std::vector<std::string> peers;   // whom it is about, by name
  std::vector<std::string> behind;  // others that must not count as in sync any more
  Role role = Role::Secondary;      // this node's
  DiskState disk_state = DiskState::UpToDate;
  SuperblockImage generations;  // current and history: what this node's data goes back to
  Generation generation;        // what the record is to bear: one of those, in PeersInSync
};

class Arbiter {
 public:
  virtual ~Arbiter() = default;
  // `answered` is called once, from the loop, never from inside this call. A question that is asked while another is
  // open takes its place: the older one's effect is over before the new one's begins, and its answer does not matter.
  virtual void ask(ArbiterRequest request, std::function<void(ArbiterVerdict)> answered) = 0;
};

}  // namespace lockstep::repl
