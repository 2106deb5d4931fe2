// resize: every node grows or none does, and whoever was interrupted follows.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/pair.h"
#include "tests/unit/core/trio.h"

using namespace lockstep;
using namespace lockstep::repl;

namespace {

constexpr uint64_t kGrownBytes = 4 * kTestDeviceBytes;

OrderGiven resize(uint64_t size_bytes = kGrownBytes) {
  OrderGiven given;
  given.kind = OrderKind::Resize;
  given.size_bytes = size_bytes;
  return given;
}

void require_in_sync(Pair& pair) {
  REQUIRE(pair.alpha.peer().replication == ReplicationState::Established);
  REQUIRE(pair.beta.peer().replication == ReplicationState::Established);
  REQUIRE(pair.alpha.is_up_to_date());
  REQUIRE(pair.beta.is_up_to_date());
  REQUIRE(pair.alpha.disk == pair.beta.disk);
}

}  // namespace

TEST_CASE("a resource grows on both nodes while it is used, and what is new reads as zeroes") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.write(0, blocks(5), 1);
  const uint64_t ticket = pair.alpha.order(resize());
  pair.alpha.write(1, blocks(6), 2);
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.alpha.size_bytes == kGrownBytes);
  CHECK(pair.beta.size_bytes == kGrownBytes);
  pair.alpha.write(2, blocks(kTestBlocks * 3), 3);
  pair.run();
  CHECK(pair.beta.disk[kTestBlocks * 3] == 3);
  CHECK(pair.beta.disk[kTestBlocks * 3 + 1] == 0);
  require_in_sync(pair);
  // Both know it after a restart, and count what is missed there.
  pair.beta.crash();
  pair.run();
  pair.alpha.write(0, blocks(kTestBlocks * 4 - 1), 4);
  pair.run();
  CHECK(pair.alpha.replica().is_out_of_sync(0, kTestBlocks * 4 - 1));
  pair.alpha.crash();
  pair.alpha.start();
  pair.beta.start();
  pair.connect();
  require_in_sync(pair);
  CHECK(pair.beta.disk[kTestBlocks * 4 - 1] == 4);
}

TEST_CASE("no node grows before every node has room") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_preparations = true;
  const uint64_t ticket = pair.alpha.order(resize());
  pair.run();
  CHECK(pair.alpha.answers.count(ticket) == 0);
  CHECK(pair.alpha.size_bytes == kTestDeviceBytes);
  pair.alpha.write(0, blocks(5), 1);  // it takes its time, and nothing waits for it
  pair.run();
  CHECK(pair.alpha.replies.at(0) == 0);
  pair.beta.next_preparation_errno = ENOSPC;
  pair.beta.holds_preparations = false;
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::NoRoom));
  CHECK(pair.alpha.size_bytes == kTestDeviceBytes);
  CHECK(pair.beta.size_bytes == kTestDeviceBytes);
  const uint64_t again = pair.alpha.order(resize());
  pair.run();
  CHECK(pair.alpha.answered(again, Outcome::Done));
}

TEST_CASE("the node whose clients write grows last") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.holds_preparations = true;
  pair.alpha.order(resize());
  pair.run();
  pair.beta.holds_preparations = false;
  while (pair.beta.size_bytes == kTestDeviceBytes) {
    REQUIRE(pair.alpha.size_bytes == kTestDeviceBytes);
    if (!pair.beta.turn() && !pair.alpha.turn()) pair.run();
  }
  pair.run();
  CHECK(pair.alpha.size_bytes == kGrownBytes);
}

TEST_CASE("a resize is refused while a node is missing, and a device never shrinks") {
  Pair pair;
  pair.make_mirrored();
  CHECK(pair.alpha.answered(pair.alpha.order(resize(kTestDeviceBytes)), Outcome::AlreadySo));
  CHECK(pair.alpha.answered(pair.alpha.order(resize(kTestDeviceBytes - kBlockBytes)), Outcome::SmallerSize));
  CHECK(pair.beta.answered(pair.beta.order(resize()), Outcome::ResizeOnPrimary));
  pair.lose_link();
  pair.run();
  CHECK(pair.alpha.answered(pair.alpha.order(resize()), Outcome::NeedsEveryPeer));
  CHECK(pair.alpha.size_bytes == kTestDeviceBytes);
}

