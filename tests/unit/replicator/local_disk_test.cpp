// The local disk: what cannot be one, and zeroes on file systems that know how to make them and on one that does not.
#include "replicator/local_disk.h"

#include <algorithm>
#include <vector>

#include "io/buffer_pool.h"
#include "tests/unit/replicator/fixtures.h"

using namespace lockstep;
using namespace lockstep::repl;
using namespace lockstep::tests;

namespace {

constexpr uint64_t kSize = 8 * kMiB;

class Owner final : public LocalDiskOwner {
 public:
  void local_io_ended(SlotRef slot, int error_errno) noexcept override { ended.push_back({slot, error_errno}); }
  struct Ended {
    SlotRef slot;
    int error_errno;
    friend bool operator==(const Ended&, const Ended&) = default;
  };
  std::vector<Ended> ended;
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
    LocalDisk disk(std::move(*file), {4, 4, 1}, owner);
    run_to_end(*loop, zero_some(*loop, disk, owner));
  }
  std::vector<uint8_t> expected(kSize, 0xAB);
  std::fill_n(expected.begin() + 4096, 3 * kMiB, uint8_t{0});
  std::fill_n(expected.begin() + 5 * kMiB, 4096, uint8_t{0});
  CHECK(read_file(path) == expected);
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
