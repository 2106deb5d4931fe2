#include "io/disk_turns.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "io/file.h"
#include "io/file_setup.h"
#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

// A disk and a client, as DiskTurns sees them: `outstanding` reads, each asked for again when it is answered.
struct Scene {
  DiskTurns turns;
  size_t outstanding = 32;
  size_t at_disk = 0;
  size_t held = 0;
  size_t idle = 0;  // how often the disk had nothing to do

  void ask(size_t count) {
    held += count;
    while (held > 0 && at_disk < turns.limit()) {
      --held;
      turns.given(++at_disk);
    }
  }
  void end(size_t count) {
    at_disk -= count;
    if (at_disk == 0 && held == 0) ++idle;
    turns.ended(count, at_disk, held);
  }
  // All that the disk has ends together; the client asks for as much again, when the disk has what was held.
  void take_turns(size_t rounds) {
    for (size_t round = 0; round < rounds; ++round) {
      if (at_disk == 0) ask(outstanding);
      const size_t batch = at_disk;
      end(batch);
      ask(0);
      ask(batch);
    }
  }
  // The client waits for everything before it goes on.
  void wait_for_all(size_t rounds) {
    for (size_t round = 0; round < rounds; ++round) {
      ask(outstanding);
      while (at_disk > 0) {
        end(at_disk);
        ask(0);
      }
    }
  }
};

Task<void> read_again_and_again(File& file, Loop& loop, uint64_t seed, int rounds, int& wrong, int& ended) {
  BufferRef buffer = loop.buffers().allocate(4096);
  for (int round = 0; round < rounds; ++round) {
    const uint64_t block = (seed + static_cast<uint64_t>(round) * 7) % 64;
    const Status read = co_await file.read(buffer.bytes(), block * 4096);
    if (!read.ok() || buffer.bytes()[0] != block || buffer.bytes()[4095] != block) ++wrong;
  }
  if (++ended == 48) loop.stop();
}

}  // namespace

TEST_CASE("a disk that ends all that it has at once gets a part, and the rest while that is with the client") {
  Scene scene;
  scene.take_turns(DiskTurns::kTurns);
  CHECK(scene.turns.limit() == 22);
  const size_t idle = scene.idle;
  scene.take_turns(200);
  CHECK(scene.turns.limit() == 22);
  CHECK(scene.idle == idle);
}

TEST_CASE("how much is found anew now and then: the client may ask for more than it did") {
  Scene scene;
  scene.take_turns(DiskTurns::kTurns);
  scene.outstanding = 128;
  scene.ask(96);
  size_t most = 0;
  for (size_t round = 0; round < 2 * DiskTurns::kLooksAgain / 22; ++round) {
    scene.take_turns(1);
    if (scene.turns.limit() != DiskTurns::kNone) most = std::max(most, scene.turns.limit());
  }
  CHECK(most == 88);
}

TEST_CASE("a disk that ends its requests one by one gets everything") {
  Scene scene;
  scene.ask(scene.outstanding);
  for (int i = 0; i < 10'000; ++i) {
    scene.end(1);
    scene.ask(1);
    REQUIRE(scene.turns.limit() == DiskTurns::kNone);
  }
  // … also if the client pauses now and then.
  for (int i = 0; i < 100; ++i) {
    for (size_t each = 0; each < scene.outstanding; ++each) scene.end(1);
    scene.ask(scene.outstanding);
    for (int each = 0; each < 100; ++each) {
      scene.end(1);
      scene.ask(1);
    }
    REQUIRE(scene.turns.limit() == DiskTurns::kNone);
  }
}

TEST_CASE("a few requests are no batch") {
  Scene scene;
  scene.outstanding = DiskTurns::kBatch - 1;
  scene.take_turns(1000);
  CHECK(scene.turns.limit() == DiskTurns::kNone);
}

TEST_CASE("where a client waits for all of a batch a limit is tried more and more rarely") {
  Scene scene;
  size_t limited = 0;
  constexpr size_t kRounds = 20'000;
  for (size_t round = 0; round < kRounds; ++round) {
    scene.wait_for_all(1);
    if (scene.turns.limit() != DiskTurns::kNone) ++limited;
  }
  CHECK(limited > 0);
  CHECK(limited < kRounds / 50);
}

TEST_CASE("many reads at once all end, whatever is held back") {
  const TempFolder folder;
  const std::unique_ptr<Loop> loop = make_loop();
  const std::string path = folder.file("image");
  REQUIRE(allocate_zeroed(path, 64 * 4096).ok());
  Result<std::unique_ptr<File>> opened = File::open(*loop, path, {});
  REQUIRE(opened.ok());
  File& file = **opened;
  for (uint8_t block = 0; block < 64; ++block) {
    BufferRef buffer = loop->buffers().allocate(4096);
    std::memset(buffer.data(), block, 4096);
    REQUIRE(file.write_now(buffer.bytes(), uint64_t{block} * 4096).ok());
  }
  int wrong = 0;
  int ended = 0;
  for (uint64_t reader = 0; reader < 48; ++reader) {
    loop->spawn(read_again_and_again(file, *loop, reader, 200, wrong, ended));
  }
  loop->run();
  CHECK(ended == 48);
  CHECK(wrong == 0);
}

}  // namespace lockstep::io
