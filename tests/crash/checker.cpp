#include "tests/crash/checker.h"

#include <algorithm>
#include <utility>

#include "io/base/check.h"

namespace lockstep::crash {

using repl::kBlockBytes;
using repl::SuperblockImage;

Checker::Checker(const Trace& trace, const CheckOptions& options)
    : trace_(trace), options_(options), random_(options.seed), may_differ_(divide_up(kBlocks, 64), 0) {
  nodes_[0] = std::make_unique<NodeState>(trace.first_metadata[0], options.folder + "/alpha", "alpha", "beta");
  nodes_[1] = std::make_unique<NodeState>(trace.first_metadata[1], options.folder + "/beta", "beta", "alpha");
}

void Checker::fail(const std::string& what) {
  if (!result_.violation.empty()) return;
  result_.violation = "after event " + std::to_string(event_) + ": " + what;
  for (auto line = trace_.story.rbegin(); line != trace_.story.rend(); ++line) {
    if (std::stoull(line->substr(6)) > event_) continue;
    result_.violation += " (the workload, last of all: " + *line + ")";
    break;
  }
}

CheckResult Checker::run() {
  for (event_ = 0; event_ < trace_.events.size() && result_.violation.empty(); ++event_) {
    const TraceEvent& event = trace_.events[event_];
    if (event.kind == TraceEvent::Kind::FlushAnswered) {
      check_flush(event);
      continue;
    }
    update(event);
    ++result_.crash_points;
    for (int node = 0; node < 2 && result_.violation.empty(); ++node) recover_every_state(node);
    update_differences();
    check_coverage();
  }
  return result_;
}

void Checker::update(const TraceEvent& event) {
  if (event.kind == TraceEvent::Kind::Session) return;
  NodeState& node = *nodes_[static_cast<size_t>(event.node)];
  io::DiskRequest request = event.request;
  request.bytes = event.bytes;
  if (event.kind == TraceEvent::Kind::Started) {
    event.metadata ? node.metadata.started(event.operation, request) : node.data.started(event.operation, request);
    if (node.metadata.writes_under_way() > 1) fail("two metadata writes are under way at once");
  } else {
    event.metadata ? node.metadata.ended(event.operation, event.error_errno)
                   : node.data.ended(event.operation, event.error_errno);
  }
}

void Checker::recover_every_state(int number) {
  NodeState& node = *nodes_[static_cast<size_t>(number)];
  if (node.checked_version == node.metadata.version()) return;
  node.checked_version = node.metadata.version();
  const auto open_sectors = node.metadata.open_sectors();
  // A write that has ended and is known durable leaves one state, which was among those before.
  node.recoverer.put(node.metadata.stable());
  const Recovered oldest = node.recoverer.recover();
  node.recoverer.put(node.metadata.newest());
  const Recovered newest = node.recoverer.recover();
  if (!oldest.error.empty() || !newest.error.empty()) {
    return fail("metadata without a torn write is refused: " + oldest.error + newest.error);
  }
  node.covered.assign(may_differ_.size(), UINT64_MAX);
  for (const MetadataModel::State& state :
       MetadataModel::states(open_sectors.size(), options_.states_of_a_write, random_)) {
    node.recoverer.put(node.metadata.stable());
    for (size_t i = 0; i < state.size(); ++i) {
      if (state[i]) node.recoverer.patch(open_sectors[i].offset_bytes, open_sectors[i].bytes);
    }
    ++result_.states;
    const bool cut = ++recoveries_ % options_.recovery_cut_every == 0;
    const std::vector<uint8_t> image = cut ? node.recoverer.content() : std::vector<uint8_t>();
    const Recovered recovered = node.recoverer.recover();
    check_recovered(number, recovered, oldest, newest);
    if (!result_.violation.empty()) return;
    for (size_t word = 0; word < node.covered.size(); ++word) node.covered[word] &= recovered.bits[word];
    if (cut) cut_recovery(number, image, recovered);
  }
}

namespace {

bool is_all_ones(const std::vector<uint64_t>& words) {
  return std::all_of(words.begin(), words.end(), [](uint64_t word) { return word == UINT64_MAX; });
}

}  // namespace

// The old state or the new one, in each part; a page that is neither counts as out of sync as a whole.
void Checker::check_recovered(int node, const Recovered& recovered, const Recovered& oldest, const Recovered& newest) {
  const std::string who = node == 0 ? "alpha" : "beta";
  if (!recovered.error.empty()) return fail(who + "'s metadata is refused after a crash: " + recovered.error);
  if (recovered.found != oldest.found && recovered.found != newest.found) {
    return fail(who + "'s superblock is neither the old one nor the new one");
  }
  if (!recovered.activity_log_valid) return fail(who + "'s activity log is called damaged after a crash");
  if (recovered.activity_log != oldest.activity_log && recovered.activity_log != newest.activity_log) {
    return fail(who + "'s activity log is neither the old one nor the new one");
  }
  for (size_t page = 0; page < recovered.pages.size(); ++page) {
    if (recovered.pages[page] != oldest.pages[page] && recovered.pages[page] != newest.pages[page] &&
        !is_all_ones(recovered.pages[page])) {
      return fail(who + "'s bitmap page " + std::to_string(page) + " is neither old, new nor all ones");
    }
  }
}

namespace {

// What recovery wrote, in order.
class RecoveryTrace final : public io::DiskObserver {
 public:
  struct Step {
    bool started = false;
    const void* operation = nullptr;
    io::DiskRequest request;
    std::vector<uint8_t> bytes;
  };
  std::vector<Step> steps;

