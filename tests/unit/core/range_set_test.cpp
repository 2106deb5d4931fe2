// The ranges that are busy, against a map that is searched block by block.
#include "replicator/core/range_set.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>

namespace lockstep::repl {

TEST_CASE("ranges that touch do not overlap") {
  RangeSet busy(4);
  CHECK(busy.empty());
  busy.insert(1, {4096, 4096});
  CHECK_FALSE(busy.overlaps({0, 4096}));
  CHECK_FALSE(busy.overlaps({8192, 4096}));
  CHECK(busy.overlaps({0, 4097}));
  CHECK(busy.overlaps({8191, 1}));
  CHECK(busy.overlaps({0, 65536}));
  busy.erase(1);
  CHECK(busy.empty());
  CHECK_FALSE(busy.overlaps({4096, 4096}));
}

TEST_CASE("a range set knows what is busy as long as its slot holds it") {
  std::mt19937_64 random(3);
  RangeSet busy(12);
  std::map<uint32_t, ByteRange> model;
  int overlapping = 0;
  for (int step = 0; step < 20'000; ++step) {
    const auto slot = static_cast<uint32_t>(random() % 12);
    if (model.count(slot) != 0) {
      busy.erase(slot);
      model.erase(slot);
    } else {
      const ByteRange range{random() % 100, 1 + random() % 5};
      busy.insert(slot, range);  // may overlap others: who asks decides
      model[slot] = range;
    }
    REQUIRE(busy.empty() == model.empty());
    const ByteRange asked{random() % 100, 1 + random() % 5};
    bool expected = false;
    for (uint64_t byte = asked.offset_bytes; byte < asked.end_bytes(); ++byte) {
      for (const auto& [holder, range] : model) {
        expected = expected || (byte >= range.offset_bytes && byte - range.offset_bytes < range.length_bytes);
      }
    }
    REQUIRE(busy.overlaps(asked) == expected);
    overlapping += expected ? 1 : 0;
  }
  CHECK(overlapping > 1000);
}

}  // namespace lockstep::repl
