// What a Secondary's disk may hold of the stream that it applies: nothing behind a barrier that it was told to keep
// before everything in front of that barrier is on its stable storage. So a crash of it, at any moment, leaves a prefix
// of the stream cut at a barrier or later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "replicator/core/message.h"
#include "tests/sim/disk.h"
#include "tests/sim/layout.h"

namespace lockstep::sim {

class World;

class StreamOrder {
 public:
  explicit StreamOrder(World& world) : world_(world) {}
  void prepare();

  void sent(int from, int to, repl::Incarnation incarnation, const repl::Message& message, Value value);
  // Its disk holds something else from now on than what it applied of that stream.
  void forget(int target) { streams_[static_cast<size_t>(target)] = Stream{}; }
  // A resync brings what its source has, in any order: what another node sends meanwhile stands beside that.
  void resync_started(int target, int source) {
    if (streams_[static_cast<size_t>(target)].from != source) forget(target);
    sources_[static_cast<size_t>(target)] = source;
  }
  void resync_finished(int target) { sources_[static_cast<size_t>(target)] = kNobody; }
  void check(int target) const;
  void check_all() const;

 private:
  struct Sent {
    repl::Sequence sequence = 0;
    Layout::Units units;
    Value value = 0;
    bool again = false;
  };
  struct Stream {
    int from = -1;
    repl::Incarnation incarnation = 0;
    bool ordered = false;
    std::vector<Sent> writes;      // that are not known to be stable on the target
    std::vector<size_t> barriers;  // how many of the writes stand in front of each
  };
  bool is_sent_again(const Stream& stream, int target, const Layout::Units& units, Value value) const;
  void trim(Stream& stream, int target);

  World& world_;
  static constexpr int kNobody = -1;
  std::vector<Stream> streams_;  // by target
  std::vector<int> sources_;     // … and of its resync
};

}  // namespace lockstep::sim
