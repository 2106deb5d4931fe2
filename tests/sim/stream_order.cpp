#include "tests/sim/stream_order.h"

#include <algorithm>
#include <string>

#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

void StreamOrder::prepare() {
  streams_.resize(static_cast<size_t>(world_.node_count()));
  sources_.assign(static_cast<size_t>(world_.node_count()), kNobody);
}

void StreamOrder::sent(int from, int to, Incarnation incarnation, const Message& message, Value value) {
  Stream& stream = streams_[static_cast<size_t>(to)];
  const auto* write = std::get_if<Write>(&message);
  const auto* zeroes = std::get_if<WriteZeroes>(&message);
  const auto* rules = std::get_if<StreamRules>(&message);
  const bool barrier = std::holds_alternative<Barrier>(message);
  if (write == nullptr && zeroes == nullptr && rules == nullptr && !barrier) return;
  const int source = sources_[static_cast<size_t>(to)];
  if (source != kNobody && source != from) return;
  if (stream.from != from || stream.incarnation != incarnation) {
    check(to);
    stream = Stream{from, incarnation, false, {}, {}};
  }
  if (rules != nullptr) stream.ordered = rules->ordered;
  if (write != nullptr && !write->resync) {
    const Layout::Units units = world_.layout.units(write->range);
    stream.writes.push_back({write->sequence, units, value, is_sent_again(stream, to, units, value)});
  }
  if (zeroes != nullptr && !zeroes->resync) {
    stream.writes.push_back({zeroes->sequence, world_.layout.units(zeroes->range), 0, false});
  }
  if (barrier && stream.ordered && !stream.writes.empty()) stream.barriers.push_back(stream.writes.size());
  if (stream.writes.size() >= 64) trim(stream, to);
}

// By a Primary without a disk, when one that served is lost: what the target holds it may hold from the first time.
bool StreamOrder::is_sent_again(const Stream& stream, int target, const Layout::Units& units, Value value) const {
  const Disk& disk = world_.node(target).disk();
  for (size_t unit = units.first; unit < units.end; ++unit) {
    if (disk.read(unit) == value) return true;
  }
  return std::any_of(stream.writes.begin(), stream.writes.end(),
                     [value](const Sent& each) { return each.value == value; });
}

void StreamOrder::trim(Stream& stream, int target) {
  const Sequence flushed = world_.node(stream.from).peer(target).flushed;
  const auto kept = std::find_if(stream.writes.begin(), stream.writes.end(),
                                 [flushed](const Sent& each) { return each.sequence > flushed; });
  const auto dropped = static_cast<size_t>(kept - stream.writes.begin());
  stream.writes.erase(stream.writes.begin(), kept);
  std::erase_if(stream.barriers, [dropped](size_t place) { return place <= dropped; });
  for (size_t& place : stream.barriers) place -= dropped;
}

void StreamOrder::check_all() const {
  for (int target = 0; target < world_.node_count(); ++target) check(target);
}

void StreamOrder::check(int target) const {
  const Stream& stream = streams_[static_cast<size_t>(target)];
  if (stream.barriers.empty()) return;
  const Disk& disk = world_.node(target).disk();
  const auto& writes = stream.writes;
  const auto reached_disk = [&disk](const Sent& each) {
    if (each.value == 0 || each.again) return false;  // others bring zeroes, too
    for (size_t unit = each.units.first; unit < each.units.end; ++unit) {
      if (disk.read(unit) == each.value) return true;
    }
    return false;
  };
  size_t newest = writes.size();
  while (newest > 0 && !reached_disk(writes[newest - 1])) --newest;
  // `newest` writes, counted from the front: barriers in front of the last of them must be done.
  size_t in_front = 0;
  for (const size_t place : stream.barriers) {
    if (place < newest) in_front = std::max(in_front, place);
  }
  for (size_t i = 0; i < in_front; ++i) {
    for (size_t unit = writes[i].units.first; unit < writes[i].units.end; ++unit) {
      const Value stable = disk.stable(unit);
      const bool kept = std::any_of(
          writes.begin() + static_cast<std::ptrdiff_t>(i), writes.end(),
          [&](const Sent& each) { return each.value == stable && each.units.first <= unit && unit < each.units.end; });
      if (kept) continue;
      return world_.fail("node " + std::to_string(target) + " wrote " + std::to_string(writes[newest - 1].value) +
                         " behind a barrier, and unit " + std::to_string(unit) + " lacks " +
                         std::to_string(writes[i].value) + " that stands in front of it");
    }
  }
}

}  // namespace lockstep::sim
