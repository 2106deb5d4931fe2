// Metadata on a real file: what is made, kept over restarts, refused, and what damage and failing writes lead to.
#include "replicator/metadata_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <map>

#include "tests/unit/replicator/fixtures.h"

using namespace lockstep;
using namespace lockstep::repl;
using namespace lockstep::tests;

namespace {

MetadataExpectation expectation() {
  const MetadataParameters parameters = example_parameters();
  return {parameters.resource_name, parameters.node_name, parameters.peer_names, parameters.size_bytes};
}

class Owner final : public MetadataOwner {
 public:
  void persisted(PersistId id, int error_errno) noexcept override {
    ended.emplace_back(id, error_errno);
    if (on_persisted) on_persisted(id);
  }
  std::span<const uint64_t> bitmap_words(PeerIndex, uint32_t page) override { return pages[page]; }

  std::vector<std::pair<PersistId, int>> ended;
  std::map<uint32_t, std::array<uint64_t, kWordsPerBitmapPage>> pages;
  std::function<void(PersistId)> on_persisted;
};

// A store over a file that was just created.
struct Fixture {
  Fixture() {
    REQUIRE(create_metadata(path, example_parameters()));
    open();
  }
  void open() {
    auto opened = MetadataStore::open(*loop, path, expectation());
    REQUIRE(opened);
    store = std::move(*opened);
    owner = std::make_unique<Owner>();
    store->set_owner(*owner);
  }
  void reopen() {
    store.reset();
    open();
  }
  void run_until_idle() {
    run_to_end(*loop, wait_until_idle());
    loop = make_loop_again();
  }
  io::Task<void> wait_until_idle() {
    const bool idle = co_await becomes_true(*loop, [this] { return store->idle(); });
    CHECK(idle);
  }
  // A loop runs once; the next one serves the next store.
  std::unique_ptr<io::Loop> make_loop_again() {
    store.reset();
    return make_loop();
  }

  Folder folder;
  const std::string path = folder / "pgdata.meta";
  std::unique_ptr<io::Loop> loop = make_loop();
  std::unique_ptr<Owner> owner;
  std::unique_ptr<MetadataStore> store;
};

ErrorKind open_error(const std::string& path, const MetadataExpectation& expected, const std::string& words) {
  const std::unique_ptr<io::Loop> loop = make_loop();
  const auto opened = MetadataStore::open(*loop, path, expected);
  REQUIRE_FALSE(opened);
  INFO(opened.error().message);
  CHECK(opened.error().message.find(path) != std::string::npos);
  CHECK(opened.error().message.find(words) != std::string::npos);
  CHECK(opened.error().message.find('\n') == std::string::npos);
  return opened.error().kind;
}

void flip(const std::string& path, size_t offset) {
  std::vector<uint8_t> bytes = read_file(path);
  REQUIRE(offset < bytes.size());
  bytes[offset] ^= 0x10;
  write_file(path, bytes);
}

}  // namespace

TEST_CASE("metadata that was just created is that of a zeroed disk") {
  Fixture fixture;
  SuperblockImage of_zeroes;
  of_zeroes.life.birth = fixture.store->superblock().life.birth;
  CHECK(of_zeroes.life.birth != 0);
  CHECK(fixture.store->superblock() == of_zeroes);
  CHECK(fixture.store->peer_names() == std::vector<std::string>{"beta"});
  CHECK(fixture.store->activity_log_slot_count() == 128);
  CHECK(fixture.store->activity_log_valid());
  CHECK(std::all_of(fixture.store->activity_log().begin(), fixture.store->activity_log().end(),
                    [](uint32_t extent) { return extent == kNoExtent; }));
  uint32_t pages = 0;
  REQUIRE(fixture.store->load_bitmaps([&](PeerIndex peer, uint32_t page, std::span<const uint64_t> words) {
    CHECK(peer == 0);
    CHECK(page == pages++);
    CHECK(std::all_of(words.begin(), words.end(), [](uint64_t word) { return word == 0; }));
  }));
  CHECK(pages == 3);  // 256 MiB in pages of 124 MiB
  CHECK(fixture.store->damaged_pages() == 0);
}

