// The activity log against a model that searches from end to end and undoes what it tried in vain.
#include "replicator/core/activity_log.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <list>
#include <random>
#include <set>
#include <vector>

namespace lockstep::repl {
namespace {

constexpr ByteRange extents(uint32_t first, uint32_t count = 1) {
  return {uint64_t{first} * kExtentBytes, uint64_t{count} * kExtentBytes};
}

struct Model {
  explicit Model(uint32_t slot_count) : slots(slot_count) {
    for (uint32_t slot = 0; slot < slot_count; ++slot) oldest_first.push_back(slot);
  }
  struct Slot {
    uint32_t extent = kNoExtent;
    uint32_t references = 0;
    bool durable = false;
  };
  std::vector<Slot> slots;
  std::list<uint32_t> oldest_first;  // of those without references
  std::vector<ActivityLogUpdate> updates;
  std::vector<uint32_t> evicted;

  Slot* find(uint32_t extent) {
    const auto found =
        std::find_if(slots.begin(), slots.end(), [extent](const Slot& slot) { return slot.extent == extent; });
    return found == slots.end() ? nullptr : &*found;
  }
  void refer(Slot& slot) {
    if (slot.references++ == 0) oldest_first.remove(static_cast<uint32_t>(&slot - slots.data()));
  }
  bool acquire_hot(uint32_t first, uint32_t count) {
    for (uint32_t extent = first; extent < first + count; ++extent) {
      if (find(extent) == nullptr || !find(extent)->durable) return false;
    }
    for (uint32_t extent = first; extent < first + count; ++extent) refer(*find(extent));
    return true;
  }
  void release(uint32_t first, uint32_t count) {
    for (uint32_t extent = first; extent < first + count; ++extent) {
      Slot* slot = find(extent);
      REQUIRE(slot != nullptr);
      if (--slot->references == 0) oldest_first.push_back(static_cast<uint32_t>(slot - slots.data()));
    }
  }
  bool reserve(uint32_t first, uint32_t count) {
    const Model before = *this;
    for (uint32_t extent = first; extent < first + count; ++extent) {
      if (Slot* slot = find(extent); slot != nullptr) refer(*slot);
    }
    for (uint32_t extent = first; extent < first + count; ++extent) {
      if (find(extent) != nullptr) continue;
      if (oldest_first.empty() || updates.size() == 64) {
        *this = before;
        return false;
      }
      Slot& victim = slots[oldest_first.front()];
      if (victim.extent != kNoExtent) evicted.push_back(victim.extent);
      victim = Slot{extent, 0, false};
      refer(victim);
      updates.push_back({static_cast<uint32_t>(&victim - slots.data()), extent});
    }
    return true;
  }
  void commit() {
    for (const ActivityLogUpdate& update : updates) slots[update.slot].durable = true;
    updates.clear();
    evicted.clear();
  }
};

bool same(const ActivityLog& log, Model& model) {
  for (uint32_t slot = 0; slot < model.slots.size(); ++slot) {
    if (log.slots()[slot] != model.slots[slot].extent) return false;
  }
  const auto referenced = std::count_if(model.slots.begin(), model.slots.end(),
                                        [](const Model::Slot& slot) { return slot.references > 0; });
  return log.referenced_slots() == static_cast<uint32_t>(referenced) &&
         std::equal(log.updates().begin(), log.updates().end(), model.updates.begin(), model.updates.end(),
                    [](const ActivityLogUpdate& a, const ActivityLogUpdate& b) {
                      return a.slot == b.slot && a.extent == b.extent;
                    }) &&
         std::equal(log.evicted().begin(), log.evicted().end(), model.evicted.begin(), model.evicted.end());
}

void make_hot(ActivityLog& log, uint32_t extent) {
  log.begin_transaction();
  REQUIRE(log.reserve(extents(extent)));
  log.commit_transaction();
  log.release(extents(extent));
}

}  // namespace

TEST_CASE("an activity log does what its model does, through long random runs") {
  const uint32_t slot_count = GENERATE(18, 40, 200);
  CAPTURE(slot_count);
  std::mt19937_64 random(slot_count);
  const uint32_t device_extents = slot_count * 4;
  ActivityLog log(slot_count);
  Model model(slot_count);
  struct Taken {
    uint32_t first, count;
  };
  std::vector<Taken> taken;     // usable
  std::vector<Taken> reserved;  // their transaction is under way
  bool transaction = false;
  uint64_t evictions = 0, refusals = 0;

  for (int step = 0; step < 30'000; ++step) {
    const auto count = static_cast<uint32_t>(1 + (random() % 4 == 0 ? random() % 9 : 0));
    const auto first = static_cast<uint32_t>(random() % (device_extents - count));
    const uint64_t what = random() % 10;
    if (what < 3) {
      const bool hot = log.acquire_hot(extents(first, count));
      REQUIRE(hot == model.acquire_hot(first, count));
      if (hot) taken.push_back({first, count});
    } else if (what < 6 && !taken.empty()) {
      const size_t which = random() % taken.size();
      log.release(extents(taken[which].first, taken[which].count));
      model.release(taken[which].first, taken[which].count);
      taken[which] = taken.back();
      taken.pop_back();
    } else if (what < 9) {
      if (!transaction) log.begin_transaction();
      transaction = true;
      const bool found = log.reserve(extents(first, count));
      REQUIRE(found == model.reserve(first, count));
      if (found) {
        reserved.push_back({first, count});
      } else {
        ++refusals;
      }
      REQUIRE(log.updates().size() <= kActivityLogUpdatesPerTransaction);
    } else if (transaction) {
      evictions += log.evicted().size();
      log.commit_transaction();
      model.commit();
      transaction = false;
      taken.insert(taken.end(), reserved.begin(), reserved.end());
      reserved.clear();
    }
    REQUIRE(same(log, model));
  }
  CHECK(evictions > 500);
  CHECK(refusals > 50);

  // An extent never stands in two slots.
  std::set<uint32_t> distinct;
  for (const uint32_t extent : log.slots()) {
    if (extent != kNoExtent) CHECK(distinct.insert(extent).second);
  }
}

TEST_CASE("the extent that was used least recently turns cold first") {
  ActivityLog log(18);
  for (uint32_t extent = 100; extent < 118; ++extent) make_hot(log, extent);
  REQUIRE(log.acquire_hot(extents(100)));  // used again: now the youngest
  log.release(extents(100));

  log.begin_transaction();
  REQUIRE(log.reserve(extents(7)));
  REQUIRE(log.evicted().size() == 1);
  CHECK(log.evicted()[0] == 101);
  REQUIRE(log.updates().size() == 1);
  CHECK(log.updates()[0].extent == 7);
  CHECK(log.slots()[log.updates()[0].slot] == 7);
}

TEST_CASE("an extent that something refers to never turns cold") {
  ActivityLog log(18);
  for (uint32_t extent = 0; extent < 18; ++extent) make_hot(log, extent);
  for (uint32_t extent = 0; extent < 17; ++extent) REQUIRE(log.acquire_hot(extents(extent)));

  log.begin_transaction();
  REQUIRE(log.reserve(extents(50)));  // in the one slot that is left
  CHECK(log.evicted()[0] == 17);
  CHECK_FALSE(log.reserve(extents(51)));
  log.commit_transaction();
  log.release(extents(3));
  log.begin_transaction();
  REQUIRE(log.reserve(extents(51)));
  CHECK(log.evicted()[0] == 3);
}

TEST_CASE("an extent is not hot before its transaction is durable") {
  ActivityLog log(18);
  log.begin_transaction();
  REQUIRE(log.reserve(extents(4, 2)));
  CHECK_FALSE(log.acquire_hot(extents(4)));
  log.commit_transaction();
  CHECK(log.acquire_hot(extents(4)));
  CHECK(log.acquire_hot(extents(5)));
  CHECK_FALSE(log.acquire_hot(extents(5, 2)));  // extent 6 is cold: no reference on 5 is left behind
  log.release(extents(4));
  log.release(extents(5));
  log.release(extents(4, 2));  // the reservation's own
  CHECK(log.referenced_slots() == 0);
}

TEST_CASE("a reservation is for all of its extents or for none") {
  ActivityLog log(18);
  for (uint32_t extent = 0; extent < 18; ++extent) make_hot(log, extent);
  for (uint32_t extent = 0; extent < 16; ++extent) REQUIRE(log.acquire_hot(extents(extent)));
  // Free are the slots of 16 and 17. The range holds 17 itself, which is then no victim for 18 and 19.
  log.begin_transaction();
  CHECK_FALSE(log.reserve(extents(17, 3)));
  CHECK(log.updates().empty());
  CHECK(log.evicted().empty());
  CHECK(log.referenced_slots() == 16);
  CHECK(log.reserve(extents(17, 2)));
  CHECK(log.referenced_slots() == 18);
}

TEST_CASE("a transaction takes 64 updates and not one more") {
  ActivityLog log(200);
  log.begin_transaction();
  for (uint32_t extent = 0; extent < 63; ++extent) REQUIRE(log.reserve(extents(2 * extent)));
  CHECK_FALSE(log.reserve(extents(1000, 2)));
  CHECK(log.updates().size() == 63);
  CHECK(log.reserve(extents(1000)));
  CHECK(log.updates().size() == 64);
  CHECK_FALSE(log.reserve(extents(2000)));
  CHECK(log.reserve(extents(1000)));  // reserved already: needs no update
  log.commit_transaction();
  log.begin_transaction();
  CHECK(log.reserve(extents(2000)));
}

TEST_CASE("a range that ends within an extent needs that extent as well") {
  ActivityLog log(18);
  make_hot(log, 0);
  CHECK(log.acquire_hot({kExtentBytes - 4096, 4096}));
  CHECK_FALSE(log.acquire_hot({kExtentBytes - 4096, 8192}));
}

TEST_CASE("a cleared log is as good as new") {
  ActivityLog log(18);
  for (uint32_t extent = 0; extent < 30; ++extent) make_hot(log, extent);
  CHECK_FALSE(log.is_empty());
  log.clear();
  CHECK(log.is_empty());
  CHECK_FALSE(log.acquire_hot(extents(29)));
  log.begin_transaction();
  for (uint32_t extent = 0; extent < 18; ++extent) REQUIRE(log.reserve(extents(extent)));
  CHECK(log.evicted().empty());
}

}  // namespace lockstep::repl
