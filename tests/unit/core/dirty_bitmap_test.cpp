// The dirty bitmap against the plainest thing that could do its work: a vector of bools.
#include "replicator/core/dirty_bitmap.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <vector>

namespace lockstep::repl {
namespace {

class Model {
 public:
  explicit Model(uint64_t blocks) : dirty_(blocks, false), saved_(blocks, false) {}

  void set(const ByteRange& range) {
    for (uint64_t block = 0; block < dirty_.size(); ++block) {
      if (range.overlaps({block * kBlockBytes, kBlockBytes}) && !range.empty()) dirty_[block] = true;
    }
  }
  void clear(const ByteRange& range) {
    for (uint64_t block = 0; block < dirty_.size(); ++block) {
      if (range.contains({block * kBlockBytes, kBlockBytes})) dirty_[block] = false;
    }
  }
  void save(uint32_t page) {
    for (uint64_t block = first(page); block < end(page); ++block) saved_[block] = dirty_[block];
  }
  void load(uint32_t page, const std::vector<uint64_t>& words) {
    for (uint64_t block = first(page); block < end(page); ++block) {
      const uint64_t bit = block - first(page);
      dirty_[block] = saved_[block] = (words[bit / 64] >> (bit % 64) & 1) != 0;
    }
  }
  uint64_t count() const { return static_cast<uint64_t>(std::count(dirty_.begin(), dirty_.end(), true)); }
  bool is_dirty(uint64_t block) const { return dirty_[block]; }
  DirtyBitmap::Run next_run(uint64_t from, uint64_t limit) const {
    while (from < dirty_.size() && !dirty_[from]) ++from;
    uint64_t count = 0;
    while (from + count < dirty_.size() && count < limit && dirty_[from + count]) ++count;
    return count == 0 ? DirtyBitmap::Run{} : DirtyBitmap::Run{from, count};
  }
  bool lacks_bits_on_disk(uint32_t page) const {
    for (uint64_t block = first(page); block < end(page); ++block) {
      if (dirty_[block] && !saved_[block]) return true;
    }
    return false;
  }
  bool differs_from_disk(uint32_t page) const {
    for (uint64_t block = first(page); block < end(page); ++block) {
      if (dirty_[block] != saved_[block]) return true;
    }
    return false;
  }

 private:
  static uint64_t first(uint32_t page) { return uint64_t{page} * kBlocksPerBitmapPage; }
  uint64_t end(uint32_t page) const { return std::min<uint64_t>(dirty_.size(), first(page + 1)); }