TEST_CASE("metadata of existing data is UpToDate and has the generation that it was given") {
  const Folder folder;
  const std::unique_ptr<io::Loop> loop = make_loop();
  MetadataParameters parameters = example_parameters();
  parameters.existing_data = true;
  CHECK_FALSE(create_metadata(folder / "m", parameters));  // without a generation
  CHECK_FALSE(std::filesystem::exists(folder / "m"));
  parameters.generation = {1, 2};
  REQUIRE(create_metadata(folder / "m", parameters));
  const auto store = MetadataStore::open(*loop, folder / "m", expectation());
  REQUIRE(store);
  CHECK((*store)->superblock().current == Generation{1, 2});
  CHECK((*store)->superblock().disk_state == DiskState::UpToDate);
  const auto found = find_metadata(folder / "m");
  REQUIRE(found);
  CHECK(found->node_name == "alpha");
}

TEST_CASE("what was persisted is there after a restart, and is told in order") {
  Fixture fixture;
  PersistSuperblock superblock{1, {}};
  superblock.image.current = {5, 6};
  superblock.image.disk_state = DiskState::UpToDate;
  superblock.image.primary = true;
  fixture.owner->pages[1].fill(0xF0F0);
  fixture.owner->pages[2].fill(0x0F0F);
  PersistActivityLog log{4, 2, {}};
  log.updates[0] = {3, 17};
  log.updates[1] = {127, 63};
  fixture.store->persist(superblock);
  fixture.store->persist(PersistBitmapPages{2, 0, 1, 2});
  superblock.id = 3;
  superblock.image.forced = true;
  fixture.store->persist(superblock);
  fixture.store->persist(log);
  CHECK(fixture.owner->ended.empty());  // never from inside persist()
  CHECK_FALSE(fixture.store->idle());
  fixture.run_until_idle();
  CHECK(fixture.owner->ended == std::vector<std::pair<PersistId, int>>{{1, 0}, {2, 0}, {3, 0}, {4, 0}});

  fixture.open();
  CHECK(fixture.store->superblock() == superblock.image);
  CHECK(fixture.store->activity_log()[3] == 17);
  CHECK(fixture.store->activity_log()[127] == 63);
  CHECK(fixture.store->activity_log()[4] == kNoExtent);
  REQUIRE(fixture.store->load_bitmaps([](PeerIndex, uint32_t page, std::span<const uint64_t> words) {
    CHECK(words[100] == (page == 0 ? 0U : page == 1 ? 0xF0F0U : 0x0F0FU));
  }));

  fixture.store->persist(PersistActivityLogEmpty{1});
  fixture.run_until_idle();
  fixture.open();
  CHECK(fixture.store->activity_log_valid());
  CHECK(fixture.store->activity_log()[3] == kNoExtent);
}

TEST_CASE("a record tells only of the transactions before it, whatever was asked for behind it") {
  // The context of a record comes from the store's own table: an extent whose bitmap page is not written yet must not
  // leave the log early.
  Fixture fixture;
  PersistActivityLog first{1, 1, {}};
  first.updates[0] = {0, 10};
  PersistActivityLog second{2, 1, {}};
  second.updates[0] = {0, 11};
  std::vector<uint8_t> after_first;
  fixture.owner->on_persisted = [&](PersistId id) {
    if (id == 1) after_first = read_file(fixture.path);
  };
  fixture.store->persist(first);
  fixture.store->persist(second);
  fixture.run_until_idle();
  const std::string copy = fixture.folder / "copy.meta";
  write_file(copy, after_first);
  const auto then = MetadataStore::open(*fixture.loop, copy, expectation());
  REQUIRE(then);
  CHECK((*then)->activity_log()[0] == 10);
}

TEST_CASE("many transactions, over the ring's end, with restarts in between") {
  Fixture fixture;
  std::vector<uint32_t> table(128, kNoExtent);
  uint32_t next_extent = 0;
  for (int run = 0; run < 3; ++run) {
    PersistId id = 0;
    for (int i = 0; i < 150; ++i) {
      PersistActivityLog log{++id, 2, {}};
      for (size_t update = 0; update < 2; ++update) {
        log.updates[update] = {next_extent % 128, next_extent % 64};
        table[next_extent % 128] = next_extent % 64;
        ++next_extent;
      }
      fixture.store->persist(log);
    }
    fixture.run_until_idle();
    fixture.open();
    REQUIRE(fixture.store->activity_log_valid());
    CHECK(std::equal(table.begin(), table.end(), fixture.store->activity_log().begin()));
  }
}

