// The local disk: what cannot be one, and zeroes on file systems that know how to make them and on one that does not.
#include "replicator/local_disk.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <utility>
#include <vector>

#include "io/buffer_pool.h"
#include "io/disk_observer.h"
#include "tests/unit/replicator/fixtures.h"

using namespace lockstep;
using namespace lockstep::repl;
using namespace lockstep::tests;

namespace {

constexpr uint64_t kSize = 8 * kMiB;

class Owner final : public LocalDiskOwner {
 public:
  void local_io_ended(SlotRef slot, int error_errno, bool all_stable) noexcept override {
    ended.push_back({slot, error_errno});
    if (all_stable) ++told_stable;
  }
  struct Ended {
    SlotRef slot;
    int error_errno;
    friend bool operator==(const Ended&, const Ended&) = default;
  };
  std::vector<Ended> ended;
  uint32_t told_stable = 0;
};

io::Task<void> zero_some(io::Loop& loop, LocalDisk& disk, Owner& owner) {
  const SlotRef client{SlotKind::Client, 1};
  const SlotRef apply{SlotKind::Apply, 0};
  const SlotRef flush{SlotKind::Flush, 0};
  disk.zero(client, {4096, 3 * kMiB}, false, false);
  disk.zero(apply, {5 * kMiB, 4096}, true, true);
  disk.flush(flush);
  CHECK(disk.in_flight() == 3);
  CHECK(owner.ended.empty());
  const bool done = co_await becomes_true(loop, [&] { return owner.ended.size() == 3; });
  CHECK(done);
  for (const Owner::Ended& ended : owner.ended) CHECK(ended.error_errno == 0);
  CHECK(std::count(owner.ended.begin(), owner.ended.end(), Owner::Ended{client, 0}) == 1);
  CHECK(std::count(owner.ended.begin(), owner.ended.end(), Owner::Ended{apply, 0}) == 1);
  CHECK(disk.in_flight() == 0);
  // A slot serves again and again, and reads what is there.
  const io::BufferRef buffer = loop.buffers().allocate(kMiB);
  owner.ended.clear();
  disk.read(client, buffer.bytes(), 2 * kMiB + 4096 + kMiB / 2);
  const bool read = co_await becomes_true(loop, [&] { return owner.ended.size() == 1; });
  CHECK(read);
  const auto middle = buffer.bytes().begin() + kMiB / 2;
  CHECK(std::all_of(buffer.bytes().begin(), middle, [](uint8_t byte) { return byte == 0; }));
  CHECK(std::all_of(middle, buffer.bytes().end(), [](uint8_t byte) { return byte == 0xAB; }));
}

void check_zeroes(const std::string& path) {
  write_file(path, std::vector<uint8_t>(kSize, 0xAB));
  {
    const std::unique_ptr<io::Loop> loop = make_loop();
    auto file = LocalDisk::open(*loop, path, kSize);
    REQUIRE(file);
    Owner owner;
    LocalDisk disk(*loop, std::move(*file), {4, 4, 1}, owner);
    run_to_end(*loop, zero_some(*loop, disk, owner));
  }
  std::vector<uint8_t> expected(kSize, 0xAB);
  std::fill_n(expected.begin() + 4096, 3 * kMiB, uint8_t{0});
  std::fill_n(expected.begin() + 5 * kMiB, 4096, uint8_t{0});
  CHECK(read_file(path) == expected);
}

// Of this process: what is written beyond fails.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_before_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_before_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_before_)(int) = nullptr;
};

// Counts what the disk is asked for.
class Counter final : public io::DiskObserver {
 public:
  void disk_request_started(const void* /*operation*/, const io::DiskRequest& request) noexcept override {
    if (request.kind == io::DiskRequestKind::Sync) ++syncs;
    if (request.kind == io::DiskRequestKind::Write) ++(request.durable ? durable_writes : writes);
  }
  void disk_request_ended(const void* /*operation*/, int /*error_errno*/) noexcept override {}
  int syncs = 0, writes = 0, durable_writes = 0;
};