TEST_CASE("a resize that is interrupted after any number of messages is done on both nodes or on neither") {
  bool old_seen = false, new_seen = false;
  for (uint64_t frames = 0; frames < 12; ++frames) {
    for (int crash = 0; crash < 3; ++crash) {
      Pair pair;
      pair.make_mirrored();
      pair.alpha.write(0, blocks(5), 1);
      pair.alpha.flush(1);
      pair.run();
      pair.frames_left = frames;
      pair.alpha.order(resize());
      pair.run();
      if (crash == 1) pair.alpha.crash();
      if (crash == 2) pair.beta.crash();
      pair.lose_link();
      pair.run();
      pair.frames_left = UINT64_MAX;
      if (crash == 1) pair.alpha.start();
      if (crash == 2) pair.beta.start();
      pair.connect();
      pair.run();
      if (!pair.linked()) pair.connect();
      CHECK(pair.alpha.size_bytes == pair.beta.size_bytes);
      CHECK((pair.alpha.size_bytes == kTestDeviceBytes || pair.alpha.size_bytes == kGrownBytes));
      (pair.alpha.size_bytes == kGrownBytes ? new_seen : old_seen) = true;
      require_in_sync(pair);
      CHECK(pair.beta.disk[5] == 1);
    }
  }
  CHECK(old_seen);
  CHECK(new_seen);
}

TEST_CASE("a node that was not prepared does not follow a larger one") {
  Pair pair;
  pair.make_mirrored();
  pair.beta.crash();
  pair.run();
  pair.beta.size_bytes = kGrownBytes;
  pair.beta.disk.resize(kGrownBytes / kBlockBytes);
  pair.beta.stable_disk.resize(kGrownBytes / kBlockBytes);
  pair.beta.bitmap.resize(divide_up(kGrownBytes / kBlockBytes, kBlocksPerBitmapPage) * kWordsPerBitmapPage);
  pair.beta.start();
  pair.connect();
  CHECK(pair.alpha.size_bytes == kTestDeviceBytes);
  CHECK(pair.alpha.peer().replication == ReplicationState::Off);
}

TEST_CASE("a node that follows a third one begins anew what it began with another of its former size") {
  Trio trio;
  trio.make_mirrored();
  trio.beta.holds_preparations = true;
  trio.alpha.order(resize());
  trio.run();
  trio.holds[0][1] = true;  // all have room, and only gamma is told to grow
  trio.beta.holds_preparations = false;
  trio.run();
  REQUIRE(trio.gamma.size_bytes == kGrownBytes);
  REQUIRE(trio.beta.size_bytes == kTestDeviceBytes);
  trio.lose_link(trio.alpha, trio.beta);
  trio.lose_link(trio.beta, trio.gamma);
  REQUIRE(trio.alpha.size_bytes == kTestDeviceBytes);
  // alpha has heard of beta's size when beta grows, and what it says is late.
  trio.connect(trio.alpha, trio.beta);
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.beta.size_bytes == kGrownBytes);
  trio.holds[0][1] = false;
  trio.run();
  const auto broke_a_rule = [](const Note& note) { return note.kind == NoteKind::RuleBroken; };
  CHECK(std::none_of(trio.beta.notes.begin(), trio.beta.notes.end(), broke_a_rule));
  trio.settle();
  CHECK(trio.alpha.size_bytes == kGrownBytes);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE(
    "when a resize breaks off, those that have grown and those that have not meet again before anything is written") {
  Trio trio;
  trio.make_mirrored();
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  trio.gamma.holds_preparations = true;
  const uint64_t ticket = trio.alpha.order(resize());
  trio.run();
  trio.holds[0][2] = true;  // only beta is told to grow
  trio.gamma.holds_preparations = false;
  trio.run();
  REQUIRE(trio.beta.size_bytes == kGrownBytes);
  trio.lose_link(trio.alpha, trio.gamma);
  trio.holds[0][2] = false;
  trio.run();
  REQUIRE(trio.alpha.answered(ticket, Outcome::PeerLost));
  trio.connect(trio.alpha, trio.beta);
  trio.connect(trio.beta, trio.gamma);
  OrderGiven promote;
  promote.kind = OrderKind::Promote;
  promote.peer_fenced = true;
  trio.beta.order(promote);
  trio.run();
  REQUIRE(trio.beta.is_primary());
  trio.beta.write(0, blocks(kTestBlocks * 3), 3);
  trio.run();
  const auto broke_a_rule = [](const Note& note) { return note.kind == NoteKind::RuleBroken; };
  CHECK(std::none_of(trio.alpha.notes.begin(), trio.alpha.notes.end(), broke_a_rule));
  CHECK(std::none_of(trio.gamma.notes.begin(), trio.gamma.notes.end(), broke_a_rule));
  trio.settle();
  CHECK(trio.alpha.size_bytes == kGrownBytes);
  CHECK(trio.are_alike(trio.alpha, trio.beta));
  CHECK(trio.are_alike(trio.beta, trio.gamma));
}

TEST_CASE("nobody is promoted while another node makes it grow") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  pair.beta.holds_preparations = true;
  const uint64_t growth = pair.alpha.order(resize());
  pair.run();
  const uint64_t promotion = pair.beta.order(OrderKind::Promote);
  pair.run();
  CHECK(pair.beta.answered(promotion, Outcome::PeerSaidNo));
  pair.beta.holds_preparations = false;
  pair.run();
  CHECK(pair.alpha.answered(growth, Outcome::Done));
  pair.beta.order(OrderKind::Promote);
  pair.run();
  CHECK(pair.beta.is_primary());
}

