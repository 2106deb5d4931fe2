// Forgetting a node's data by order, here or from the other side.
#include <catch2/catch.hpp>

#include "tests/unit/core/pair.h"

using namespace lockstep;
using namespace lockstep::repl;

namespace {

void require_in_sync(Pair& pair) {
  REQUIRE(pair.alpha.peer().replication == ReplicationState::Established);
  REQUIRE(pair.beta.peer().replication == ReplicationState::Established);
  REQUIRE(pair.alpha.is_up_to_date());
  REQUIRE(pair.beta.is_up_to_date());
  REQUIRE(pair.alpha.disk == pair.beta.disk);
  REQUIRE(pair.alpha.superblock.current == pair.beta.superblock.current);
}

OrderGiven invalidate_peer() {
  OrderGiven given;
  given.kind = OrderKind::InvalidatePeer;
  given.every_peer = false;
  return given;
}

OrderGiven invalidate_self() {
  OrderGiven given;
  given.kind = OrderKind::Invalidate;
  return given;
}

}  // namespace

TEST_CASE("a peer that was invalidated is copied as a whole from the node that said so") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.beta.disk[5] = 666;
  pair.beta.disk[30'000] = 667;
  const uint64_t ticket = pair.alpha.order(invalidate_peer());
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.beta.superblock.disk_state == DiskState::Inconsistent);
  pair.connect();
  require_in_sync(pair);
}

TEST_CASE("an invalidation is answered when it is durable, and the link ends only then") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_persists = true;
  const uint64_t ticket = pair.alpha.order(invalidate_peer());
  pair.run();
  CHECK(pair.alpha.answers.count(ticket) == 0);
  CHECK(pair.linked());
  pair.beta.holds_persists = false;
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.beta.superblock.disk_state == DiskState::Inconsistent);
}

TEST_CASE("a crash in the middle of an invalidation leaves a good copy or a target, never a third thing") {
  for (int persists = 0; persists < 3; ++persists) {
    Pair pair;
    pair.make_mirrored();
    pair.alpha.write(0, blocks(5), 1);
    pair.alpha.flush(1);
    pair.run();
    pair.beta.holds_persists = true;
    const uint64_t ticket = pair.alpha.order(invalidate_peer());
    pair.run();
    for (int i = 0; i < persists; ++i) pair.beta.complete_one_persist();
    pair.beta.crash();
    pair.run();
    if (persists < 2) CHECK(pair.alpha.answered(ticket, Outcome::PeerLost));
    pair.beta.start();
    pair.connect();
    require_in_sync(pair);
    CHECK(pair.beta.disk[5] == 1);
  }
}

TEST_CASE("the last UpToDate copy is not invalidated, wherever it is asked for") {
  Pair pair;
  pair.make_mirrored();
  CHECK(pair.beta.answered(pair.beta.order(invalidate_peer()), Outcome::PeerIsPrimary));
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  // beta is on its way to a copy: neither may give up alpha's.
  pair.alpha.holds_flushes = true;
  pair.beta.order(OrderKind::Invalidate);
  pair.run();
  CHECK(pair.beta.answered(pair.beta.order(invalidate_peer()), Outcome::NotConnected));
  pair.connect();
  REQUIRE(pair.beta.superblock.disk_state == DiskState::Inconsistent);
  CHECK(pair.beta.answered(pair.beta.order(invalidate_peer()), Outcome::PeerIsLastUpToDate));
  CHECK(pair.alpha.answered(pair.alpha.order(OrderKind::Invalidate), Outcome::ResyncRuns));
  CHECK(pair.alpha.answered(pair.alpha.order(invalidate_peer()), Outcome::ResyncRuns));
  pair.alpha.holds_flushes = false;
  pair.run();
  require_in_sync(pair);
  pair.lose_link();
  pair.run();
  CHECK(pair.alpha.answered(pair.alpha.order(OrderKind::Invalidate), Outcome::NotConnected));
  CHECK(pair.alpha.answered(pair.alpha.order(invalidate_peer()), Outcome::NotConnected));
}

TEST_CASE("two nodes that are invalidated at once, in favour of each other: one good copy is left") {
  // Each of both nodes is told to forget its own data, or the other's, before either hears of the other's order.
  for (const OrderGiven& first : {invalidate_peer(), invalidate_self()}) {
    for (const OrderGiven& second : {invalidate_peer(), invalidate_self()}) {
      Pair pair;
      pair.make_mirrored();
      pair.alpha.write(0, blocks(5), 1);
      pair.alpha.flush(1);
      pair.run();
      pair.alpha.order(OrderKind::Demote);
      pair.run();
      pair.holds_to_alpha = pair.holds_to_beta = true;
      const uint64_t at_alpha = pair.alpha.order(first);
      const uint64_t at_beta = pair.beta.order(second);
      pair.run();
      pair.holds_to_alpha = pair.holds_to_beta = false;
      pair.run();
      CHECK((pair.alpha.superblock.disk_state == DiskState::UpToDate ||
             pair.beta.superblock.disk_state == DiskState::UpToDate));
      CHECK(pair.alpha.answers.count(at_alpha) == 1);
      CHECK(pair.beta.answers.count(at_beta) == 1);
      pair.connect();
      require_in_sync(pair);
      CHECK(pair.alpha.disk[5] == 1);
    }
  }
}
