// The requests that one session may have in flight: as many slots as it was made with, allocated once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "io/base/check.h"
#include "io/block_backend.h"
#include "nbd-server/wire.h"

namespace lockstep::nbd {

// One request from its header's arrival until its reply has been sent.
struct RequestSlot {
  Request request;
  io::BlockRequest block;  // its owner_tag is this slot's index
  WireError error = WireError::None;
  std::string_view reason;  // static storage
  size_t skip_bytes = 0;    // READ: the buffer begins so many bytes before the request's range
  size_t reply_bytes = 0;   // BLOCK_STATUS: the buffer begins with the whole reply
  size_t held_bytes = 0;    // of memory that the buffer takes
  bool in_backend = false;
  RequestSlot* next = nullptr;  // in the free list, or in the queue of replies
};

class RequestSlab {
 public:
  explicit RequestSlab(size_t slots) : slots_(std::make_unique<RequestSlot[]>(slots)), capacity_(slots) {
    for (size_t i = slots; i-- > 0;) {
      slots_[i].block.owner_tag = i;
      slots_[i].next = free_;
      free_ = &slots_[i];
    }
  }

  // Null when all are in use.
  RequestSlot* take() {
    RequestSlot* slot = free_;
    if (slot != nullptr) {
      free_ = slot->next;
      slot->next = nullptr;
      ++used_;
    }
    return slot;
  }
  // Drops the slot's buffer, too.
  void give_back(RequestSlot& slot) {
    LOCKSTEP_CHECK(used_ > 0);
    slot.block.buffer.reset();
    slot.error = WireError::None;
    slot.reason = {};
    slot.skip_bytes = slot.reply_bytes = 0;
    slot.next = free_;
    free_ = &slot;
    --used_;
  }

  RequestSlot& of(const io::BlockRequest& block) {
    LOCKSTEP_CHECK(block.owner_tag < capacity_);
    return slots_[block.owner_tag];
  }
  size_t used() const { return used_; }
  std::span<const RequestSlot> slots() const { return {slots_.get(), capacity_}; }

 private:
  std::unique_ptr<RequestSlot[]> slots_;
  size_t capacity_;
  size_t used_ = 0;
  RequestSlot* free_ = nullptr;
};

// First in, first out, through RequestSlot::next.
class ReplyQueue {
 public:
  bool empty() const { return first_ == nullptr; }
  void push(RequestSlot& slot) {
    slot.next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = &slot;
    last_ = &slot;
  }
  RequestSlot* pop() {
    RequestSlot* slot = first_;
    if (slot == nullptr) return nullptr;
    first_ = slot->next;
    if (first_ == nullptr) last_ = nullptr;
    slot->next = nullptr;
    return slot;
  }

 private:
  RequestSlot* first_ = nullptr;
  RequestSlot* last_ = nullptr;
};

}  // namespace lockstep::nbd
