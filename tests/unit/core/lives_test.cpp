// A disk that was rolled back to an older copy of itself, data and metadata, by whoever restores snapshots.
#include <catch2/catch.hpp>

#include "tests/unit/core/pair.h"
#include "tests/unit/core/trio.h"

using namespace lockstep;
using namespace lockstep::repl;

namespace {

struct Snapshot {
  explicit Snapshot(const Side& side)
      : superblock(side.superblock), activity_log(side.activity_log), bitmap(side.bitmap), disk(side.disk) {}
  void restore(Side& side) const {
    side.superblock = superblock;
    side.activity_log = activity_log;
    side.bitmap = bitmap;
    side.disk = side.stable_disk = disk;
  }
  SuperblockImage superblock;
  std::vector<uint32_t> activity_log;
  std::vector<uint64_t> bitmap;
  std::vector<uint32_t> disk;
};

// Time in which a link without load stays up: pings are answered.
void live(Pair& pair, uint64_t time_us) {
  for (uint64_t passed = 0; passed < time_us; passed += 100'000) {
    pair.pass(100'000);
    pair.run();
  }
}

void require_in_sync(Pair& pair) {
  REQUIRE(pair.alpha.peer().replication == ReplicationState::Established);
  REQUIRE(pair.beta.peer().replication == ReplicationState::Established);
  REQUIRE(pair.alpha.disk == pair.beta.disk);
  REQUIRE(pair.alpha.superblock.current == pair.beta.superblock.current);
}

// beta is restored from before the write; nothing else happened to it, so its generation is the present one.
Snapshot roll_back_beta(Pair& pair) {
  pair.make_mirrored();
  pair.alpha.write(0, blocks(4), 1);
  pair.alpha.flush(1);
  pair.run();
  const Snapshot old(pair.beta);
  live(pair, 6'000'000);
  pair.alpha.write(0, blocks(5), 2);
  pair.alpha.flush(1);
  pair.run();
  live(pair, 6'000'000);
  pair.beta.crash();
  pair.run();
  old.restore(pair.beta);
  REQUIRE(pair.beta.disk[5] == 0);
  return old;
}

}  // namespace

TEST_CASE(
    "a Secondary whose disk was rolled back to an old snapshot is not taken for equal, and is copied as a whole") {
  Pair pair;
  roll_back_beta(pair);
  pair.beta.start();
  pair.connect();
  CHECK(pair.alpha.peer().decision.rule == Rule::PeerRolledBack);
  CHECK(pair.beta.peer().decision.rule == Rule::SelfRolledBack);
  require_in_sync(pair);
  CHECK(pair.beta.disk[5] == 2);
  // It is a disk like any other now, also for a node that has seen it older than alpha has.
  CHECK(pair.beta.superblock.life.age > kAgesOfFullResync);
  pair.lose_link();
  pair.run();
  pair.connect();
  CHECK(pair.alpha.peer().decision.rule == Rule::EqualClean);
}

TEST_CASE("a disk that is restored from one snapshot again and again is known as an older copy each time") {
  Pair pair;
  const Snapshot old = roll_back_beta(pair);
  for (uint32_t value = 2; value < 5; ++value) {
    pair.beta.start();
    pair.connect();
    CHECK(pair.alpha.peer().decision.rule == Rule::PeerRolledBack);
    require_in_sync(pair);
    CHECK(pair.beta.disk[5] == value);
    pair.alpha.write(0, blocks(5), value + 1);
    pair.alpha.flush(1);
    pair.run();
    pair.beta.crash();
    pair.run();
    old.restore(pair.beta);
  }
}

TEST_CASE("a resync of a disk that was rolled back starts from the beginning until the target has let go of its past") {
  for (uint64_t frames = 0; frames < 24; ++frames) {
    Pair pair;
    roll_back_beta(pair);
    pair.beta.start();
    pair.frames_left = frames;
    pair.connect();
    pair.lose_link();
    pair.run();
    pair.frames_left = UINT64_MAX;
    pair.connect();
    require_in_sync(pair);
    CHECK(pair.beta.disk[5] == 2);
  }
}

TEST_CASE("a disk that was rolled back is refused as UpToDate while nobody has the newest data") {
  Pair pair;
  roll_back_beta(pair);
  pair.alpha.crash();
  pair.alpha.start();  // Consistent: it does not know either
  pair.beta.start();
  pair.connect();
  CHECK(pair.beta.peer().decision.rule == Rule::SelfRolledBack);
  CHECK(pair.beta.peer().decision.kind == SyncKind::Refuse);
  CHECK(pair.beta.superblock.disk_state == DiskState::Outdated);
  CHECK(pair.beta.disk[5] == 0);
}

TEST_CASE("a Primary's disk that was rolled back does not become the source") {
  Pair pair;
  pair.make_mirrored();
  const Snapshot old(pair.alpha);
  pair.alpha.write(0, blocks(5), 2);
  pair.alpha.flush(1);
  pair.run();
  live(pair, 6'000'000);
  pair.alpha.crash();
  pair.run();
  old.restore(pair.alpha);
  pair.alpha.start();
  pair.connect();
  CHECK(pair.beta.peer().decision.rule == Rule::PeerRolledBack);
  CHECK(pair.beta.disk[5] == 2);
}

TEST_CASE("an older copy of a disk that nothing was written to since is as good as the present one") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 2);
  pair.alpha.flush(1);
  pair.run();
  live(pair, 12'000'000);
  const Snapshot old(pair.beta);
  live(pair, 12'000'000);
  pair.beta.crash();
  pair.run();
  old.restore(pair.beta);
  pair.beta.start();
  pair.connect();
  CHECK(pair.alpha.peer().decision.rule != Rule::PeerRolledBack);
  require_in_sync(pair);
}

