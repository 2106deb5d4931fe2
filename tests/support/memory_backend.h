// A block backend over memory, for tests of whoever serves blocks. It completes from the loop, as the seam demands, and
// can be told to hold its requests, to answer them in reverse, to fail them, or to have few slots.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "io/base/check.h"
#include "io/base/units.h"
#include "io/block_backend.h"
#include "io/loop.h"

namespace lockstep::tests {

class MemoryBackend final : public io::BlockBackend, private io::Runnable {
 public:
  MemoryBackend(io::Loop& loop, const io::BlockGeometry& geometry)
      : loop_(loop),
        geometry_(geometry),
        bytes_(geometry.size_bytes),
        dirty_(geometry.size_bytes / geometry.minimum_block_bytes),
        admission_(loop) {}
  ~MemoryBackend() override { LOCKSTEP_CHECK(waiting_.empty()); }

  io::BlockGeometry geometry() const override { return geometry_; }
  bool has_map(io::BlockMap /*map*/) const override { return true; }
  // What reads as zeroes is a hole; what mark_dirty() has marked is dirty.
  size_t extents(io::BlockMap map, uint64_t offset_bytes, uint64_t length_bytes,
                 std::span<io::BlockExtent> into) override {
    const uint64_t block = geometry_.minimum_block_bytes;
    size_t count = 0;
    for (uint64_t at = offset_bytes; at < offset_bytes + length_bytes; at += block) {
      const uint32_t flags = map == io::BlockMap::Dirty ? dirty_[at / block] : allocation_flags(at, block);
      if (count > 0 && into[count - 1].flags == flags) {
        into[count - 1].length_bytes += block;
      } else if (count == into.size()) {
        break;
      } else {
        into[count++] = {block, flags};
      }
    }
    return count;
  }
  void mark_dirty(uint64_t offset_bytes, uint64_t length_bytes) {
    const uint64_t block = geometry_.minimum_block_bytes;
    for (uint64_t at = offset_bytes; at < offset_bytes + length_bytes; at += block) {
      dirty_[at / block] = io::extent_flag::kDirty;
    }
  }
  void set_fast_zeroes(bool fast) { geometry_.fast_zeroes = fast; }
  io::Signal& admission() override { return admission_; }

  bool submit(io::BlockRequest& request) override {
    if (waiting_.size() >= slots_) {
      ++refused_submits_;
      return false;
    }
    LOCKSTEP_CHECK(ByteRange::fits(request.offset_bytes, request.length_bytes, geometry_.size_bytes));
    LOCKSTEP_CHECK((request.offset_bytes | request.length_bytes) % geometry_.minimum_block_bytes == 0);
    waiting_.push_back(&request);
    if (!held_ && !listed()) loop_.defer(*this);
    return true;
  }

  // While held, requests wait.
  void hold(bool held) {
    held_ = held;
    if (!held_ && !waiting_.empty() && !listed()) loop_.defer(*this);
  }
  size_t waiting() const { return waiting_.size(); }
  void set_slots(size_t slots) { slots_ = slots; }
  void set_reverse(bool reverse) { reverse_ = reverse; }
  // Every request that completes from now on; 0: none fails.
  void fail_with(int system_errno) { fail_errno_ = system_errno; }

  std::vector<uint8_t>& bytes() { return bytes_; }
  uint64_t fua_requests() const { return fua_requests_; }
  uint64_t flushes() const { return flushes_; }
  uint64_t trims() const { return trims_; }
  uint64_t kept_zeroes() const { return kept_zeroes_; }
  uint64_t refused_submits() const { return refused_submits_; }

 private:
  void run() noexcept override {
    if (held_) return;
    std::vector<io::BlockRequest*> now;
    now.swap(waiting_);
    if (reverse_) std::reverse(now.begin(), now.end());
    for (io::BlockRequest* request : now) {
      request->error_errno = fail_errno_;
      if (fail_errno_ == 0) carry_out(*request);
      request->owner->completed(*request);
    }
    admission_.notify_all();
  }

  uint32_t allocation_flags(uint64_t offset_bytes, uint64_t length_bytes) const {
    const auto begin = bytes_.begin() + static_cast<ptrdiff_t>(offset_bytes);
    const bool zero =
        std::all_of(begin, begin + static_cast<ptrdiff_t>(length_bytes), [](uint8_t byte) { return byte == 0; });
    return zero ? io::extent_flag::kHole | io::extent_flag::kZero : 0;
  }

  void carry_out(io::BlockRequest& request) {
    uint8_t* at = bytes_.data() + request.offset_bytes;
    if (request.fua) ++fua_requests_;
    switch (request.operation) {
      case io::BlockOperation::Read:
        std::memcpy(request.buffer.data(), at, request.length_bytes);
        break;
      case io::BlockOperation::Write:
        std::memcpy(at, request.buffer.data(), request.length_bytes);
        break;
      case io::BlockOperation::Flush:
        ++flushes_;
        break;
      case io::BlockOperation::Trim:
        ++trims_;
        std::memset(at, 0, request.length_bytes);
        break;
      case io::BlockOperation::WriteZeroes:
        if (request.no_hole) ++kept_zeroes_;
        std::memset(at, 0, request.length_bytes);
        break;
    }
  }

  io::Loop& loop_;
  io::BlockGeometry geometry_;
  std::vector<uint8_t> bytes_;
  std::vector<uint8_t> dirty_;  // extent_flag of each block
  std::vector<io::BlockRequest*> waiting_;
  io::Signal admission_;
  size_t slots_ = SIZE_MAX;
  bool held_ = false;
  bool reverse_ = false;
  int fail_errno_ = 0;
  uint64_t fua_requests_ = 0;
  uint64_t flushes_ = 0;
  uint64_t trims_ = 0;
  uint64_t kept_zeroes_ = 0;
  uint64_t refused_submits_ = 0;
};

}  // namespace lockstep::tests