TEST_CASE("of two resizes that are ordered at the same time one is done, and none spoils the other's preparations") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  pair.alpha.holds_preparations = true;
  const uint64_t first = pair.alpha.order(resize());
  pair.run();
  const uint64_t second = pair.beta.order(resize(2 * kTestDeviceBytes));
  pair.run();
  CHECK(pair.beta.answered(second, Outcome::Busy));
  pair.alpha.holds_preparations = false;
  pair.run();
  CHECK(pair.alpha.answered(first, Outcome::Done));
  CHECK(pair.beta.size_bytes == kGrownBytes);
}

TEST_CASE("who has room for a resize that was broken off may order another one") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.order(OrderKind::Demote);
  pair.run();
  pair.alpha.next_preparation_errno = ENOSPC;
  CHECK_FALSE(pair.alpha.answered(pair.alpha.order(resize()), Outcome::Done));
  pair.run();
  const uint64_t second = pair.beta.order(resize(2 * kTestDeviceBytes));
  pair.run();
  CHECK(pair.beta.answered(second, Outcome::Done));
  CHECK(pair.alpha.size_bytes == 2 * kTestDeviceBytes);
}

TEST_CASE("a Primary whose disk fails while its peer has grown already keeps its clients") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.holds_persists = true;  // that it has room
  const uint64_t ticket = pair.alpha.order(resize());
  pair.run();
  pair.holds_to_alpha = true;
  pair.alpha.holds_persists = false;
  pair.run();
  REQUIRE(pair.beta.size_bytes == kGrownBytes);
  REQUIRE(pair.alpha.size_bytes == kTestDeviceBytes);
  pair.alpha.next_io_errno = EIO;
  pair.alpha.write(0, blocks(5), 1);
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::NoDisk));
  pair.lose_link();
  pair.holds_to_alpha = false;
  for (int i = 0; i < 3; ++i) pair.connect();
  CHECK(pair.alpha.replies.at(0) == 0);
  CHECK(pair.beta.disk[5] == 1);

  // With its disk again it follows.
  pair.alpha.attach();
  for (int i = 0; i < 5; ++i) {
    pair.connect();
    pair.pass(1'100'000);
  }
  CHECK(pair.alpha.size_bytes == kGrownBytes);
  require_in_sync(pair);
}

TEST_CASE("who follows a larger node writes nothing beyond its former size to one that does not") {
  Trio trio;
  trio.make_mirrored();
  // beta grows, alpha does not hear of it; gamma's disk, which had room, is replaced by an empty one.
  trio.holds[1][0] = true;
  trio.alpha.holds_preparations = true;
  trio.alpha.order(resize());
  trio.run();
  trio.holds[1][0] = false;
  trio.run();
  trio.alpha.holds_persists = true;
  trio.alpha.holds_preparations = false;
  trio.run();
  trio.holds[1][0] = true;
  trio.alpha.holds_persists = false;
  trio.run();
  REQUIRE(trio.beta.size_bytes == kGrownBytes);
  REQUIRE(trio.alpha.size_bytes == kTestDeviceBytes);
  trio.gamma.crash(true);
  trio.gamma.superblock = SuperblockImage{};
  trio.gamma.superblock.life.birth = 77;
  trio.gamma.disk.assign(kTestBlocks, 0);
  trio.gamma.stable_disk = trio.gamma.disk;
  trio.gamma.size_bytes = kTestDeviceBytes;
  std::fill(trio.gamma.bitmap.begin(), trio.gamma.bitmap.end(), 0);
  std::fill(trio.gamma.second_bitmap.begin(), trio.gamma.second_bitmap.end(), 0);
  std::fill(trio.gamma.activity_log.begin(), trio.gamma.activity_log.end(), kNoExtent);
  trio.gamma.start();
  trio.run();
  trio.holds[1][0] = false;
  trio.run();
  trio.connect(trio.alpha, trio.gamma);
  REQUIRE(trio.peer(trio.alpha, trio.gamma).connection == ConnectionState::Connected);
  trio.connect(trio.alpha, trio.beta);
  REQUIRE(trio.alpha.size_bytes == kGrownBytes);
  trio.alpha.write(0, blocks(kTestBlocks + 5), 1);
  trio.run();
  CHECK(std::none_of(trio.gamma.notes.begin(), trio.gamma.notes.end(),
                     [](const Note& note) { return note.kind == NoteKind::RuleBroken; }));
  CHECK(trio.peer(trio.alpha, trio.gamma).connection == ConnectionState::Connecting);
  trio.connect(trio.alpha, trio.beta);
  CHECK(trio.alpha.replies.at(0) == 0);
  CHECK(trio.beta.disk[kTestBlocks + 5] == 1);
}