TEST_CASE("metadata that is not this node's is refused, and told why") {
  const Folder folder;
  const std::string path = folder / "m";
  CHECK(open_error(path, expectation(), "run 'lockstep create pgdata'") == ErrorKind::NotFound);
  write_file(path, std::vector<uint8_t>(100));
  CHECK(open_error(path, expectation(), "too short") == ErrorKind::Invalid);
  write_file(path, std::vector<uint8_t>(1 << 20));
  CHECK(open_error(path, expectation(), "no Lockstep metadata") == ErrorKind::Invalid);
  REQUIRE(create_metadata(path, example_parameters()));

  MetadataExpectation other = expectation();
  other.resource_name = "other";
  CHECK(open_error(path, other, "resource pgdata") == ErrorKind::Invalid);
  other = expectation();
  other.node_name = "gamma";
  CHECK(open_error(path, other, "node alpha") == ErrorKind::Invalid);
  other = expectation();
  other.size_bytes += 4096;
  CHECK(open_error(path, other, "size 268435456") == ErrorKind::Invalid);
  other = expectation();
  other.peer_names = {"beta", "gamma"};
  CHECK(open_error(path, other, "peers beta") == ErrorKind::Invalid);

  std::vector<uint8_t> bytes = read_file(path);
  std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + 100'000);
  write_file(path, cut);
  CHECK(open_error(path, expectation(), "cut off") == ErrorKind::Corrupt);
  write_file(path, bytes);
  flip(path, 50);
  flip(path, 4096 + 50);
  CHECK(open_error(path, expectation(), "damaged") == ErrorKind::Corrupt);
}

TEST_CASE("metadata in use is busy, for another daemon and for create") {
  Fixture fixture;
  CHECK(open_error(fixture.path, expectation(), "in use") == ErrorKind::Busy);
  const Status created = create_metadata(fixture.path, example_parameters());
  REQUIRE_FALSE(created);
  CHECK(created.error().kind == ErrorKind::Busy);
  CHECK_FALSE(std::filesystem::exists(fixture.path + ".new"));
}

TEST_CASE("one damaged or torn superblock is mended from the other") {
  for (const size_t copy : {size_t{0}, size_t{1}}) {
    Fixture fixture;
    PersistSuperblock superblock{1, {}};
    superblock.image.current = {7, 7};
    fixture.store->persist(superblock);
    fixture.run_until_idle();
    flip(fixture.path, copy * kMetadataUnitBytes + 800);
    fixture.open();
    CHECK(fixture.store->superblock().current == Generation{7, 7});
    fixture.store.reset();
    const auto summary = summarize_metadata(fixture.path);
    REQUIRE(summary);
    CHECK(summary->superblock_copies_agree);
  }
}

TEST_CASE("a crash between the two superblocks leaves the old state or the new one, and both copies are mended") {
  Fixture fixture;
  const std::vector<uint8_t> old_bytes = read_file(fixture.path);
  PersistSuperblock superblock{1, {}};
  superblock.image.current = {8, 8};
  fixture.store->persist(superblock);
  fixture.run_until_idle();
  const std::vector<uint8_t> new_bytes = read_file(fixture.path);
  // The first copy is new up to some sector, the second is old.
  for (size_t sectors = 0; sectors <= 8; ++sectors) {
    std::vector<uint8_t> torn = old_bytes;
    std::copy_n(new_bytes.begin(), sectors * kSectorBytes, torn.begin());
    write_file(fixture.path, torn);
    fixture.open();
    const Generation found = fixture.store->superblock().current;
    CHECK((found == Generation{} || found == Generation{8, 8}));
    if (sectors == 8) CHECK(found == Generation{8, 8});
    fixture.store.reset();
    const auto summary = summarize_metadata(fixture.path);
    REQUIRE(summary);
    CHECK(summary->superblock_copies_agree);
    CHECK(summary->superblock.image.current == found);
  }
}

