#include "io/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "io/disk_observer.h"
#include "io/file_setup.h"
#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

constexpr uint64_t kImageBytes = uint64_t{4} << 20;
constexpr size_t kBlock = 4096;

std::string make_image(const TempFolder& folder, uint64_t size_bytes = kImageBytes) {
  const std::string path = folder.file("image");
  const Status made = allocate_zeroed(path, size_bytes);
  INFO((made.ok() ? std::string() : made.error().message));
  REQUIRE(made.ok());
  return path;
}

std::unique_ptr<File> open_image(Loop& loop, const std::string& path, FileOptions options = {}) {
  Result<std::unique_ptr<File>> file = File::open(loop, path, options);
  INFO((file.ok() ? std::string() : file.error().message));
  REQUIRE(file.ok());
  return std::move(file).value();
}

std::vector<uint8_t> contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Writes and reads random blocks, and compares each read with a model.
Task<void> random_writer(File& file, BufferPool& pool, unsigned seed, uint64_t first_block, uint64_t blocks,
                         std::vector<uint8_t>& model, int& mismatches, int& failures) {
  std::mt19937 random(seed);
  BufferRef buffer = pool.allocate(4 * kBlock);
  for (int step = 0; step < 100; ++step) {
    const uint64_t count = 1 + random() % 4;
    const uint64_t at = (first_block + random() % (blocks - count + 1)) * kBlock;
    const std::span<uint8_t> bytes = buffer.bytes().first(count * kBlock);
    if (random() % 2 == 0) {
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
      const bool data_sync = random() % 8 == 0;
      Status written = co_await file.write(bytes, at, data_sync);
      if (!written.ok()) ++failures;
      std::memcpy(model.data() + at, bytes.data(), bytes.size());
    } else {
      Status got = co_await file.read(bytes, at);
      if (!got.ok()) ++failures;
      if (std::memcmp(model.data() + at, bytes.data(), bytes.size()) != 0) ++mismatches;
    }
  }
  Status synced = co_await file.data_sync();
  if (!synced.ok()) ++failures;
}

Task<void> read_at(File& file, std::span<uint8_t> into, uint64_t offset_bytes, Error& error) {
  Status got = co_await file.read(into, offset_bytes);
  error = got.ok() ? Error{ErrorKind::Invalid, 0, "no error"} : got.error();
}

Task<void> write_at(File& file, std::span<const uint8_t> from, uint64_t offset_bytes, Error& error) {
  Status put = co_await file.write(from, offset_bytes);
  error = put.ok() ? Error{ErrorKind::Invalid, 0, "no error"} : put.error();
}

Task<void> zero_at(File& file, ZeroMode mode, uint64_t offset_bytes, uint64_t length_bytes, int& error_errno) {
  Status zeroed = co_await file.zero(mode, offset_bytes, length_bytes);
  error_errno = zeroed.ok() ? 0 : zeroed.error().system_errno;
}

class NotedFileOperation final : public FileOperation {
 public:
  void ended(int error_errno) noexcept override { outcomes.push_back(error_errno); }
  std::vector<int> outcomes;
};

}  // namespace

TEST_CASE("many concurrent reads and writes of one file see what was written") {
  auto loop = make_loop({256, size_t{1} << 20, GENERATE(false, true)});
  const TempFolder folder;
  const FileCaching caching = GENERATE(FileCaching::Direct, FileCaching::Buffered);
  const std::string path = make_image(folder);
  std::vector<uint8_t> model(kImageBytes);
  int mismatches = 0;
  int failures = 0;
  {
    auto file = open_image(*loop, path, {FileMode::ReadWrite, caching, false, GENERATE(true, false)});
    CHECK((caching == FileCaching::Direct || !file->is_direct()));
    constexpr uint64_t kTasks = 16;
    constexpr uint64_t kBlocksEach = kImageBytes / kBlock / kTasks;
    for (unsigned task = 0; task < kTasks; ++task) {
      loop->spawn(
          random_writer(*file, loop->buffers(), task, task * kBlocksEach, kBlocksEach, model, mismatches, failures));
    }
    loop->stop();  // disk requests are carried out while the loop stops
    loop->run();
  }
  CHECK(mismatches == 0);
  CHECK(failures == 0);
  CHECK(contents(path) == model);
}

