#include "io/buffer_pool.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>

namespace lockstep::io {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr size_t kHugePageBytes = size_t{2} * 1024 * 1024;

size_t order_bytes(unsigned order) {
  return BufferPool::kSmallestBytes << order;
}

unsigned order_for(size_t bytes) {
  const size_t blocks = (bytes + BufferPool::kSmallestBytes - 1) / BufferPool::kSmallestBytes;
  return static_cast<unsigned>(std::bit_width(blocks - 1));
}

// Whole pages. In huge ones where the kernel has them and the arena fills one: a transfer lies in one piece of memory
// then, and not in as many as it has pages. What that is worth: docs/performance.md.
uint8_t* map_arena(size_t bytes) {
  const size_t spare = bytes >= kHugePageBytes ? kHugePageBytes : 0;
  void* mapped = mmap(nullptr, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  LOCKSTEP_CHECK(mapped != MAP_FAILED);
  auto* begin = static_cast<uint8_t*>(mapped);
  if (spare == 0) return begin;
  const size_t before = (kHugePageBytes - reinterpret_cast<uintptr_t>(begin) % kHugePageBytes) % kHugePageBytes;
  uint8_t* arena = begin + before;
  if (before > 0) munmap(begin, before);
  if (before < spare) munmap(arena + bytes, spare - before);
  madvise(arena, bytes, MADV_HUGEPAGE);  // where there are none it works as well
  return arena;
}

}  // namespace

void BufferRef::reset() noexcept {
  BufferHeader* header = std::exchange(header_, nullptr);
  if (header == nullptr) return;
  LOCKSTEP_CHECK(header->references_ > 0);
  if (--header->references_ == 0) header->pool_->release(*header);
}

uint8_t* BufferRef::data() const {
  if (header_ == nullptr) return nullptr;
  return header_->pool_->arena_ + size_t{header_->pool_->block_of(*header_)} * BufferPool::kSmallestBytes;
}

size_t BufferRef::capacity_bytes() const {
  return header_ == nullptr ? 0 : order_bytes(header_->order_);
}

BufferPool::BufferPool(Loop& loop, size_t arena_bytes) : freed_(loop) {
  blocks_ = static_cast<uint32_t>((arena_bytes + kSmallestBytes - 1) / kSmallestBytes);
  arena_bytes_ = size_t{blocks_} * kSmallestBytes;
  free_.fill(kNone);
  if (blocks_ == 0) return;
  arena_ = map_arena(arena_bytes_);
  ASAN_POISON_MEMORY_REGION(arena_, arena_bytes_);
  headers_ = std::make_unique<BufferHeader[]>(blocks_);
  for (uint32_t block = 0; block < blocks_; ++block) headers_[block].pool_ = this;
  // The whole arena as the largest aligned blocks that fit.
  for (uint32_t block = 0; block < blocks_;) {
    unsigned order = kOrders - 1;
    while ((block & ((1U << order) - 1)) != 0 || block + (1U << order) > blocks_) --order;
    push_free(block, order);
    block += 1U << order;
  }
  free_bytes_ = arena_bytes_;
}

BufferPool::~BufferPool() {
  LOCKSTEP_CHECK(free_bytes_ == arena_bytes_);
  if (arena_ == nullptr) return;
  ASAN_UNPOISON_MEMORY_REGION(arena_, arena_bytes_);
  munmap(arena_, arena_bytes_);
}

BufferRef BufferPool::allocate(size_t bytes) {
  if (bytes == 0 || bytes > kLargestBytes) return {};
  const unsigned wanted = order_for(bytes);
  unsigned order = wanted;
  while (order < kOrders && free_[order] == kNone) ++order;
  if (order == kOrders) {
    exhausted_ = true;
    return {};
  }
  const uint32_t block = free_[order];
  remove_free(block);
  while (order > wanted) {
    --order;
    push_free(block + (1U << order), order);
  }
  BufferHeader& header = headers_[block];
  header.order_ = static_cast<uint8_t>(wanted);
  header.references_ = 1;
  header.size_bytes_ = static_cast<uint32_t>(bytes);
  free_bytes_ -= order_bytes(wanted);
  ASAN_UNPOISON_MEMORY_REGION(arena_ + size_t{block} * kSmallestBytes, bytes);
  return BufferRef(&header);
}

void BufferPool::release(BufferHeader& header) noexcept {
  uint32_t block = block_of(header);
  unsigned order = header.order_;
  ASAN_POISON_MEMORY_REGION(arena_ + size_t{block} * kSmallestBytes, order_bytes(order));
  free_bytes_ += order_bytes(order);
  while (order + 1 < kOrders) {
    const uint32_t buddy = block ^ (1U << order);
    if (buddy + (1U << order) > blocks_) break;
    if (!headers_[buddy].is_free_head_ || headers_[buddy].order_ != order) break;
    remove_free(buddy);
    block = std::min(block, buddy);
    ++order;
  }
  push_free(block, order);
  if (exhausted_) {
    exhausted_ = false;
    freed_.notify_all();
  }
}

size_t BufferPool::largest_free_bytes() const {
  for (unsigned order = kOrders; order > 0; --order) {
    if (free_[order - 1] != kNone) return order_bytes(order - 1);
  }
  return 0;
}

void BufferPool::push_free(uint32_t block, unsigned order) {
  BufferHeader& header = headers_[block];
  header.order_ = static_cast<uint8_t>(order);
  header.is_free_head_ = true;
  header.previous_free_ = kNone;
  header.next_free_ = free_[order];
  if (header.next_free_ != kNone) headers_[header.next_free_].previous_free_ = block;
  free_[order] = block;
}

void BufferPool::remove_free(uint32_t block) {
  BufferHeader& header = headers_[block];
  header.is_free_head_ = false;
  (header.previous_free_ == kNone ? free_[header.order_] : headers_[header.previous_free_].next_free_) =
      header.next_free_;
  if (header.next_free_ != kNone) headers_[header.next_free_].previous_free_ = header.previous_free_;
}

}  // namespace lockstep::io