TEST_CASE("a damaged bitmap page is all ones, the others are as they were") {
  Fixture fixture;
  const uint64_t bitmap = 64 * kKiB + kActivityLogRecords * kMetadataUnitBytes;
  fixture.store.reset();
  flip(fixture.path, bitmap + kMetadataUnitBytes + 2000);
  fixture.open();
  REQUIRE(fixture.store->load_bitmaps([](PeerIndex, uint32_t page, std::span<const uint64_t> words) {
    CHECK(words[0] == (page == 1 ? UINT64_MAX : 0));
    CHECK(words[495] == (page == 1 ? UINT64_MAX : 0));
  }));
  CHECK(fixture.store->damaged_pages() == 1);
}

TEST_CASE("a damaged log is invalid until it is made anew") {
  Fixture fixture;
  fixture.store.reset();
  flip(fixture.path, 64 * kKiB + 17 * kMetadataUnitBytes + 3);
  fixture.open();
  CHECK_FALSE(fixture.store->activity_log_valid());
  fixture.reopen();
  CHECK_FALSE(fixture.store->activity_log_valid());
  fixture.store->persist(PersistActivityLogEmpty{1});
  PersistActivityLog log{2, 1, {}};
  log.updates[0] = {9, 9};
  fixture.store->persist(log);
  fixture.run_until_idle();
  CHECK(fixture.owner->ended == std::vector<std::pair<PersistId, int>>{{1, 0}, {2, 0}});
  fixture.open();
  CHECK(fixture.store->activity_log_valid());
  CHECK(fixture.store->activity_log()[9] == 9);
}

TEST_CASE("after a failed write every later persist fails, and none is tried") {
  Fixture fixture;
  // The store's descriptor becomes one that takes no byte.
  int store_fd = -1;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(entry.path(), ignored) == std::filesystem::canonical(fixture.path)) {
      store_fd = std::stoi(entry.path().filename().string());
    }
  }
  REQUIRE(store_fd >= 0);
  const int full = ::open("/dev/full", O_RDWR | O_CLOEXEC);
  REQUIRE(full >= 0);
  const int saved = ::dup(store_fd);
  REQUIRE(::dup2(full, store_fd) == store_fd);
  PersistSuperblock superblock{1, {}};
  superblock.image.current = {9, 9};
  fixture.owner->on_persisted = [&](PersistId id) {
    if (id == 2) ::dup2(saved, store_fd);  // a disk that has come back proves nothing
    if (id == 2) fixture.store->persist(PersistSuperblock{3, superblock.image});
  };
  fixture.store->persist(superblock);
  fixture.store->persist(PersistActivityLogEmpty{2});
  fixture.run_until_idle();
  ::close(full);
  ::close(saved);
  CHECK(fixture.owner->ended == std::vector<std::pair<PersistId, int>>{{1, ENOSPC}, {2, ENOSPC}, {3, ENOSPC}});
  fixture.open();
  CHECK(fixture.store->superblock().current == Generation{});
}

TEST_CASE("create replaces old metadata at once, or leaves it as it was") {
  const Folder folder;
  const std::string path = folder / "m";
  REQUIRE(create_metadata(path, example_parameters()));
  const std::vector<uint8_t> before = read_file(path);
  MetadataParameters wrong = example_parameters();
  wrong.size_bytes = 1000;
  CHECK_FALSE(create_metadata(path, wrong));
  wrong = example_parameters();
  wrong.activity_log_slots = 0;
  CHECK_FALSE(create_metadata(path, wrong));
  CHECK_FALSE(create_metadata(folder / "missing/m", example_parameters()));
  CHECK(read_file(path) == before);
  MetadataParameters other = example_parameters();
  other.node_name = "beta";
  other.peer_names = {"alpha"};
  REQUIRE(create_metadata(path, other));
  CHECK(find_metadata(path)->node_name == "beta");
  CHECK(read_file(path).size() == metadata_size_bytes(other));
}

