// What has been received and not been looked at yet: one buffer, allocated once, filled at its end and taken from at
// its beginning.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "io/base/check.h"

namespace lockstep::nbd {

class ReceiveWindow {
 public:
  explicit ReceiveWindow(size_t capacity_bytes)
      : bytes_(std::make_unique_for_overwrite<uint8_t[]>(capacity_bytes)), capacity_bytes_(capacity_bytes) {}

  std::span<const uint8_t> filled() const { return {bytes_.get() + begin_, end_ - begin_}; }
  size_t filled_bytes() const { return end_ - begin_; }
  size_t capacity_bytes() const { return capacity_bytes_; }

  void take(size_t bytes) {
    LOCKSTEP_CHECK(bytes <= filled_bytes());
    begin_ += bytes;
    if (begin_ == end_) begin_ = end_ = 0;
  }

  // Room behind what is filled, so that `wanted_bytes` in all, which must be at most the capacity, fit. What is filled
  // may move.
  std::span<uint8_t> room(size_t wanted_bytes) {
    LOCKSTEP_CHECK(wanted_bytes <= capacity_bytes_);
    if (begin_ + wanted_bytes > capacity_bytes_ || end_ == capacity_bytes_) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    return {bytes_.get() + end_, capacity_bytes_ - end_};
  }
  // So many bytes were put into room().
  void fill(size_t bytes) {
    LOCKSTEP_CHECK(bytes <= capacity_bytes_ - end_);
    end_ += bytes;
  }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t capacity_bytes_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace lockstep::nbd
