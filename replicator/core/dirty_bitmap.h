// Which 4 KiB blocks a peer may lack. Counts its bits and remembers which pages differ from what is on disk.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "replicator/core/metadata_image.h"

namespace lockstep::repl {

class DirtyBitmap {
 public:
  explicit DirtyBitmap(uint64_t size_bytes);

  // The new blocks are clean.
  void grow(uint64_t size_bytes);

  uint64_t block_count() const { return block_count_; }
  uint64_t dirty_blocks() const { return dirty_blocks_; }
  bool is_dirty(uint64_t block) const { return (words_[block / 64] >> (block % 64) & 1) != 0; }

  struct Run {
    uint64_t first_block = 0;
    uint64_t block_count = 0;
  };

  // A block that the range touches, also in part.
  bool is_any_dirty(const ByteRange& range) const;

  // Every block that the range touches, also in part.
  void set(const ByteRange& range);
  void set_all();
  void set_blocks(uint64_t first_block, uint64_t count);
  // Only blocks that lie in the range as a whole.
  void clear(const ByteRange& range);
  void clear_all();

  // The first run of dirty blocks at or after `from`, at most `limit` long; count 0 if there is none.
  Run next_run(uint64_t from, uint64_t limit) const;

  uint32_t page_count() const { return static_cast<uint32_t>(pages_.size()); }
  std::span<const uint64_t> page_words(uint32_t page) const;
  void load_page(uint32_t page, std::span<const uint64_t> words);

  // A page has bits that are set here and not on disk; has any difference at all.
  bool lacks_bits_on_disk(uint32_t page) const { return pages_[page] == PageState::LacksBits; }
  bool differs_from_disk(uint32_t page) const { return pages_[page] != PageState::Saved; }
  void mark_saved(uint32_t page) { pages_[page] = PageState::Saved; }
  static uint32_t page_of_extent(uint32_t extent) { return static_cast<uint32_t>(extent / kExtentsPerBitmapPage); }

 private:
  enum class PageState : uint8_t { Saved, HasExtraBits, LacksBits };
  void change(uint64_t first_block, uint64_t count, bool dirty);

  uint64_t block_count_;
  uint64_t dirty_blocks_ = 0;
  std::vector<uint64_t> words_;
  std::vector<PageState> pages_;
};

}  // namespace lockstep::repl
