#include "io/buffer_pool.h"

#include <cstring>
#include <random>
#include <vector>

#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

constexpr size_t kKib = 1024;

Task<void> wait_for_memory(BufferPool& pool, size_t bytes, BufferRef& got, int& waits) {
  while (true) {
    got = pool.allocate(bytes);
    if (got) co_return;
    ++waits;
    co_await pool.freed().wait();
  }
}

Task<void> give_back(Loop& loop, std::vector<BufferRef>& held) {
  while (!held.empty()) {
    held.pop_back();
    co_await loop.sleep_ms(0);
  }
}

}  // namespace

TEST_CASE("a buffer is aligned, of the size asked, and inside the arena") {
  auto loop = make_loop();
  BufferPool& pool = loop->buffers();
  for (const size_t bytes : {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, 100 * kKib, 1024 * kKib}) {
    const BufferRef buffer = pool.allocate(bytes);
    REQUIRE(buffer);
    CHECK(buffer.size_bytes() == bytes);
    CHECK(buffer.bytes().size() == bytes);
    CHECK(buffer.capacity_bytes() >= bytes);
    CHECK((buffer.capacity_bytes() < 2 * bytes || buffer.capacity_bytes() == 4096));
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 4096 == 0);
    CHECK(pool.contains(buffer.data(), buffer.size_bytes()));
    std::memset(buffer.data(), 0x5A, bytes);
  }
  CHECK(pool.used_bytes() == 0);
}

TEST_CASE("an arena of two MiB and more begins where a huge page can, and is all there") {
  auto loop = make_loop();
  constexpr size_t kHugePage = 2048 * kKib;
  for (const size_t arena_bytes : {kHugePage, 3 * kHugePage, 3 * kHugePage + 4 * kKib}) {
    BufferPool pool(*loop, arena_bytes);
    CHECK(pool.arena_bytes() == arena_bytes);
    CHECK(reinterpret_cast<uintptr_t>(pool.arena().data()) % kHugePage == 0);
    std::vector<BufferRef> all;
    for (BufferRef buffer = pool.allocate(4 * kKib); buffer; buffer = pool.allocate(4 * kKib)) {
      std::memset(buffer.data(), 0x5A, buffer.size_bytes());
      all.push_back(std::move(buffer));
    }
    CHECK(all.size() == arena_bytes / (4 * kKib));
  }
}

TEST_CASE("what cannot be had gives an empty buffer") {
  auto loop = make_loop();
  BufferPool& pool = loop->buffers();
  CHECK_FALSE(pool.allocate(0));
  CHECK_FALSE(pool.allocate(pool.arena_bytes() + 1));
  CHECK_FALSE(pool.allocate(BufferPool::kLargestBytes + 1));
  CHECK_FALSE(pool.allocate(SIZE_MAX));
  CHECK(BufferRef().data() == nullptr);
  CHECK(BufferRef().size_bytes() == 0);
  CHECK(BufferRef().bytes().empty());
}

TEST_CASE("the memory returns with the last reference") {
  auto loop = make_loop();
  BufferPool& pool = loop->buffers();
  BufferRef first = pool.allocate(4096);
  BufferRef second = first;
  CHECK(first.references() == 2);
  first.reset();
  CHECK(pool.used_bytes() == 4096);
  BufferRef third = std::move(second);
  CHECK_FALSE(second);  // NOLINT(bugprone-use-after-move): moved-from is empty, by contract
  CHECK(third.references() == 1);
  BufferRef& itself = third;
  third = itself;
  CHECK(third.references() == 1);
  third = pool.allocate(8192);
  CHECK(pool.used_bytes() == 8192);
  third = BufferRef();
  CHECK(pool.used_bytes() == 0);
}

TEST_CASE("an exhausted pool says so, and freed memory joins into the largest blocks again") {
  auto loop = make_loop();
  BufferPool& pool = loop->buffers();
  std::vector<BufferRef> held;
  while (BufferRef buffer = pool.allocate(4096)) held.push_back(std::move(buffer));
  CHECK(held.size() == pool.arena_bytes() / 4096);
  CHECK(pool.free_bytes() == 0);
  CHECK(pool.largest_free_bytes() == 0);
  for (size_t i = 0; i < held.size(); i += 2) held[i].reset();
  CHECK(pool.largest_free_bytes() == 4096);
  CHECK_FALSE(pool.allocate(8192));
  held.clear();
  CHECK(pool.largest_free_bytes() == pool.arena_bytes());
  CHECK(pool.allocate(pool.arena_bytes()));
}

TEST_CASE("an arena that is no power of two is used to its last block") {
  auto loop = make_loop({64, 7 * 4096 + 1, false});
  BufferPool& pool = loop->buffers();
  CHECK(pool.arena_bytes() == 8 * 4096);
  auto odd = make_loop({64, 7 * 4096, false});
  std::vector<BufferRef> held;
  while (BufferRef buffer = odd->buffers().allocate(4096)) held.push_back(std::move(buffer));
  CHECK(held.size() == 7);
  held.clear();
  CHECK(odd->buffers().largest_free_bytes() == 4 * 4096);
}

TEST_CASE("waiting for memory ends when enough has come back") {
  auto loop = make_loop();
  BufferPool& pool = loop->buffers();
  std::vector<BufferRef> held;
  while (BufferRef buffer = pool.allocate(256 * kKib)) held.push_back(std::move(buffer));
  BufferRef got;
  int waits = 0;
  loop->spawn(then_stop(*loop, wait_for_memory(pool, 512 * kKib, got, waits)));
  while (Runnable* next = loop->run_queue().pop()) next->run();
  CHECK(waits == 1);
  loop->spawn(give_back(*loop, held));
  loop->run();
  CHECK(got.size_bytes() == 512 * kKib);
  CHECK(waits >= 2);
}

TEST_CASE("random allocation never overlaps and loses nothing") {
  auto loop = make_loop();
  BufferPool& pool = loop->buffers();
  std::mt19937 random(20240607);
  struct Held {
    BufferRef buffer;
    uint8_t fill;
  };
  std::vector<Held> held;
  const auto intact = [](const Held& one) {
    for (const uint8_t byte : one.buffer.bytes()) {
      if (byte != one.fill) return false;
    }
    return true;
  };
  bool all_intact = true;
  for (int step = 0; step < 5000; ++step) {
    if (!held.empty() && random() % 2 == 0) {
      const size_t which = random() % held.size();
      all_intact = all_intact && intact(held[which]);
      std::swap(held[which], held.back());
      held.pop_back();
      continue;
    }
    BufferRef buffer = pool.allocate(1 + random() % (size_t{1} << (8 + random() % 9)));
    if (!buffer) continue;
    const auto fill = static_cast<uint8_t>(step);
    std::memset(buffer.data(), fill, buffer.size_bytes());
    held.push_back({std::move(buffer), fill});
  }
  for (const Held& one : held) all_intact = all_intact && intact(one);
  CHECK(all_intact);
  held.clear();
  CHECK(pool.free_bytes() == pool.arena_bytes());
  CHECK(pool.largest_free_bytes() == pool.arena_bytes());
}

}  // namespace lockstep::io