struct WatchedDisk {
  WatchedDisk() {
    write_file(folder / "disk", std::vector<uint8_t>(kSize));
    io::LoopOptions options;
    options.disk_observer = &counter;
    auto created = io::Loop::create(options);
    REQUIRE(created);
    loop = std::move(*created);
    auto file = LocalDisk::open(*loop, folder / "disk", kSize);
    REQUIRE(file);
    guesses = (*file)->makes_writes_durable();
    disk = std::make_unique<LocalDisk>(*loop, std::move(*file), LocalDisk::Slots{4, 4, 1}, owner);
  }

  const Folder folder;
  Counter counter;
  std::unique_ptr<io::Loop> loop;
  // Where the folder for temporary files is on a file system that is not known to make writes durable, none is guessed.
  bool guesses = false;
  Owner owner;
  std::unique_ptr<LocalDisk> disk;
};

io::Task<void> commit_often(io::Loop& loop, LocalDisk& disk, Owner& owner, const Counter& counter, bool guesses) {
  const io::BufferRef buffer = loop.buffers().allocate(4096);
  const auto ended = [&] { return !owner.ended.empty(); };
  for (int commit = 0; commit < 20; ++commit) {
    owner.ended.clear();
    disk.write({SlotKind::Client, 0}, buffer.bytes(), 4096 * static_cast<uint64_t>(commit), false);
    CHECK(co_await becomes_true(loop, ended));
    owner.ended.clear();
    disk.flush({SlotKind::Flush, 0});
    CHECK(owner.ended.empty());  // never from inside the call
    CHECK(disk.in_flight() == 1);
    CHECK(co_await becomes_true(loop, ended));
    CHECK(owner.ended.front() == Owner::Ended{{SlotKind::Flush, 0}, 0});
    CHECK(counter.syncs + counter.durable_writes == commit + 1);
  }
  CHECK(counter.writes == (guesses ? static_cast<int>(FlushGuess::kTrusted) : 20));
  // One that is not alone is not made durable, and its flush asks the disk.
  const int syncs = counter.syncs;
  owner.ended.clear();
  disk.write({SlotKind::Client, 0}, buffer.bytes(), 0, false);
  disk.write({SlotKind::Client, 1}, buffer.bytes(), 8192, false);
  CHECK(co_await becomes_true(loop, [&] { return owner.ended.size() == 2; }));
  owner.ended.clear();
  disk.flush({SlotKind::Flush, 0});
  CHECK(co_await becomes_true(loop, ended));
  CHECK(counter.syncs == syncs + 1);
}

// A Secondary's: once it has said that a write is stable no flush comes for it.
io::Task<void> apply_often(io::Loop& loop, LocalDisk& disk, Owner& owner, const Counter& counter, bool guesses) {
  const io::BufferRef buffer = loop.buffers().allocate(4096);
  const auto ended = [&] { return !owner.ended.empty(); };
  for (uint32_t commit = 0; commit < 20; ++commit) {
    owner.ended.clear();
    const uint32_t told_before = owner.told_stable;
    disk.write({SlotKind::Apply, 0}, buffer.bytes(), 4096 * static_cast<uint64_t>(commit), false);
    CHECK(co_await becomes_true(loop, ended));
    if (owner.told_stable > told_before) continue;
    owner.ended.clear();
    disk.flush({SlotKind::Flush, 0});
    CHECK(co_await becomes_true(loop, ended));
  }
  CHECK(owner.told_stable == (guesses ? 20 - FlushGuess::kTrusted : 0));
  CHECK(counter.syncs == (guesses ? static_cast<int>(FlushGuess::kTrusted) : 20));
  // One beside another that is not durable says nothing.
  owner.ended.clear();
  const uint32_t told_before = owner.told_stable;
  disk.write({SlotKind::Apply, 0}, buffer.bytes(), 0, false);
  disk.write({SlotKind::Apply, 1}, buffer.bytes(), 8192, false);
  CHECK(co_await becomes_true(loop, [&] { return owner.ended.size() == 2; }));
  CHECK(owner.told_stable <= told_before + 1);  // the durable one, if it was the first
}

