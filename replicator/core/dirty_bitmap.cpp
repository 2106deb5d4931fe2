#include "replicator/core/dirty_bitmap.h"

#include <algorithm>
#include <bit>

namespace lockstep::repl {

DirtyBitmap::DirtyBitmap(uint64_t size_bytes) : block_count_(divide_up(size_bytes, kBlockBytes)) {
  const uint64_t pages = std::max<uint64_t>(1, divide_up(block_count_, kBlocksPerBitmapPage));
  pages_.assign(pages, PageState::Saved);
  words_.assign(pages * kWordsPerBitmapPage, 0);
}

void DirtyBitmap::grow(uint64_t size_bytes) {
  const uint64_t blocks = divide_up(size_bytes, kBlockBytes);
  LOCKSTEP_CHECK(blocks >= block_count_);
  block_count_ = blocks;
  const uint64_t pages = std::max<uint64_t>(pages_.size(), divide_up(block_count_, kBlocksPerBitmapPage));
  pages_.resize(pages, PageState::Saved);
  words_.resize(pages * kWordsPerBitmapPage, 0);
}

void DirtyBitmap::change(uint64_t first_block, uint64_t count, bool dirty) {
  LOCKSTEP_CHECK(ByteRange::fits(first_block, count, block_count_));
  uint64_t block = first_block;
  const uint64_t end = first_block + count;
  while (block < end) {
    const uint64_t bit = block % 64;
    const uint64_t here = std::min<uint64_t>(64 - bit, end - block);
    const uint64_t mask = (here == 64 ? ~uint64_t{0} : ((uint64_t{1} << here) - 1)) << bit;
    uint64_t& word = words_[block / 64];
    const uint64_t changed = dirty ? mask & ~word : mask & word;
    if (changed != 0) {
      word ^= changed;
      const auto bits = static_cast<uint64_t>(std::popcount(changed));
      dirty_blocks_ = dirty ? dirty_blocks_ + bits : dirty_blocks_ - bits;
      PageState& page = pages_[block / kBlocksPerBitmapPage];
      if (dirty) {
        page = PageState::LacksBits;
      } else if (page == PageState::Saved) {
        page = PageState::HasExtraBits;
      }
    }
    block += here;
  }
}

void DirtyBitmap::set(const ByteRange& range) {
  if (range.empty()) return;
  const uint64_t first = range.offset_bytes / kBlockBytes;
  change(first, divide_up(range.end_bytes(), kBlockBytes) - first, true);
}

bool DirtyBitmap::is_any_dirty(const ByteRange& range) const {
  const uint64_t end = divide_up(range.end_bytes(), kBlockBytes);
  for (uint64_t block = range.offset_bytes / kBlockBytes; block < end;) {
    const uint64_t rest = words_[block / 64] >> (block % 64);
    if (rest != 0) return block + static_cast<uint64_t>(std::countr_zero(rest)) < end;
    block = (block / 64 + 1) * 64;
  }
  return false;
}

void DirtyBitmap::set_all() {
  change(0, block_count_, true);
}

void DirtyBitmap::set_blocks(uint64_t first_block, uint64_t count) {
  change(first_block, count, true);
}

void DirtyBitmap::clear(const ByteRange& range) {
  const uint64_t first = divide_up(range.offset_bytes, kBlockBytes);
  const uint64_t end = range.end_bytes() / kBlockBytes;
  if (first < end) change(first, end - first, false);
}

void DirtyBitmap::clear_all() {
  change(0, block_count_, false);
}

DirtyBitmap::Run DirtyBitmap::next_run(uint64_t from, uint64_t limit) const {
  uint64_t block = from;
  while (block < block_count_) {
    const uint64_t rest = words_[block / 64] >> (block % 64);
    if (rest != 0) {
      block += static_cast<uint64_t>(std::countr_zero(rest));
      break;
    }
    block = (block / 64 + 1) * 64;
  }
  if (block >= block_count_) return {};
  uint64_t end = block;
  while (end < block_count_ && end - block < limit) {
    const uint64_t clean = ~words_[end / 64] >> (end % 64);
    const uint64_t here = clean == 0 ? 64 - end % 64 : static_cast<uint64_t>(std::countr_zero(clean));
    end += here;
    if (clean != 0) break;
  }
  return {block, std::min({end - block, limit, block_count_ - block})};
}

std::span<const uint64_t> DirtyBitmap::page_words(uint32_t page) const {
  return std::span(words_).subspan(page * kWordsPerBitmapPage, kWordsPerBitmapPage);
}

void DirtyBitmap::load_page(uint32_t page, std::span<const uint64_t> words) {
  LOCKSTEP_CHECK(words.size() == kWordsPerBitmapPage);
  pages_[page] = PageState::Saved;
  const uint64_t first_block = uint64_t{page} * kBlocksPerBitmapPage;
  for (uint64_t i = 0; i < kWordsPerBitmapPage; ++i) {
    uint64_t& word = words_[page * kWordsPerBitmapPage + i];
    dirty_blocks_ -= static_cast<uint64_t>(std::popcount(word));
    word = words[i];
    const uint64_t base = first_block + i * 64;  // bits behind the device's end are nobody's
    if (base >= block_count_) {
      word = 0;
    } else if (block_count_ - base < 64) {
      word &= (uint64_t{1} << (block_count_ - base)) - 1;
    }
    dirty_blocks_ += static_cast<uint64_t>(std::popcount(word));
  }
}

}  // namespace lockstep::repl
