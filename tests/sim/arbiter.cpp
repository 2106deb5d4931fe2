#include "tests/sim/arbiter.h"

#include <algorithm>

#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

void Arbiter::ask(int node, const AskArbiter& question) {
  const uint64_t boot = world_.node(node).boots();
  for (Asked& earlier : asked_) {
    // A node that lives has ended its earlier program; one of a node that died may still be on its way.
    if (earlier.node == node && earlier.boot == boot) earlier.dropped = true;
  }
  asked_.push_back({node, boot, question, world_.node(node).replica().superblock(), false});
  const uint64_t delay_us =
      world_.random.chance(0.1) ? world_.random.between(50'000, 600'000) : world_.random.between(1'000, 30'000);
  world_.at(world_.now_us + delay_us, [this, index = asked_.size() - 1] { decide(index); });
}

void Arbiter::forget(int node) {
  if (in_sync_.size() > 1) in_sync_.erase(node);
  for (Asked& earlier : asked_) earlier.dropped = earlier.dropped || earlier.node == node;
}

void Arbiter::decide(size_t index) {
  Asked& asked = asked_[index];
  if (asked.dropped) return;
  asked.dropped = true;
  ArbiterVerdict verdict = ArbiterVerdict::Unclear;
  const bool troubled = !world_.is_healing();
  if (!troubled || !world_.random.chance(0.15)) verdict = judge(asked);
  if (troubled && world_.random.chance(0.1)) verdict = ArbiterVerdict::Unclear;  // done, and nobody hears of it
  world_.trace("arbiter: question %d of node %d: %d", static_cast<int>(asked.question.question), asked.node,
               static_cast<int>(verdict));
  world_.thawed(asked.node, asked.boot, [this, node = asked.node, ticket = asked.question.ticket, verdict] {
    world_.node(node).feed(ArbiterAnswered{ticket, verdict});
  });
}

ArbiterVerdict Arbiter::judge(const Asked& asked) {
  const auto peer = [&](PeerIndex index) { return world_.node(asked.node).peer_id(index); };
  std::set<int> about;
  for (PeerIndex index = 0; index < world_.node_count() - 1; ++index) {
    if ((asked.question.peers & mask_of(index)) != 0) about.insert(peer(index));
  }
  if (asked.question.question == ArbiterQuestion::PeersInSync) {
    const SuperblockImage& known = asked.known;
    const bool knows = generation_ == known.current || generation_ == known.reserved ||
                       std::find(known.history.begin(), known.history.end(), generation_) != known.history.end();
    if (exists_ && !knows) return ArbiterVerdict::Denied;
    about.insert(asked.node);
    if (!exists_ && static_cast<int>(about.size()) < world_.node_count()) return ArbiterVerdict::Unclear;
    exists_ = true;
    in_sync_.insert(about.begin(), about.end());
    generation_ = asked.question.generation;
    return ArbiterVerdict::Granted;
  }
  if (!exists_) return ArbiterVerdict::Unclear;
  if (in_sync_.count(asked.node) == 0) return ArbiterVerdict::Denied;
  for (PeerIndex index = 0; index < world_.node_count() - 1; ++index) {
    if ((asked.question.behind & mask_of(index)) != 0) about.insert(peer(index));
  }
  for (const int out : about) in_sync_.erase(out);
  generation_ = asked.question.generation;
  return ArbiterVerdict::Granted;
}

}  // namespace lockstep::sim
