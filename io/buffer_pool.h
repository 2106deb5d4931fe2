// One arena of page-aligned buffers, registered with the loop's ring, so that disk requests from and into it pin no
// pages. A buddy allocator: 4 KiB to 32 MiB in powers of two. Bounded: when it is used up, allocate() says so.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "io/signal.h"

namespace lockstep::io {

class BufferPool;
class BufferRef;

// What the pool keeps about one buffer, outside of it. Preallocated, one for each 4 KiB of the arena.
class BufferHeader {
 private:
  friend class BufferPool;
  friend class BufferRef;
  BufferPool* pool_ = nullptr;
  uint32_t references_ = 0;
  uint32_t size_bytes_ = 0;
  uint32_t next_free_ = 0;
  uint32_t previous_free_ = 0;
  uint8_t order_ = 0;
  bool is_free_head_ = false;
};

// A counted reference; the buffer returns to its pool with the last one. Not for several threads. The pool (that is:
// its loop) must outlive every reference.
class BufferRef {
 public:
  BufferRef() = default;
  BufferRef(const BufferRef& other) : header_(other.header_) {
    if (header_ != nullptr) ++header_->references_;
  }
  BufferRef(BufferRef&& other) noexcept : header_(std::exchange(other.header_, nullptr)) {}
  BufferRef& operator=(const BufferRef& other) {
    BufferRef copy(other);
    std::swap(header_, copy.header_);
    return *this;
  }
  BufferRef& operator=(BufferRef&& other) noexcept {
    BufferRef taken(std::move(other));
    std::swap(header_, taken.header_);
    return *this;
  }
  ~BufferRef() { reset(); }

  void reset() noexcept;
  explicit operator bool() const { return header_ != nullptr; }

  uint8_t* data() const;                                                               // 4096-aligned, null when empty
  size_t size_bytes() const { return header_ == nullptr ? 0 : header_->size_bytes_; }  // as it was asked for
  size_t capacity_bytes() const;  // what is really there: a power of two, at least 4096
  std::span<uint8_t> bytes() const { return {data(), size_bytes()}; }
  uint32_t references() const { return header_ == nullptr ? 0 : header_->references_; }

 private:
  friend class BufferPool;
  explicit BufferRef(BufferHeader* header) : header_(header) {}
  BufferHeader* header_ = nullptr;
};

class BufferPool {
 public:
  static constexpr size_t kSmallestBytes = 4096;
  static constexpr size_t kLargestBytes = size_t{32} * 1024 * 1024;

  // `arena_bytes` is rounded up to a multiple of 4096. The memory is mapped here; the
  // loop's registration of it, where that succeeds, also makes it resident.
  BufferPool(Loop& loop, size_t arena_bytes);
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  // Every buffer must have come back.
  ~BufferPool();

  // A buffer of at least `bytes`, content undefined. Empty when no block of that size is free now (wait for freed()
  // and try again), and always for 0 and for more than kLargestBytes.
  BufferRef allocate(size_t bytes);

  // Notified whenever memory comes back after an allocate() that found none.
  Signal& freed() { return freed_; }

  size_t arena_bytes() const { return arena_bytes_; }
  size_t free_bytes() const { return free_bytes_; }
  size_t used_bytes() const { return arena_bytes_ - free_bytes_; }
  size_t largest_free_bytes() const;

  std::span<uint8_t> arena() const { return {arena_, arena_bytes_}; }
  bool contains(const void* address, size_t length_bytes) const {
    const auto* at = static_cast<const uint8_t*>(address);
    return at >= arena_ && at < arena_ + arena_bytes_ &&
           length_bytes <= static_cast<size_t>(arena_ + arena_bytes_ - at);
  }

 private:
  friend class BufferRef;
  static constexpr unsigned kOrders = 14;  // 4 KiB << 13 is 32 MiB

  void release(BufferHeader& header) noexcept;
  void push_free(uint32_t block, unsigned order);
  void remove_free(uint32_t block);
  uint32_t block_of(const BufferHeader& header) const { return static_cast<uint32_t>(&header - headers_.get()); }

  uint8_t* arena_ = nullptr;
  size_t arena_bytes_ = 0;
  size_t free_bytes_ = 0;
  uint32_t blocks_ = 0;
  std::unique_ptr<BufferHeader[]> headers_;
  std::array<uint32_t, kOrders> free_{};
  bool exhausted_ = false;
  Signal freed_;
};

}  // namespace lockstep::io