TEST_CASE("a write that is to be durable is followed by an fdatasync where the file system may not make it so") {
  class Observer final : public DiskObserver {
   public:
    void disk_request_started(const void* /*operation*/, const DiskRequest& request) noexcept override {
      seen += request.kind == DiskRequestKind::Sync ? "sync" : request.durable ? "durable write" : "write";
    }
    void disk_request_ended(const void* /*operation*/, int error_errno) noexcept override {
      seen += error_errno == 0 ? " done; " : " failed; ";
    }
    std::string seen;
  };
  Observer observer;
  LoopOptions options;
  options.disk_observer = &observer;
  auto loop = make_loop(options);
  const TempFolder folder;
  const bool has_them = GENERATE(true, false);
  auto file = open_image(*loop, make_image(folder), {FileMode::ReadWrite, FileCaching::Direct, false, has_them});
  BufferRef buffer = loop->buffers().allocate(kBlock);
  loop->spawn([](File& disk, std::span<uint8_t> bytes) -> Task<void> {
    for (const bool data_sync : {true, false}) {
      const Status written = co_await disk.write(bytes, 0, data_sync);
      CHECK(written.ok());
    }
  }(*file, buffer.bytes()));
  loop->stop();
  loop->run();
  // Where the folder for temporary files is on one that is not known, nothing is.
  const bool durable = has_them && file->makes_writes_durable();
  CHECK(observer.seen == std::string(durable ? "durable write done; " : "write done; sync done; ") + "write done; ");
}

TEST_CASE("the kernel's alignment is taken, and memory outside of the arena works too") {
  auto loop = make_loop();
  const TempFolder folder;
  auto file = open_image(*loop, make_image(folder));
  CHECK(file->size_bytes() == kImageBytes);
  CHECK_FALSE(file->is_block_device());
  if (file->is_direct()) {
    CHECK(kBlock % file->memory_alignment_bytes() == 0);
    CHECK(kBlock % file->offset_alignment_bytes() == 0);
  } else {
    CHECK(file->offset_alignment_bytes() == 1);
  }
  const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(kBlock, kBlock), &std::free);
  const std::span<uint8_t> bytes(static_cast<uint8_t*>(memory.get()), kBlock);
  std::fill(bytes.begin(), bytes.end(), uint8_t{0x77});
  Error error;
  run_to_end(*loop, write_at(*file, bytes, kBlock, error));
  CHECK(error.message == "no error");
  std::fill(bytes.begin(), bytes.end(), uint8_t{0});
  REQUIRE(file->read_now(bytes, kBlock).ok());
  CHECK(bytes[0] == 0x77);
  CHECK(bytes[kBlock - 1] == 0x77);
}

TEST_CASE("blocking reads and writes do the same") {
  auto loop = make_loop();
  const TempFolder folder;
  auto file = open_image(*loop, make_image(folder));
  const BufferRef buffer = loop->buffers().allocate(2 * kBlock);
  std::fill(buffer.bytes().begin(), buffer.bytes().end(), uint8_t{9});
  REQUIRE(file->write_now(buffer.bytes(), kImageBytes - 2 * kBlock).ok());
  REQUIRE(file->data_sync_now().ok());
  const std::vector<uint8_t> now = contents(file->path());
  CHECK(now[kImageBytes - 2 * kBlock - 1] == 0);
  CHECK(now[kImageBytes - 2 * kBlock] == 9);
  CHECK(now[kImageBytes - 1] == 9);
  const Status past = file->read_now(buffer.bytes(), kImageBytes - kBlock);
  REQUIRE_FALSE(past.ok());
  CHECK(past.error().system_errno == EIO);
}

TEST_CASE("reading past the end is EIO, and the message names path and offset") {
  auto loop = make_loop();
  const TempFolder folder;
  auto file = open_image(*loop, make_image(folder));
  const BufferRef buffer = loop->buffers().allocate(2 * kBlock);
  Error error;
  run_to_end(*loop, read_at(*file, buffer.bytes(), kImageBytes - kBlock, error));
  CHECK(error.kind == ErrorKind::Io);
  CHECK(error.system_errno == EIO);
  CHECK(error.message.find(file->path()) != std::string::npos);
  CHECK(error.message.find(std::to_string(kImageBytes - kBlock)) != std::string::npos);
}