// Beyond the limit a write fails, and with it what should have been made durable.
io::Task<void> fail_beside_another(io::Loop& loop, LocalDisk& disk, Owner& owner, const Counter& counter) {
  const io::BufferRef buffer = loop.buffers().allocate(4096);
  const auto ended = [&] { return !owner.ended.empty(); };
  const auto flush = [&]() -> io::Task<void> {
    owner.ended.clear();
    disk.flush({SlotKind::Flush, 0});
    co_await becomes_true(loop, ended);
  };
  const auto write = [&](uint64_t offset_bytes, bool durable) -> io::Task<void> {
    owner.ended.clear();
    disk.write({SlotKind::Client, 0}, buffer.bytes(), offset_bytes, durable);
    co_await becomes_true(loop, ended);
  };
  co_await flush();
  co_await write(kSize / 2, true);
  CHECK(owner.ended.front().error_errno != 0);
  co_await flush();
  CHECK(owner.ended.front().error_errno == 0);  // nothing else was there to be lost
  co_await write(0, false);
  CHECK(owner.ended.front().error_errno == 0);
  // Also the one that was asked for before that failed.
  owner.ended.clear();
  disk.write({SlotKind::Client, 0}, buffer.bytes(), kSize / 2, true);
  disk.flush({SlotKind::Flush, 0});
  co_await becomes_true(loop, [&] { return owner.ended.size() == 2; });
  const auto flush_ended = std::find_if(owner.ended.begin(), owner.ended.end(),
                                        [](const Owner::Ended& each) { return each.slot.kind == SlotKind::Flush; });
  const bool failed_first = owner.ended.front().slot.kind == SlotKind::Client;
  CHECK(flush_ended->error_errno == (failed_first ? EIO : 0));
  const int syncs = counter.syncs;
  for (int again = 0; again < 2; ++again) {
    co_await flush();
    CHECK(owner.ended.front().error_errno == EIO);
  }
  CHECK(counter.syncs == syncs);
}

ErrorKind open_error(const std::string& path, const std::string& words) {
  const std::unique_ptr<io::Loop> loop = make_loop();
  const auto file = LocalDisk::open(*loop, path, kSize);
  REQUIRE_FALSE(file);
  INFO(file.error().message);
  CHECK(file.error().message.find(path) != std::string::npos);
  CHECK(file.error().message.find(words) != std::string::npos);
  return file.error().kind;
}

}  // namespace

TEST_CASE("a zeroed range reads as zeroes, and nothing else does") {
  const Folder folder;
  check_zeroes(folder / "disk");
}

TEST_CASE(
    "a write that a flush has followed for a while is durable by itself, and its flush asks nothing of the disk") {
  WatchedDisk watched;
  const bool applies = GENERATE(false, true);
  run_to_end(*watched.loop,
             applies ? apply_often(*watched.loop, *watched.disk, watched.owner, watched.counter, watched.guesses)
                     : commit_often(*watched.loop, *watched.disk, watched.owner, watched.counter, watched.guesses));
}

TEST_CASE("no flush succeeds after a durable write that failed while others were not flushed") {
  WatchedDisk watched;
  const FileSizeLimit limit(kSize / 2);
  run_to_end(*watched.loop, fail_beside_another(*watched.loop, *watched.disk, watched.owner, watched.counter));
}

