// A loss of power at any moment while metadata grows: the old size with everything of it, or the new one with as much.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <string>

#include "replicator/metadata_setup.h"
#include "replicator/metadata_store.h"
#include "tests/crash/disk_model.h"

using namespace lockstep;
using namespace lockstep::repl;

namespace {

std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

struct Folder {
  Folder() {
    path = std::string(std::filesystem::exists("/dev/shm") ? "/dev/shm" : "/tmp") + "/lockstep-growth-XXXXXX";
    REQUIRE(::mkdtemp(path.data()) != nullptr);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

using Words = std::array<uint64_t, kWordsPerBitmapPage>;

// Bits of their own on each page of the first size; none beyond.
Words words_of(PeerIndex peer, uint32_t page, uint32_t old_pages) {
  Words words{};
  if (page < old_pages) words.fill(uint64_t{peer} * 1000 + page + 1);
  return words;
}

class Owner final : public MetadataOwner {
 public:
  Owner(io::Loop& loop, size_t persists, uint32_t old_pages) : loop_(loop), left_(persists), old_pages_(old_pages) {}
  void persisted(PersistId, int error_errno) noexcept override {
    failed_ = failed_ || error_errno != 0;
    if (--left_ == 0) loop_.stop();
  }
  std::span<const uint64_t> bitmap_words(PeerIndex peer, uint32_t page) override {
    words_ = words_of(peer, page, old_pages_);
    return words_;
  }
  bool failed() const { return failed_; }

 private:
  io::Loop& loop_;
  size_t left_;
  uint32_t old_pages_;
  Words words_{};
  bool failed_ = false;
};

// Looks at every state after each request.
class Examiner final : public io::DiskObserver {
 public:
  std::function<void()> examine;
  std::unique_ptr<crash::MetadataModel> model;

  void disk_request_started(const void* operation, const io::DiskRequest& request) noexcept override {
    if (!model) return;
    model->started(operation, request);
    examine();
  }
  void disk_request_ended(const void* operation, int error_errno) noexcept override {
    if (!model) return;
    model->ended(operation, error_errno);
    examine();
  }
};

std::unique_ptr<io::Loop> make_loop(io::DiskObserver* observer) {
  io::LoopOptions options;
  options.ring_entries = 8;
  options.buffer_arena_bytes = 64 * kKiB;
  options.plain_ring = true;
  options.disk_observer = observer;
  auto loop = io::Loop::create(options);
  REQUIRE(loop.ok());
  return std::move(*loop);
}

uint32_t pages_of(uint64_t size_bytes) {
  return static_cast<uint32_t>(divide_up(size_bytes, kBlocksPerBitmapPage * kBlockBytes));
}

// Grows the metadata at `path` and returns how many states were looked at.
uint64_t grow_and_examine(const Folder& folder, const MetadataExpectation& expectation, uint64_t old_bytes,
                          uint64_t new_bytes, uint64_t first_bytes) {
  const std::string path = folder.path + "/m", copy = folder.path + "/state";
  Examiner examiner;
  const std::unique_ptr<io::Loop> loop = make_loop(&examiner);
  const std::unique_ptr<io::Loop> second_loop = make_loop(nullptr);
  auto opened = MetadataStore::open(*loop, path, expectation);
  REQUIRE(opened.ok());
  MetadataStore& store = **opened;
  REQUIRE(store.size_bytes() == old_bytes);
  Owner owner(*loop, 1, pages_of(first_bytes));
  store.set_owner(owner);
  REQUIRE(store.prepare_size(new_bytes).ok());
  PersistSize persist{1, new_bytes, store.superblock()};
  persist.image.current = {new_bytes, 1};
  const Generation before = store.superblock().current;

  std::mt19937_64 random(old_bytes ^ new_bytes);
  uint64_t states = 0, grown = 0, not_grown = 0;
  std::string offence;
  const auto look = [&] {
    const auto open_sectors = examiner.model->open_sectors();
    for (const auto& state : crash::MetadataModel::states(open_sectors.size(), 64, random)) {
      std::vector<uint8_t> bytes = examiner.model->stable();
      for (size_t i = 0; i < state.size(); ++i) {
        if (!state[i]) continue;
        std::copy(open_sectors[i].bytes.begin(), open_sectors[i].bytes.end(),
                  bytes.begin() + static_cast<std::ptrdiff_t>(open_sectors[i].offset_bytes));
      }
      ++states;
      write_file(copy, bytes);
      const auto left = MetadataStore::open(*second_loop, copy, expectation);
      if (!left) {
        offence = left.error().message;
        return;
      }
      const uint64_t size = (*left)->size_bytes();
      const bool is_new = size == new_bytes;
      ++(is_new ? grown : not_grown);
      if (!is_new && size != old_bytes) offence = "a third size";
      if ((*left)->superblock().current != (is_new ? persist.image.current : before)) offence = "a mix of two states";
      if (!(*left)->activity_log_valid() || (*left)->activity_log()[2] != 7) offence = "another activity log";
      uint32_t pages = 0;
      const Status loaded = (*left)->load_bitmaps([&](PeerIndex peer, uint32_t page, std::span<const uint64_t> words) {
        const Words wanted = words_of(peer, page, pages_of(first_bytes));
        if (!std::equal(words.begin(), words.end(), wanted.begin())) offence = "another bitmap";
        ++pages;
      });
      if (!loaded || pages != pages_of(size) * expectation.peer_names.size()) offence = "pages are missing";
      if (!offence.empty()) return;
    }
  };
  examiner.examine = [&] {
    if (offence.empty()) look();
  };
  examiner.model = std::make_unique<crash::MetadataModel>(read_file(path));
  store.persist(persist);
  loop->run();
  CHECK_FALSE(owner.failed());
  CHECK(offence == "");
  CHECK(store.size_bytes() == new_bytes);
  CHECK(grown > 0);
  CHECK(not_grown > 0);
  return states;
}

}  // namespace

TEST_CASE("metadata that grows is the old or the new one after a loss of power at any moment") {
  uint64_t states = 0;
  for (const uint32_t peers : {0U, 1U, 3U}) {
    const Folder folder;
    MetadataParameters parameters;
    parameters.resource_name = "pgdata";
    parameters.node_name = "alpha";
    for (uint32_t peer = 0; peer < peers; ++peer) parameters.peer_names.push_back("peer" + std::to_string(peer));
    parameters.size_bytes = 256 * kMiB;
    parameters.activity_log_slots = 18;
    REQUIRE(create_metadata(folder.path + "/m", parameters).ok());
    const MetadataExpectation expectation{"pgdata", "alpha", parameters.peer_names, 0};
    {
      const std::unique_ptr<io::Loop> loop = make_loop(nullptr);
      auto store = MetadataStore::open(*loop, folder.path + "/m", expectation);
      REQUIRE(store.ok());
      Owner owner(*loop, peers + 1, pages_of(parameters.size_bytes));
      (*store)->set_owner(owner);
      PersistId id = 0;
      for (PeerIndex peer = 0; peer < peers; ++peer) {
        (*store)->persist(PersistBitmapPages{++id, peer, 0, pages_of(parameters.size_bytes)});
      }
      PersistActivityLog log{++id, 1, {}};
      log.updates[0] = {2, 7};
      (*store)->persist(log);
      loop->run();
    }
    // Within the stride, beyond it, and far beyond: with several peers the bitmaps move, and move back.
    uint64_t size = parameters.size_bytes;
    for (const uint64_t next : {512 * kMiB, 512 * kMiB + 4 * kKiB, 3 * kGiB, 40 * kGiB, 41 * kGiB}) {
      states += grow_and_examine(folder, expectation, size, next, parameters.size_bytes);
      size = next;
    }
  }
  CHECK(states > 1000);
}

TEST_CASE("a grown layout keeps the old bitmaps apart from new ones at another place") {
  for (uint32_t peers = 0; peers <= kMaximumPeers; ++peers) {
    MetadataLayout layout = metadata_layout(64 * kMiB, peers);
    for (const uint64_t size : {100 * kMiB, 2 * kGiB, 3 * kGiB, 100 * kGiB, 101 * kGiB, 900 * kGiB, 4096 * kGiB}) {
      const MetadataLayout grown = grown_layout(layout, size, peers);
      CHECK(grown.pages_per_bitmap == pages_of(size));
      CHECK(grown.bitmap_stride_bytes >= uint64_t{grown.pages_per_bitmap} * kMetadataUnitBytes);
      const ByteRange before{layout.bitmap_offset_bytes, peers * layout.bitmap_stride_bytes};
      const ByteRange after{grown.bitmap_offset_bytes, peers * grown.bitmap_stride_bytes};
      const bool in_place = grown.bitmap_offset_bytes == layout.bitmap_offset_bytes &&
                            (peers <= 1 || grown.bitmap_stride_bytes == layout.bitmap_stride_bytes);
      CHECK((in_place || !before.overlaps(after)));
      CHECK(after.offset_bytes >= layout.activity_log_offset_bytes + kActivityLogRecords * kMetadataUnitBytes);
      layout = grown;
    }
  }
}