TEST_CASE("a peer hears of an age only when it is durable") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 2);
  pair.run();
  pair.beta.holds_persists = true;
  live(pair, 6'000'000);
  REQUIRE(pair.beta.persists_under_way() > 0);
  const uint64_t durable = pair.beta.superblock.life.age;
  CHECK(pair.alpha.replica().superblock().peer_lives[0].age <= durable);
  pair.beta.holds_persists = false;
  live(pair, 6'000'000);
  CHECK(pair.alpha.replica().superblock().peer_lives[0].age == pair.beta.superblock.life.age);
  CHECK(pair.beta.superblock.life.age > durable);
}

TEST_CASE("an older copy of the disk of a node that followed another one is known to a third, too") {
  Trio trio;
  trio.make_mirrored();
  trio.gamma.crash();
  write(trio, trio.alpha, blocks(5), 1);
  const Snapshot older(trio.gamma);
  const std::vector<uint64_t> second_bitmap = trio.gamma.second_bitmap;
  trio.alpha.holds_reads = true;  // its resync does not end
  trio.gamma.start();
  trio.connect(trio.alpha, trio.gamma);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.peer(trio.beta, trio.gamma).decision.rule == Rule::PrimaryDecidesPeerIsBehind);
  write(trio, trio.alpha, blocks(6), 2);
  trio.gamma.crash();
  older.restore(trio.gamma);
  trio.gamma.second_bitmap = second_bitmap;
  trio.alpha.crash();
  trio.gamma.start();
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.peer(trio.beta, trio.gamma).decision.rule == Rule::PeerRolledBack);
}

TEST_CASE("a replaced disk is new, not rolled back") {
  Pair pair;
  roll_back_beta(pair);
  pair.beta.superblock = SuperblockImage{};
  pair.beta.superblock.life.birth = 77;
  std::fill(pair.beta.bitmap.begin(), pair.beta.bitmap.end(), 0);
  pair.beta.start();
  pair.connect();
  CHECK(pair.alpha.peer().decision.rule == Rule::PeerJustCreated);
  require_in_sync(pair);
}

TEST_CASE("an empty disk that was given the name of data by a third node, which did not know of any, gets all of it") {
  Pair pair;
  roll_back_beta(pair);
  const Generation name = pair.beta.superblock.current;
  pair.beta.superblock = SuperblockImage{};
  pair.beta.superblock.life.birth = 77;
  pair.beta.superblock.current = name;
  std::fill(pair.beta.disk.begin(), pair.beta.disk.end(), 0);
  std::fill(pair.beta.bitmap.begin(), pair.beta.bitmap.end(), 0);
  pair.alpha.write(0, blocks(7), 3);  // begins a generation: alpha tracks what beta had
  pair.run();
  pair.beta.start();
  pair.connect();
  CHECK(pair.alpha.peer().decision.rule == Rule::PeerIsBehind);
  require_in_sync(pair);
  CHECK(pair.beta.disk[4] == 1);
}

TEST_CASE("a replaced node that rejoins with leftover bits is a target, never the source") {
  for (const bool as_primary : {false, true}) {
    Pair pair;
    roll_back_beta(pair);
    if (!as_primary) {
      pair.alpha.order(OrderKind::Demote);
      pair.run();
    }
    pair.beta.superblock = SuperblockImage{};
    pair.beta.superblock.life.birth = 77;
    std::fill(pair.beta.disk.begin(), pair.beta.disk.end(), 0);
    std::fill(pair.beta.bitmap.begin(), pair.beta.bitmap.end(), 0xF0F0);
    pair.beta.activity_log[3] = 1;
    pair.beta.start();
    pair.connect();
    CHECK(pair.beta.peer().decision.rule == Rule::SelfJustCreated);
    require_in_sync(pair);
    CHECK(pair.alpha.disk[4] == 1);
    CHECK(pair.alpha.disk[5] == 2);
  }
}