TEST_CASE("writing what was opened for reading comes back as the system's error") {
  auto loop = make_loop();
  const TempFolder folder;
  auto file = open_image(*loop, make_image(folder), {FileMode::ReadOnly, FileCaching::Direct, false});
  const BufferRef buffer = loop->buffers().allocate(kBlock);
  std::memset(buffer.data(), 1, kBlock);
  Error error;
  run_to_end(*loop, write_at(*file, buffer.bytes(), 0, error));
  CHECK(error.system_errno == EBADF);
}

TEST_CASE("a callback operation ends once for each start and can be started again") {
  auto loop = make_loop();
  const TempFolder folder;
  auto file = open_image(*loop, make_image(folder));
  const BufferRef buffer = loop->buffers().allocate(kBlock);
  std::memset(buffer.data(), 0x42, kBlock);
  NotedFileOperation write;
  NotedFileOperation past_end;
  NotedFileOperation zero;
  NotedFileOperation sync;
  const BufferRef into = loop->buffers().allocate(kBlock);
  file->start_write(write, buffer.bytes(), 0, true);
  file->start_read(past_end, into.bytes(), kImageBytes);
  file->start_zero(zero, ZeroMode::PunchHole, 8 * kBlock, kBlock);
  file->start_data_sync(sync);
  CHECK(write.in_flight());
  CHECK(write.outcomes.empty());
  loop->stop();
  loop->run();
  CHECK(write.outcomes == std::vector<int>{0});
  CHECK(past_end.outcomes == std::vector<int>{EIO});
  CHECK((zero.outcomes == std::vector<int>{0} || zero.outcomes == std::vector<int>{EOPNOTSUPP}));
  CHECK(sync.outcomes == std::vector<int>{0});
  file->start_read(write, into.bytes(), 0);
  loop->run();
  CHECK(write.outcomes == std::vector<int>{0, 0});
  CHECK(into.bytes()[kBlock - 1] == 0x42);
}

TEST_CASE("a zeroed range reads as zeroes, its neighbours do not, and the size stays") {
  auto loop = make_loop();
  const TempFolder folder;
  auto file = open_image(*loop, make_image(folder));
  const BufferRef buffer = loop->buffers().allocate(8 * kBlock);
  std::fill(buffer.bytes().begin(), buffer.bytes().end(), uint8_t{0xEE});
  REQUIRE(file->write_now(buffer.bytes(), 0).ok());
  const ZeroMode mode = GENERATE(ZeroMode::KeepAllocated, ZeroMode::PunchHole);
  int error_errno = -1;
  run_to_end(*loop, zero_at(*file, mode, 2 * kBlock, 3 * kBlock, error_errno));
  const std::vector<uint8_t> now = contents(file->path());
  REQUIRE(now.size() == kImageBytes);
  const uint8_t expected = error_errno == 0 ? 0 : 0xEE;
  CHECK((error_errno == 0 || error_errno == EOPNOTSUPP));
  CHECK(now[2 * kBlock - 1] == 0xEE);
  CHECK(now[2 * kBlock] == expected);
  CHECK(now[5 * kBlock - 1] == expected);
  CHECK(now[5 * kBlock] == 0xEE);
}

TEST_CASE("a locked file is Busy for the next, until the first lets go") {
  auto loop = make_loop();
  const TempFolder folder;
  const std::string path = make_image(folder, kBlock);
  auto first = open_image(*loop, path);
  auto second = open_image(*loop, path);
  REQUIRE(first->lock_exclusive().ok());
  REQUIRE(first->lock_exclusive().ok());
  const Status busy = second->lock_exclusive();
  REQUIRE_FALSE(busy.ok());
  CHECK(busy.error().kind == ErrorKind::Busy);
  CHECK(busy.error().message.find(path) != std::string::npos);
  first.reset();
  CHECK(second->lock_exclusive().ok());
}