  void disk_request_started(const void* operation, const io::DiskRequest& request) noexcept override {
    steps.push_back({true, operation, request, {request.bytes.begin(), request.bytes.end()}});
  }
  void disk_request_ended(const void* operation, int) noexcept override { steps.push_back({false, operation, {}, {}}); }
};

}  // namespace

// A recovery that is itself cut short anywhere, and started again, comes to the same end.
void Checker::cut_recovery(int number, const std::vector<uint8_t>& image, const Recovered& whole) {
  NodeState& node = *nodes_[static_cast<size_t>(number)];
  const auto without_pages = [](Recovered recovered) {
    recovered.pages.clear();
    recovered.activity_log.clear();
    recovered.found = SuperblockImage{};
    return recovered;
  };
  RecoveryTrace recovery;
  node.recoverer.put(image);
  node.recoverer.recover_wholly(&recovery);
  MetadataModel model(image);
  for (const RecoveryTrace::Step& step : recovery.steps) {
    io::DiskRequest request = step.request;
    request.bytes = step.bytes;
    step.started ? model.started(step.operation, request) : model.ended(step.operation, 0);
    const auto open_sectors = model.open_sectors();
    for (const MetadataModel::State& state : MetadataModel::states(open_sectors.size(), 16, random_)) {
      node.recoverer.put(model.stable());
      for (size_t i = 0; i < state.size(); ++i) {
        if (state[i]) node.recoverer.patch(open_sectors[i].offset_bytes, open_sectors[i].bytes);
      }
      ++result_.states;
      ++result_.cut_recoveries;
      const Recovered again = node.recoverer.recover();
      const std::string who = number == 0 ? "alpha" : "beta";
      if (!again.error.empty()) return fail(who + " is refused after a crash inside recovery: " + again.error);
      if (!again.activity_log_valid) return fail(who + "'s log is damaged after a crash inside recovery");
      const Recovered wanted = without_pages(whole), got = without_pages(again);
      if (got.image != wanted.image) return fail(who + "'s recovery, cut and repeated, ends with another superblock");
      for (size_t word = 0; word < got.bits.size(); ++word) {
        if ((wanted.bits[word] & ~got.bits[word]) != 0) {
          return fail(who + "'s recovery, cut and repeated, forgets blocks that are out of sync");
        }
      }
    }
  }
}

// A sector may be its stable content or any that was written since. A block whose sectors may differ between the
// nodes is one that some pair of such states makes differ; which, does not matter for what must cover it.
void Checker::update_differences() {
  std::vector<uint64_t> touched = nodes_[0]->data.take_touched();
  const std::vector<uint64_t> also = nodes_[1]->data.take_touched();
  touched.insert(touched.end(), also.begin(), also.end());
  constexpr uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;
  for (uint64_t& sector : touched) sector /= kSectorsPerBlock;
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (const uint64_t block : touched) {
    bool differs = false;
    for (uint64_t i = 0; i < kSectorsPerBlock && !differs; ++i) {
      const DataModel::Sector& first = nodes_[0]->data.sector(block * kSectorsPerBlock + i);
      const DataModel::Sector& second = nodes_[1]->data.sector(block * kSectorsPerBlock + i);
      const auto is_other = [&](const auto& pending) { return pending.second != first.stable; };
      differs = first.stable != second.stable || std::any_of(first.pending.begin(), first.pending.end(), is_other) ||
                std::any_of(second.pending.begin(), second.pending.end(), is_other);
    }
    const uint64_t bit = uint64_t{1} << (block % 64);
    may_differ_[block / 64] = differs ? may_differ_[block / 64] | bit : may_differ_[block / 64] & ~bit;
  }
}

// Whatever state of its metadata each of the two nodes is left with, one of them knows.
void Checker::check_coverage() {
  if (!result_.violation.empty()) return;
  for (size_t word = 0; word < may_differ_.size(); ++word) {
    const uint64_t uncovered = may_differ_[word] & ~(nodes_[0]->covered[word] | nodes_[1]->covered[word]);
    if (uncovered == 0) continue;
    const auto block = word * 64 + static_cast<size_t>(__builtin_ctzll(uncovered));
    return fail("block " + std::to_string(block) +
                " may differ between the nodes, and after recovery neither knows it");
  }
}

void Checker::check_flush(const TraceEvent& event) {
  ++result_.flushes;
  for (int number = 0; number < 2; ++number) {
    if (number != event.node && !event.everywhere) continue;
    for (const auto& [sector, value] : event.acknowledged) {
      const DataModel::Sector& found = nodes_[static_cast<size_t>(number)]->data.sector(sector);
      const bool older_is_possible =
          found.stable < value || std::any_of(found.pending.begin(), found.pending.end(),
                                              [value = value](const auto& one) { return one.second < value; });
      if (older_is_possible) {
        return fail("a flush was answered, and write " + std::to_string(value) + " to sector " +
                    std::to_string(sector) + " is not on the stable storage of " + (number == 0 ? "alpha" : "beta"));
      }
    }
  }
}

}  // namespace lockstep::crash