TEST_CASE("whatever single bit is flipped, metadata is what it was, or counts as different everywhere, or is refused") {
  // One page, one log record and one superblock with content, then each bit of a sample of every unit.
  Fixture fixture;
  PersistSuperblock superblock{1, {}};
  superblock.image.current = {7, 7};
  superblock.image.life = fixture.store->superblock().life;
  fixture.owner->pages[1].fill(0xF0F0);
  PersistActivityLog log{3, 1, {}};
  log.updates[0] = {3, 17};
  fixture.store->persist(superblock);
  fixture.store->persist(PersistBitmapPages{2, 0, 1, 1});
  fixture.store->persist(log);
  fixture.run_until_idle();
  const std::vector<uint8_t> good = read_file(fixture.path);
  const std::string damaged = fixture.folder / "damaged.meta";
  write_file(damaged, good);
  const std::unique_ptr<io::Loop> loop = make_loop();
  const int fd = ::open(damaged.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  uint64_t as_before = 0, log_damaged = 0, page_damaged = 0;
  const auto look_at = [&](size_t offset, int bit) {
    const auto byte = static_cast<uint8_t>(good[offset] ^ (1U << bit));
    REQUIRE(::pwrite(fd, &byte, 1, static_cast<off_t>(offset)) == 1);
    const auto store = MetadataStore::open(*loop, damaged, expectation());
    REQUIRE(store);  // the other superblock is good
    CHECK((*store)->superblock().current == Generation{7, 7});
    const bool log_is_good = (*store)->activity_log_valid();
    if (log_is_good) CHECK((*store)->activity_log()[3] == 17);
    REQUIRE((*store)->load_bitmaps([&](PeerIndex, uint32_t page, std::span<const uint64_t> words) {
      const uint64_t wanted = page == 1 ? 0xF0F0 : 0;
      if (words[7] != wanted) CHECK(words[7] == UINT64_MAX);
    }));
    CHECK((*store)->damaged_pages() <= 1);
    CHECK((log_is_good || (*store)->damaged_pages() == 0));
    ++(log_is_good ? (*store)->damaged_pages() == 1 ? page_damaged : as_before : log_damaged);
    // What open() has mended is mended; the rest is put back.
    REQUIRE(::pwrite(fd, good.data() + offset, 1, static_cast<off_t>(offset)) == 1);
  };
  const size_t bitmap = 64 * kKiB + kActivityLogRecords * kMetadataUnitBytes;
  for (const size_t unit :
       {size_t{0}, kMetadataUnitBytes, size_t{64 * kKiB} + kMetadataUnitBytes, bitmap, bitmap + kMetadataUnitBytes}) {
    for (size_t byte = 0; byte < kMetadataUnitBytes; byte += byte < 64 ? 1 : 61) {
      for (int bit = 0; bit < 8; bit += byte < 64 ? 1 : 3) look_at(unit + byte, bit);
    }
  }
  ::close(fd);
  CHECK(as_before > 0);
  CHECK(log_damaged > 0);
  CHECK(page_damaged > 0);
}

TEST_CASE("metadata of a file that was cut at any unit is refused, and dumped as far as it goes") {
  Fixture fixture;
  fixture.store.reset();
  const std::vector<uint8_t> good = read_file(fixture.path);
  const std::string cut = fixture.folder / "cut.meta";
  for (size_t length = 0; length < good.size(); length += 9 * kMetadataUnitBytes + 512) {
    write_file(cut, {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)});
    const auto opened = MetadataStore::open(*fixture.loop, cut, expectation());
    REQUIRE_FALSE(opened);
    CHECK((opened.error().kind == ErrorKind::Invalid || opened.error().kind == ErrorKind::Corrupt));
    const auto summary = summarize_metadata(cut);
    CHECK(summary.ok() == (length >= kSuperblockCopies * kMetadataUnitBytes));
    if (!summary.ok()) continue;
    const size_t pages_end = 64 * kKiB + (kActivityLogRecords + 3) * kMetadataUnitBytes;  // then the stride's rest
    CHECK(summary->cut_off == (length < pages_end));
    CHECK((summary->bitmaps[0].damaged_pages > 0) == (length < pages_end));
    CHECK(summary->superblock.node_name == "alpha");
  }
}

TEST_CASE("a summary names what is damaged") {
  Fixture fixture;
  fixture.store.reset();
  const uint64_t bitmap = 64 * kKiB + kActivityLogRecords * kMetadataUnitBytes;
  flip(fixture.path, 800);
  flip(fixture.path, 64 * kKiB + 17 * kMetadataUnitBytes + 3);
  flip(fixture.path, bitmap + kMetadataUnitBytes + 2000);
  const auto summary = summarize_metadata(fixture.path);
  REQUIRE(summary);
  CHECK_FALSE(summary->copies[0].valid);
  CHECK(summary->copies[1].valid);
  CHECK_FALSE(summary->activity_log_valid);
  CHECK(summary->bitmaps[0].first_damaged == std::vector<uint32_t>{1});
}