TEST_CASE("what is no image is refused when it is opened") {
  auto loop = make_loop();
  const TempFolder folder;
  Result<std::unique_ptr<File>> missing = File::open(*loop, folder.file("none"));
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().kind == ErrorKind::NotFound);
  CHECK(missing.error().message.find(folder.file("none")) != std::string::npos);
  Result<std::unique_ptr<File>> a_folder = File::open(*loop, folder.file("."));
  REQUIRE_FALSE(a_folder.ok());
  CHECK(a_folder.error().kind == ErrorKind::Invalid);
  Result<std::unique_ptr<File>> device = File::open(*loop, "/dev/null");
  REQUIRE_FALSE(device.ok());
  CHECK(device.error().kind == ErrorKind::Invalid);
}

TEST_CASE("a file system without O_DIRECT, or with it, is opened and works") {
  auto loop = make_loop();
  const std::string path = "/dev/shm/lockstep-io-" + std::to_string(getpid());
  if (!allocate_zeroed(path, 4 * kBlock).ok()) return;  // no /dev/shm here
  {
    auto file = open_image(*loop, path);
    if (!file->is_direct()) CHECK(file->memory_alignment_bytes() == 1);
    const BufferRef buffer = loop->buffers().allocate(kBlock);
    std::memset(buffer.data(), 3, kBlock);
    Error error;
    run_to_end(*loop, write_at(*file, buffer.bytes(), kBlock, error));
    CHECK(error.message == "no error");
  }
  CHECK(contents(path)[kBlock] == 3);
  REQUIRE(unlink(path.c_str()) == 0);
}

TEST_CASE("a new size is seen after refresh_size") {
  auto loop = make_loop();
  const TempFolder folder;
  auto file = open_image(*loop, make_image(folder));
  REQUIRE(truncate(file->path().c_str(), 2 * kImageBytes) == 0);
  CHECK(file->size_bytes() == kImageBytes);
  REQUIRE(file->refresh_size().ok());
  CHECK(file->size_bytes() == 2 * kImageBytes);
}

TEST_CASE("allocate_zeroed writes every byte, tells its progress, and makes a private file") {
  const TempFolder folder;
  const std::string path = folder.file("image");
  const uint64_t size = GENERATE(0, 1, 4095, 4096, 4097, 5 * 1024 * 1024 + 512);
  uint64_t last_done = 0;
  bool grows = true;
  const Status made = allocate_zeroed(path, size, [&](uint64_t done_bytes, uint64_t total_bytes) {
    grows = grows && done_bytes > last_done && total_bytes == size;
    last_done = done_bytes;
  });
  REQUIRE(made.ok());
  CHECK(grows);
  CHECK(last_done == size);
  const std::vector<uint8_t> now = contents(path);
  CHECK(now == std::vector<uint8_t>(size));
  struct stat told {};
  REQUIRE(stat(path.c_str(), &told) == 0);
  CHECK((told.st_mode & 07777) == 0600);
  CHECK(static_cast<uint64_t>(told.st_blocks) * 512 >= size);
}

TEST_CASE("allocate_zeroed refuses what exists, what does not fit, and a folder that is not there") {
  const TempFolder folder;
  const std::string path = folder.file("image");
  std::ofstream(path) << "precious";
  const Status exists = allocate_zeroed(path, 4096);
  REQUIRE_FALSE(exists.ok());
  CHECK(exists.error().kind == ErrorKind::Refused);
  CHECK(contents(path).size() == 8);
  const Status too_large = allocate_zeroed(folder.file("huge"), uint64_t{1} << 60);
  REQUIRE_FALSE(too_large.ok());
  CHECK(too_large.error().kind == ErrorKind::Exhausted);
  CHECK(too_large.error().message.find("free") != std::string::npos);
  CHECK(access(folder.file("huge").c_str(), F_OK) != 0);
  const Status no_folder = allocate_zeroed(folder.file("none/image"), 4096);
  REQUIRE_FALSE(no_folder.ok());
  CHECK(no_folder.error().kind == ErrorKind::NotFound);
}

TEST_CASE("overwrite_with_zeroes leaves nothing of the old content and keeps the size") {
  const TempFolder folder;
  const std::string path = folder.file("image");
  std::ofstream(path, std::ios::binary) << std::string(10'000, 'x');
  REQUIRE(overwrite_with_zeroes(path).ok());
  CHECK(contents(path) == std::vector<uint8_t>(10'000));
  const Status missing = overwrite_with_zeroes(folder.file("none"));
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().kind == ErrorKind::NotFound);
}

}  // namespace lockstep::io
