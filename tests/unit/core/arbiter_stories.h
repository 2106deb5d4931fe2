// What the stories of pairs and of trios under on-peer-loss = arbiter share.
#pragma once

#include <algorithm>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {

inline OrderGiven promote_plainly() {
  OrderGiven order;
  order.kind = OrderKind::Promote;
  return order;
}

// The record bears a name of this node's own past or next: docs/arbiter.md.
inline bool knows_generation(const Side& side, const Generation& generation) {
  const SuperblockImage& own = side.replica().superblock();
  return own.current == generation || own.reserved == generation ||
         std::find(own.history.begin(), own.history.end(), generation) != own.history.end();
}

}  // namespace lockstep::repl
