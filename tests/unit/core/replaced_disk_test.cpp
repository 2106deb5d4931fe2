// A disk that is replaced by an empty one: whose data counts then, and who has to say so.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>

#include "tests/unit/core/disk_stories.h"
#include "tests/unit/core/pair.h"
#include "tests/unit/core/trio.h"

namespace lockstep::repl {
namespace {

// What `create` leaves on another disk.
void replace_disk(Side& side) {
  side.superblock = SuperblockImage{};
  side.superblock.life.birth = 77;
  side.disk.assign(kTestBlocks, 0);
  side.stable_disk = side.disk;
  std::fill(side.bitmap.begin(), side.bitmap.end(), 0);
  std::fill(side.second_bitmap.begin(), side.second_bitmap.end(), 0);
  std::fill(side.activity_log.begin(), side.activity_log.end(), kNoExtent);
}

// alpha goes on without beta, and its disk, with what beta lacks, is replaced by an empty one.
void lose_newer_data(Pair& pair, bool says_goodbye) {
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  pair.alpha.flush(1);
  pair.run();
  if (says_goodbye) {
    pair.beta.order(OrderKind::Disconnect);
    pair.run();
    REQUIRE(disk_of(pair.beta) == DiskState::Outdated);
  } else {
    pair.lose_link();
    pair.run();
  }
  pair.alpha.write(1, blocks(6), 2);
  pair.alpha.flush(2);
  pair.run();
  REQUIRE(pair.alpha.replies.at(2) == 0);
  pair.alpha.crash(true);
  replace_disk(pair.alpha);
}

OrderGiven promote() {
  OrderGiven order;
  order.kind = OrderKind::Promote;
  return order;
}

}  // namespace

TEST_CASE("an Outdated copy is not the newest because the newer one was replaced by an empty disk") {
  const bool knows = GENERATE(true, false);
  INFO((knows ? "beta is Outdated" : "beta has restarted"));
  Pair pair;
  lose_newer_data(pair, knows);
  if (!knows || GENERATE(true, false)) {
    pair.beta.crash(true);
    pair.beta.start();
  }
  pair.beta.order(OrderKind::Connect);
  pair.alpha.start();
  settle(pair);
  const DiskState before = knows ? DiskState::Outdated : DiskState::Consistent;
  CHECK(disk_of(pair.beta) == before);
  CHECK(pair.beta.peer().decision.rule == Rule::SelfMayBeStale);
  CHECK(pair.alpha.peer().decision.rule == Rule::PeerMayBeStale);
  CHECK_FALSE(pair.alpha.is_up_to_date());
  pair.beta.order(promote());
  pair.alpha.order(promote());
  settle(pair);
  CHECK_FALSE(pair.beta.is_primary());
  CHECK_FALSE(pair.alpha.is_primary());
  CHECK(disk_of(pair.beta) == before);

  // The operator takes what is left, by its name.
  pair.beta.order(OrderKind::Disconnect);
  pair.run();
  OrderGiven force = promote();
  force.give_generation = true;
  force.generation = pair.beta.superblock.current;
  pair.beta.order(force);
  pair.run();
  REQUIRE(pair.beta.is_primary());
  pair.beta.order(OrderKind::Connect);
  settle(pair);
  check_mirrored(pair);
  CHECK(pair.beta.disk[5] == 1);
}

TEST_CASE("an UpToDate copy is the source of an empty disk, and so is a restarted one that went on alone") {
  const bool restarts = GENERATE(true, false);
  Pair pair;
  pair.make_mirrored();
  pair.beta.crash(true);
  pair.run();
  pair.alpha.write(0, blocks(5), 1);
  pair.alpha.flush(1);
  pair.run();
  REQUIRE(pair.alpha.replies.at(1) == 0);
  if (restarts) {
    pair.alpha.crash(true);
    pair.alpha.start();
  }
  replace_disk(pair.beta);
  pair.beta.start();
  settle(pair);
  CHECK(pair.alpha.peer().decision.rule == Rule::PeerJustCreated);
  check_mirrored(pair);
}

TEST_CASE("a disk that was filled by a node that lacks something is not as the Primary knew its predecessor") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.on_peer_loss = LossPolicy::Suspend;
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  // beta is cut off; what alpha writes then gamma's disk makes stable, and nobody is answered.
  trio.holds[0][1] = true;
  trio.alpha.write(0, blocks(6), 2, true);
  trio.run();
  REQUIRE(trio.gamma.stable_disk[6] == 2);
  trio.lose_link(trio.alpha, trio.beta);
  trio.holds[0][1] = false;
  trio.run();
  REQUIRE(trio.alpha.replies.empty());
  // In the place of gamma's disk is an empty one, and beta is the first that it meets: an equal block is not copied.
  trio.gamma.crash(true);
  replace_disk(trio.gamma);
  trio.gamma.start();
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.gamma.is_up_to_date());
  REQUIRE(trio.gamma.disk[6] == 0);
  REQUIRE(trio.gamma.superblock.current == trio.alpha.superblock.current);
  trio.connect(trio.alpha, trio.gamma);
  trio.settle();
  CHECK(trio.gamma.disk[6] == 2);
  CHECK(trio.alpha.replies.at(0) == 0);
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.bits(trio.gamma, trio.beta) == 0);
}

