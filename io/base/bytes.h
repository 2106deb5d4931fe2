// Bounded readers and writers of byte sequences: wire and disk structures are encoded field by field with these.
// Neither allocates nor throws. A reader or writer that ran over its end stays failed: check ok() once, at the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace lockstep {

enum class ByteOrder : uint8_t { Little, Big };

template <ByteOrder Order>
class ByteReader {
 public:
  // The bytes must outlive the reader.
  explicit ByteReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  size_t left_bytes() const { return bytes_.size() - position_; }
  size_t position_bytes() const { return position_; }

  uint8_t u8() { return integer<uint8_t>(); }
  uint16_t u16() { return integer<uint16_t>(); }
  uint32_t u32() { return integer<uint32_t>(); }
  uint64_t u64() { return integer<uint64_t>(); }

  // The next `length` bytes, or an empty span and failure.
  std::span<const uint8_t> bytes(size_t length) {
    if (!take(length)) return {};
    return bytes_.subspan(position_ - length, length);
  }
  std::string_view text(size_t length) {
    const auto raw = bytes(length);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }
  void skip(size_t length) { take(length); }

 private:
  bool take(size_t length) {
    if (!ok_ || length > left_bytes()) {
      ok_ = false;
      return false;
    }
    position_ += length;
    return true;
  }

  template <typename Integer>
  Integer integer() {
    if (!take(sizeof(Integer))) return 0;
    const uint8_t* from = bytes_.data() + position_ - sizeof(Integer);
    Integer value = 0;
    for (size_t i = 0; i < sizeof(Integer); ++i) {
      const size_t at = Order == ByteOrder::Big ? i : sizeof(Integer) - 1 - i;
      value = static_cast<Integer>((static_cast<uint64_t>(value) << 8) | from[at]);
    }
    return value;
  }

  std::span<const uint8_t> bytes_;
  size_t position_ = 0;
  bool ok_ = true;
};

template <ByteOrder Order>
class ByteWriter {
 public:
  // Writes into `bytes`, which must outlive the writer.
  explicit ByteWriter(std::span<uint8_t> bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  size_t left_bytes() const { return bytes_.size() - position_; }
  size_t position_bytes() const { return position_; }
  std::span<uint8_t> written() const { return bytes_.first(position_); }

  void u8(uint8_t value) { integer(value); }
  void u16(uint16_t value) { integer(value); }
  void u32(uint32_t value) { integer(value); }
  void u64(uint64_t value) { integer(value); }

  void bytes(std::span<const uint8_t> from) {
    if (!take(from.size()) || from.empty()) return;
    std::memcpy(bytes_.data() + position_ - from.size(), from.data(), from.size());
  }
  void text(std::string_view from) { bytes({reinterpret_cast<const uint8_t*>(from.data()), from.size()}); }
  void zeroes(size_t length) {
    if (!take(length) || length == 0) return;
    std::memset(bytes_.data() + position_ - length, 0, length);
  }

 private:
  bool take(size_t length) {
    if (!ok_ || length > left_bytes()) {
      ok_ = false;
      return false;
    }
    position_ += length;
    return true;
  }

  template <typename Integer>
  void integer(Integer value) {
    if (!take(sizeof(Integer))) return;
    uint8_t* to = bytes_.data() + position_ - sizeof(Integer);
    for (size_t i = 0; i < sizeof(Integer); ++i) {
      const size_t shift = 8 * (Order == ByteOrder::Big ? sizeof(Integer) - 1 - i : i);
      to[i] = static_cast<uint8_t>(static_cast<uint64_t>(value) >> shift);
    }
  }

  std::span<uint8_t> bytes_;
  size_t position_ = 0;
  bool ok_ = true;
};

using LittleReader = ByteReader<ByteOrder::Little>;
using LittleWriter = ByteWriter<ByteOrder::Little>;
using BigReader = ByteReader<ByteOrder::Big>;
using BigWriter = ByteWriter<ByteOrder::Big>;

}  // namespace lockstep