  std::vector<bool> dirty_, saved_;
};

void require_equal(const DirtyBitmap& bitmap, const Model& model) {
  REQUIRE(bitmap.dirty_blocks() == model.count());
  uint64_t different = 0;
  for (uint64_t block = 0; block < bitmap.block_count(); ++block) {
    if (bitmap.is_dirty(block) != model.is_dirty(block)) ++different;
  }
  REQUIRE(different == 0);
}

}  // namespace

TEST_CASE("a dirty bitmap does what a vector of bools does") {
  const uint64_t blocks =
      GENERATE(1, 63, 64, 65, 4000, kBlocksPerBitmapPage, kBlocksPerBitmapPage + 5, 2 * kBlocksPerBitmapPage + 130);
  CAPTURE(blocks);
  std::mt19937_64 random(blocks);
  const uint64_t size_bytes = blocks * kBlockBytes;
  DirtyBitmap bitmap(size_bytes);
  Model model(blocks);
  REQUIRE(bitmap.block_count() == blocks);
  REQUIRE(bitmap.page_count() == divide_up(blocks, kBlocksPerBitmapPage));

  // Bytes, not blocks: half a block dirties a whole one, and half a block cleans none.
  const auto any_range = [&] {
    const uint64_t offset = random() % (size_bytes / 512) * 512;
    const uint64_t longest = random() % 4 == 0 ? size_bytes : 40 * kBlockBytes;
    const uint64_t length = std::min(size_bytes - offset, random() % (longest / 512 + 1) * 512);
    return ByteRange{offset, length};
  };
  for (int step = 0; step < 400; ++step) {
    const auto page = static_cast<uint32_t>(random() % bitmap.page_count());
    switch (random() % 12) {
      case 0:
        bitmap.mark_saved(page);
        model.save(page);
        REQUIRE_FALSE(bitmap.differs_from_disk(page));
        break;
      case 1:
      case 2:
      case 3:
      case 4: {
        const ByteRange range = any_range();
        bitmap.clear(range);
        model.clear(range);
        break;
      }
      case 5: {
        const uint64_t first = random() % blocks;
        const uint64_t count = random() % (blocks - first + 1);
        bitmap.set_blocks(first, count);
        model.set({first * kBlockBytes, count * kBlockBytes});
        break;
      }
      default: {
        const ByteRange range = any_range();
        bitmap.set(range);
        model.set(range);
        break;
      }
    }
    REQUIRE(bitmap.dirty_blocks() == model.count());
    const uint64_t from = random() % (blocks + 2);
    const uint64_t limit = random() % 3 == 0 ? blocks : 1 + random() % 200;
    const auto run = bitmap.next_run(from, limit);
    const auto expected = model.next_run(from, limit);
    REQUIRE(run.first_block == expected.first_block);
    REQUIRE(run.block_count == expected.block_count);
    for (uint32_t each = 0; each < bitmap.page_count(); ++each) {
      // It may call a page different that has become equal again, never the other way round.
      if (model.lacks_bits_on_disk(each)) REQUIRE(bitmap.lacks_bits_on_disk(each));
      if (model.differs_from_disk(each)) REQUIRE(bitmap.differs_from_disk(each));
    }
    if (step % 40 == 0) require_equal(bitmap, model);
  }
  require_equal(bitmap, model);

  bitmap.set_all();
  REQUIRE(bitmap.dirty_blocks() == blocks);
  REQUIRE(bitmap.next_run(0, UINT64_MAX).block_count == blocks);
  bitmap.clear_all();
  REQUIRE(bitmap.dirty_blocks() == 0);
  REQUIRE(bitmap.next_run(0, blocks).block_count == 0);
}

TEST_CASE("runs, taken one after the other, are all that is dirty, each once") {
  std::mt19937_64 random(7);
  const uint64_t blocks = kBlocksPerBitmapPage + 777;
  DirtyBitmap bitmap(blocks * kBlockBytes);
  for (int i = 0; i < 300; ++i) {
    const uint64_t first = random() % blocks;
    bitmap.set_blocks(first, std::min<uint64_t>(blocks - first, 1 + random() % 150));
  }
  const uint64_t limit = GENERATE(1, 7, 64, 100'000);
  uint64_t total = 0;
  uint64_t cursor = 0;
  for (;;) {
    const auto run = bitmap.next_run(cursor, limit);
    if (run.block_count == 0) break;
    REQUIRE(run.first_block >= cursor);
    REQUIRE(run.block_count <= limit);
    total += run.block_count;
    cursor = run.first_block + run.block_count;
  }
  CHECK(total == bitmap.dirty_blocks());
}

TEST_CASE("a page that is loaded counts as saved, and nothing lies behind the device's end") {
  const uint64_t blocks = kBlocksPerBitmapPage + 70;  // the last page ends within its second word
  DirtyBitmap bitmap(blocks * kBlockBytes);
  Model model(blocks);
  bitmap.set_blocks(3, 9);
  bitmap.mark_saved(0);
  model.set({3 * kBlockBytes, 9 * kBlockBytes});
  model.save(0);

  const std::vector<uint64_t> ones(kWordsPerBitmapPage, UINT64_MAX);
  bitmap.load_page(1, ones);
  model.load(1, ones);
  CHECK(bitmap.dirty_blocks() == 9 + 70);
  CHECK_FALSE(bitmap.differs_from_disk(1));
  require_equal(bitmap, model);
  CHECK(bitmap.next_run(100, UINT64_MAX).block_count == 70);
  CHECK(bitmap.page_words(1)[0] == UINT64_MAX);
  CHECK(bitmap.page_words(1)[1] == 0x3F);
  CHECK(bitmap.page_words(1)[2] == 0);

  std::mt19937_64 random(5);
  std::vector<uint64_t> words(kWordsPerBitmapPage);
  std::generate(words.begin(), words.end(), [&random] { return random(); });
  bitmap.load_page(0, words);  // takes the place of what was there
  model.load(0, words);
  require_equal(bitmap, model);
  CHECK(std::equal(words.begin(), words.end(), bitmap.page_words(0).begin()));
}

TEST_CASE("a page knows whether the disk lacks a bit or merely has too many") {
  DirtyBitmap bitmap(2 * kBlocksPerBitmapPage * kBlockBytes);
  CHECK_FALSE(bitmap.differs_from_disk(0));

  bitmap.set({5 * kBlockBytes + 512, 512});
  CHECK(bitmap.is_dirty(5));
  CHECK(bitmap.lacks_bits_on_disk(0));
  CHECK_FALSE(bitmap.differs_from_disk(1));
  bitmap.mark_saved(0);
  CHECK_FALSE(bitmap.differs_from_disk(0));

  bitmap.set({5 * kBlockBytes, kBlockBytes});  // it was set already
  CHECK_FALSE(bitmap.differs_from_disk(0));
  bitmap.clear({5 * kBlockBytes + 512, kBlockBytes});  // no whole block
  CHECK(bitmap.is_dirty(5));
  bitmap.clear({5 * kBlockBytes, kBlockBytes});
  CHECK(bitmap.differs_from_disk(0));
  CHECK_FALSE(bitmap.lacks_bits_on_disk(0));  // a bit too many on disk is safe
  bitmap.set({6 * kBlockBytes, kBlockBytes});
  CHECK(bitmap.lacks_bits_on_disk(0));

  CHECK(DirtyBitmap::page_of_extent(30) == 0);
  CHECK(DirtyBitmap::page_of_extent(31) == 1);
}

}  // namespace lockstep::repl
