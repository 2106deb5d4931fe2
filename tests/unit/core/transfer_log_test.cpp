// The ring of writes that are not stable everywhere, against a deque.
#include "replicator/core/transfer_log.h"

#include <catch2/catch.hpp>
#include <deque>
#include <random>

namespace lockstep::repl {

TEST_CASE("a new transfer log is empty and gives 1 first") {
  TransferLog log(4);
  CHECK(log.empty());
  CHECK(log.size() == 0);
  CHECK(log.capacity() == 4);
  CHECK(log.last() == 0);
  CHECK_FALSE(log.contains(0));
  CHECK_FALSE(log.contains(1));
  CHECK(log.append({}) == 1);
  CHECK(log.first() == 1);
  CHECK(log.contains(1));
}

TEST_CASE("a transfer log keeps what a deque keeps, many times around its ring") {
  std::mt19937_64 random(11);
  TransferLog log(7);
  std::deque<std::pair<Sequence, uint64_t>> model;
  Sequence next = 1;
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 2 == 0 && !log.full()) {
      TransferEntry entry;
      entry.range = {random() % 1000 * kBlockBytes, kBlockBytes};
      REQUIRE(log.append(entry) == next);
      model.emplace_back(next++, entry.range.offset_bytes);
    } else if (!log.empty()) {
      log.drop_first();
      model.pop_front();
    }
    REQUIRE(log.size() == model.size());
    REQUIRE(log.empty() == model.empty());
    REQUIRE(log.full() == (model.size() == 7));
    REQUIRE(log.last() == next - 1);
    REQUIRE_FALSE(log.contains(next));
    if (model.empty()) continue;
    REQUIRE(log.first() == model.front().first);
    REQUIRE_FALSE(log.contains(model.front().first - 1));
    for (const auto& [sequence, offset_bytes] : model) REQUIRE(log.at(sequence).range.offset_bytes == offset_bytes);
  }
  CHECK(next > 5000);
}

TEST_CASE("an entry can be changed where it stands") {
  TransferLog log(3);
  const Sequence first = log.append({});
  const Sequence second = log.append({});
  log.at(second).written_by |= mask_of(6);
  log.at(second).local_done = true;
  CHECK(log.at(first).written_by == 0);
  CHECK(log.at(second).written_by == 0x40);
  log.drop_first();
  CHECK(log.at(second).local_done);
}

}  // namespace lockstep::repl
