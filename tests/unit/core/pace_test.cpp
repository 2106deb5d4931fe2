// The resync's pace: what it does with what it is told.
#include "replicator/core/pace.h"

#include <catch2/catch.hpp>

namespace lockstep::repl {
namespace {

// A disk on which a write takes 200 us, and longer by what the resync has on its way.
struct Model {
  explicit Model(const PaceOptions& options = {}) : pace(options) {}

  uint64_t latency_us() const { return 200 + (copying ? pace.window_bytes() * per_megabyte_us / kMiB : 0); }
  // `writes` a tick of 20 ms, for so long; the mean latency.
  uint64_t pass(uint64_t time_us, uint64_t writes) {
    uint64_t sum_us = 0, count = 0;
    for (const uint64_t end_us = now_us + time_us; now_us < end_us; now_us += 20'000) {
      for (uint64_t i = 0; i < writes; ++i) {
        pace.write_began(now_us);
        const bool is_slow = copying && slow_every != 0 && count % slow_every == 0;
        const uint64_t latency = is_slow ? 1'500 : latency_us();
        pace.write_ended(latency);
        sum_us += latency;
        ++count;
      }
      if (copying) {
        for (uint64_t bytes = 0; bytes + 256 * kKiB <= pace.window_bytes() && pace.has_budget(); bytes += 256 * kKiB) {
          pace.copied(256 * kKiB);
          copied_bytes += 256 * kKiB;
        }
      }
      pace.ticked(now_us, copying);
    }
    return count == 0 ? 0 : sum_us / count;
  }

  Pace pace;
  uint64_t now_us = 1'000'000;
  uint64_t per_megabyte_us = 400;
  uint64_t copied_bytes = 0;
  uint64_t slow_every = 0;
  bool copying = false;
};

}  // namespace

TEST_CASE("without application writes the window is as wide as it gets") {
  Model model;
  model.copying = true;
  model.pass(2'000'000, 0);
  CHECK(model.pace.window_bytes() == Pace::kMaximumWindowBytes);
}

TEST_CASE("while the application writes, its latency does not more than double") {
  Model model;
  model.pass(2'000'000, 5);
  CHECK(model.pace.usual_latency_us() == 200);
  model.copying = true;
  model.pass(2'000'000, 5);
  CHECK(model.pass(5'000'000, 5) <= 400);
  CHECK(model.copied_bytes > 7 * PaceOptions{}.minimum_bytes_per_second);
}

// One write in 20 queues behind a copy: the mean hides it.
TEST_CASE("the window shrinks when too many writes are slow, though their mean is not") {
  Model model;
  model.pass(2'000'000, 40);
  model.copying = true;
  model.per_megabyte_us = 0;
  model.slow_every = 20;
  model.pass(2'000'000, 40);
  CHECK(model.pass(1'000'000, 40) < 300);
  CHECK(model.pace.window_bytes() <= kMiB);  // as small as the minimum rate lets it be
  CHECK(model.pace.chunk_bytes(kMiB) <= 256 * kKiB);
  model.slow_every = 0;
  model.pass(2'000'000, 40);
  CHECK(model.pace.window_bytes() > kMiB);
  model.pass(1'000'000, 0);
  CHECK(model.pace.chunk_bytes(kMiB) == kMiB);
}

TEST_CASE("what one write in a hundred takes is known within an eighth") {
  UsualLatencies usual;
  for (uint64_t i = 0; i + 1 < UsualLatencies::kEnough; ++i) usual.record(i % 50 == 0 ? 3'000 : 100);
  CHECK(usual.high_us() == 0);
  usual.record(100);
  CHECK(usual.high_us() >= 3'000);
  CHECK(usual.high_us() <= 3'000 * 9 / 8);
  for (uint64_t i = 0; i < 8 * UsualLatencies::kRemembered; ++i) usual.record(100);
  CHECK(usual.high_us() <= 100 * 9 / 8);
  for (uint64_t i = 0; i < 8 * UsualLatencies::kRemembered; ++i) usual.record(UINT64_MAX);
  CHECK(usual.high_us() > 1'000'000);
  UsualLatencies small;
  for (uint64_t i = 0; i < UsualLatencies::kEnough; ++i) small.record(i % 8);
  CHECK(small.high_us() == 7);
}

TEST_CASE("what is usual is learnt in a break when writes begin during a resync") {
  Model model;
  model.copying = true;
  model.pass(1'000'000, 0);
  model.pass(2'000'000, 5);
  CHECK(model.pace.usual_latency_us() == 200);
  CHECK(model.pass(5'000'000, 5) <= 400);
}

TEST_CASE("the window is wide again when the application stops") {
  Model model;
  model.pass(1'000'000, 5);
  model.copying = true;
  model.pass(3'000'000, 5);
  CHECK(model.pace.window_bytes() < Pace::kMaximumWindowBytes / 2);
  model.pass(1'000'000, 0);
  CHECK(model.pace.window_bytes() == Pace::kMaximumWindowBytes);
}

TEST_CASE("the first writes after a quiet time do not queue behind a wide window") {
  Model model;
  model.pass(1'000'000, 5);
  model.copying = true;
  model.pass(2'000'000, 0);
  model.pace.write_began(model.now_us);
  CHECK(model.pace.window_bytes() <= kMiB);
}

TEST_CASE("a resync keeps its minimum rate however slow writes are") {
  Model model({0, 16 * kMiB});
  model.pass(1'000'000, 5);
  model.copying = true;
  model.per_megabyte_us = 100'000;
  model.pass(1'000'000, 5);
  const uint64_t before = model.copied_bytes;
  model.pass(5'000'000, 5);
  CHECK(model.copied_bytes - before >= 5 * 12 * kMiB);
}

TEST_CASE("the maximum rate is kept, also after a pause") {
  Model model({10 * kMiB, 4 * kMiB});
  model.pass(5'000'000, 0);
  model.copying = true;
  model.pass(2'000'000, 0);
  CHECK(model.copied_bytes <= 2 * 10 * kMiB + 2 * kMiB);
  CHECK(model.copied_bytes >= 2 * 9 * kMiB);
}

}  // namespace lockstep::repl