TEST_CASE("an empty disk is not given the name of a generation that others have written in") {
  ReplicaOptions with_handler = trio_options(2);
  with_handler.prepares_resyncs = true;
  Trio trio(trio_options(0), trio_options(1), with_handler);
  trio.make_mirrored();
  trio.alpha.write(0, blocks(5), 1);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);
  trio.alpha.order(OrderKind::Demote);
  trio.settle();
  trio.gamma.crash(true);
  replace_disk(trio.gamma);
  trio.gamma.start();
  trio.connect();
  REQUIRE(trio.peer(trio.beta, trio.gamma).decision.kind == SyncKind::Prepare);
  trio.beta.order(OrderKind::Promote);
  trio.run();
  REQUIRE(trio.beta.is_primary());
  CHECK(trio.gamma.superblock.current.is_zero());
  trio.gamma.feed(ResyncPrepared{Trio::place(trio.gamma, trio.beta), true});
  trio.settle();
  CHECK(trio.gamma.disk[5] == 1);
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("a node does not know who is behind when the disk that may have brought that one up to date is replaced") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.lose_link(trio.beta, trio.gamma);
  // Gamma, which was restarted, is beta's target when it is lost, or was to be, and has not heard of it.
  const bool has_begun = GENERATE(false, true);
  trio.gamma.crash();
  trio.gamma.start();
  trio.run();
  trio.gamma.holds_persists = !has_begun;
  trio.beta.holds_reads = true;
  trio.connect(trio.beta, trio.gamma);
  CHECK(has_begun == (trio.gamma.superblock.disk_state == DiskState::Inconsistent));
  trio.lose_link(trio.beta, trio.gamma);
  trio.gamma.crash();
  trio.gamma.holds_persists = false;
  trio.gamma.start();
  trio.run();
  REQUIRE_FALSE(trio.beta.superblock.peers[Trio::place(trio.beta, trio.gamma)].bitmap_generation.is_zero());
  // The Primary brings it up to date, and has its disk replaced.
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.are_alike(trio.alpha, trio.gamma));
  trio.lose_link(trio.alpha, trio.gamma);
  trio.alpha.crash();
  replace_disk(trio.alpha);
  trio.alpha.start();
  trio.run();
  trio.connect(trio.alpha, trio.beta);
  REQUIRE_FALSE(trio.beta.superblock.peers[Trio::place(trio.beta, trio.alpha)].bitmap_generation.is_zero());
  // Gamma may have gone on.
  trio.beta.crash();
  trio.beta.start();
  trio.run();
  CHECK_FALSE(trio.beta.is_up_to_date());
}

}  // namespace lockstep::repl