TEST_CASE("a flush is left out only when all that has ended is on stable storage") {
  FlushGuess guess;
  const auto commit = [&guess] {
    const bool durable = guess.write_starts();
    guess.write_ended(durable, false);
    const bool asks = guess.flush_starts();
    if (asks) guess.flush_ended(false);
    CHECK(asks != durable);
    return durable;
  };
  CHECK(guess.flush_starts());  // of what an earlier process wrote
  SECTION("also after one that failed") {
    guess.flush_ended(true);
    CHECK(guess.flush_starts());
    guess.flush_ended(false);
    CHECK_FALSE(guess.flush_starts());
  }
  SECTION("what ends while a flush is under way is for the next one") {
    guess.write_starts();
    guess.write_ended(false, false);
    guess.flush_ended(false);
    CHECK(guess.flush_starts());
    guess.flush_ended(false);
    CHECK_FALSE(guess.flush_starts());
  }
  SECTION("a write that failed may have happened") {
    guess.flush_ended(false);
    guess.durable_write_starts();
    guess.write_ended(true, true);
    CHECK(guess.flush_starts());
  }
  SECTION("a durable write that failed may have lost what others wrote") {
    guess.flush_ended(false);
    SECTION("what ended and is not flushed, or is on its way") {
      const bool has_ended = GENERATE(true, false);
      guess.write_starts();
      if (has_ended) guess.write_ended(false, false);
      guess.durable_write_starts();
      guess.write_ended(true, true);
      CHECK(guess.may_have_lost());
    }
    SECTION("nothing, when it was alone") {
      guess.durable_write_starts();
      guess.write_ended(true, true);
      CHECK_FALSE(guess.may_have_lost());
    }
    SECTION("and one that was not durable synced nothing") {
      guess.write_starts();
      guess.write_starts();
      guess.write_ended(false, true);
      CHECK_FALSE(guess.may_have_lost());
    }
  }
  SECTION("what was asked to be durable needs none") {
    guess.flush_ended(false);
    guess.durable_write_starts();
    guess.write_ended(true, false);
    CHECK_FALSE(guess.flush_starts());
  }
  SECTION("guessed is after some commits of one write each, until there are two") {
    guess.flush_ended(false);
    for (uint32_t i = 0; i < FlushGuess::kTrusted; ++i) CHECK_FALSE(commit());
    CHECK(commit());
    CHECK(guess.write_starts());
    CHECK_FALSE(guess.write_starts());  // beside it
    guess.write_ended(true, false);
    guess.write_ended(false, false);
    CHECK(guess.flush_starts());
    guess.flush_ended(false);
    for (uint32_t i = 0; i < FlushGuess::kTrusted; ++i) CHECK_FALSE(commit());
    CHECK(commit());
  }
  SECTION("guessed is on without flushes where they are spared, for a while") {
    guess.flush_ended(false);
    for (uint32_t i = 0; i < FlushGuess::kTrusted; ++i) CHECK_FALSE(commit());
    for (uint32_t i = 0; i < FlushGuess::kAssumed; ++i) {
      CHECK(guess.write_starts());
      guess.write_ended(true, false);
      REQUIRE(guess.is_all_stable());
      guess.flush_spared();
    }
    // A few have to show it again.
    for (uint32_t i = 0; i < FlushGuess::kTrusted; ++i) CHECK_FALSE(commit());
    CHECK(commit());
  }
  SECTION("and two writes end that as well") {
    guess.flush_ended(false);
    for (uint32_t i = 0; i < FlushGuess::kTrusted; ++i) CHECK_FALSE(commit());
    CHECK(guess.write_starts());
    CHECK_FALSE(guess.write_starts());
    guess.write_ended(true, false);
    guess.flush_spared();  // of the first, while the second is on its way
    guess.write_ended(false, false);
    CHECK_FALSE(guess.write_starts());
    guess.write_ended(false, false);
    CHECK(guess.flush_starts());
  }
  SECTION("nothing is guessed while something may be in the disk's cache") {
    guess.flush_ended(false);
    for (uint32_t i = 0; i < FlushGuess::kTrusted; ++i) commit();
    guess.durable_write_starts();
    guess.write_ended(true, true);
    CHECK_FALSE(guess.write_starts());
  }
}

TEST_CASE("where the file system makes no zeroes they are written") {
  // tmpfs knows no FALLOC_FL_ZERO_RANGE.
  std::string folder = "/dev/shm/lockstep-disk-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    WARN("not tested: there is no /dev/shm here");
    return;
  }
  check_zeroes(folder + "/disk");
  std::filesystem::remove_all(folder);
}

TEST_CASE("a disk that is missing, too small or in use is refused, and told why") {
  const Folder folder;
  const std::string path = folder / "disk";
  CHECK(open_error(path, "there is no disk") == ErrorKind::NotFound);
  write_file(path, std::vector<uint8_t>(kSize - 4096));
  CHECK(open_error(path, "too small") == ErrorKind::Invalid);
  write_file(path, std::vector<uint8_t>(kSize));
  const std::unique_ptr<io::Loop> loop = make_loop();
  const auto first = LocalDisk::open(*loop, path, kSize);
  REQUIRE(first);
  CHECK(open_error(path, "in use") == ErrorKind::Busy);
}
