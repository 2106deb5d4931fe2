#include "tools/watch_screen.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "io/base/units.h"
#include "tools/progress_line.h"
#include "tools/render.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

// Told apart by words and marks first: colours repeat them, in pairs that no colour blindness makes one.
enum class Look : uint8_t { Plain, Bold, Good, Warning, Bad };

const char* code_of(Look look) {
  switch (look) {
    case Look::Bold:
      return "\033[1m";
    case Look::Good:
      return "\033[36m";  // cyan
    case Look::Warning:
      return "\033[1;33m";  // yellow
    case Look::Bad:
      return "\033[1;7m";  // reversed
    case Look::Plain:
      break;
  }
  return "";
}

const char* mark_of(Look look) {
  switch (look) {
    case Look::Warning:
      return " !  ";
    case Look::Bad:
      return " !! ";
    default:
      return " ok ";
  }
}

class Screen {
 public:
  explicit Screen(const WatchView& view) : view_(view) {}

  Screen& add(const std::string& text, Look look = Look::Plain) {
    const std::string shown = text.substr(0, view_.columns - std::min(used_, view_.columns));
    used_ += shown.size();
    if (shown.empty()) return *this;
    const bool coloured = view_.colours && look != Look::Plain;
    line_ += coloured ? code_of(look) + shown + "\033[0m" : shown;
    return *this;
  }
  void end_line() {
    lines_.push_back(std::move(line_));
    line_.clear();
    used_ = 0;
  }
  std::string take() {
    if (lines_.size() > view_.rows && view_.rows > 0) {
      const size_t more = lines_.size() - view_.rows + 1;
      lines_.resize(view_.rows - 1);
      lines_.push_back("... " + std::to_string(more) + " more lines: the screen is too low");
    }
    std::string text;
    for (const std::string& line : lines_) text += line + "\r\n";
    return text;
  }

 private:
  const WatchView& view_;
  std::vector<std::string> lines_;
  std::string line_;
  size_t used_ = 0;
};

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string("?");
}

uint64_t number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<uint64_t>() : 0;
}

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.resize(width, ' ');
  return text;
}

std::string format_count(double count) {
  std::array<char, 32> text{};
  if (count >= 100'000) {
    std::snprintf(text.data(), text.size(), "%.0fk", count / 1000);
  } else if (count >= 10'000) {
    std::snprintf(text.data(), text.size(), "%.1fk", count / 1000);
  } else {
    std::snprintf(text.data(), text.size(), "%.0f", count);
  }
  return text.data();
}

std::string format_ms(uint64_t us) {
  if (us == UINT64_MAX) return ">5s";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), us % 1000 == 0 ? "%.0f" : (us < 100 ? "%.2f" : "%.1f"),
                static_cast<double>(us) / 1000);
  return text.data();
}

Look look_of_disk(const std::string& state) {
  if (state == "UpToDate") return Look::Good;
  return state == "Outdated" || state == "Consistent" || state == "Attaching" ? Look::Warning : Look::Bad;
}

Look look_of_peer(const json& peer) {
  const std::string connection = text_of(peer, "connection-state");
  if (connection == "StandAlone") return Look::Bad;
  if (connection != "Connected") return Look::Warning;
  const std::string replication = text_of(peer, "replication-state");
  const bool in_sync = replication == "Established" || replication == "VerifyS" || replication == "VerifyT";
  const Look disk = look_of_disk(text_of(peer, "disk-state"));
  if (in_sync) return disk;
  return disk == Look::Bad && replication == "Off" ? Look::Bad : Look::Warning;
}

bool is_being_mended(const json& status) {
  const json peers = status.value("peers", json::array());
  return std::any_of(peers.begin(), peers.end(),
                     [](const json& peer) { return text_of(peer, "replication-state") == "SyncTarget"; });
}

Look look_of_node(const json& status) {
  if (text_of(status, "suspended") != "no" || status.value("failing", false)) return Look::Bad;
  const Look disk = look_of_disk(text_of(status, "disk-state"));
  if (disk == Look::Bad && is_being_mended(status)) return Look::Warning;
  if (disk != Look::Good) return disk;
  return status.value("degraded", false) ? Look::Warning : Look::Good;
}

const json* counts_of(const json& latencies, const char* key) {
  const auto found = latencies.find(key);
  return found == latencies.end() ? nullptr : &*found;
}

struct Span {
  const WatchSample& before;
  const WatchSample& now;
  double per_second(const char* key) const {
    const uint64_t first = number_of(before.status, key);
    const uint64_t last = number_of(now.status, key);
    if (now.at_ms <= before.at_ms || last < first) return 0;
    return static_cast<double>(last - first) * 1000 / static_cast<double>(now.at_ms - before.at_ms);
  }
  std::string percentiles(const char* label, const json* counts_before, const json* counts_now) const {
    if (counts_before == nullptr || counts_now == nullptr) return {};
    const json* bounds = counts_of(now.latencies, "bounds-us");
    if (bounds == nullptr) return {};
    const uint64_t middle_us = percentile_us(*bounds, *counts_before, *counts_now, 0.5);
    if (middle_us == 0) return {};
    return std::string("  ") + label + " " + format_ms(middle_us) + "/" +
           format_ms(percentile_us(*bounds, *counts_before, *counts_now, 0.99));
  }
};

// What nobody asked for in the last seconds is left out.
std::string latency_words(const Span& span) {
  std::string text;
  for (const auto& [key, label] : {std::pair{"write", "write"},
                                   {"flush", "flush"},
                                   {"read", "read"},
                                   {"local-write", "disk"},
                                   {"local-flush", "fsync"}}) {
    text += span.percentiles(label, counts_of(span.before.latencies, key), counts_of(span.now.latencies, key));
  }
  const json* before = counts_of(span.before.latencies, "peer-write");
  const json* now = counts_of(span.now.latencies, "peer-write");
  if (before == nullptr || now == nullptr) return text;
  for (const auto& [peer, counts] : now->items()) {
    text += span.percentiles(peer.c_str(), counts_of(*before, peer.c_str()), &counts);
  }
  return text;
}

void add_progress(Screen& screen, const json& peer, const char* what, size_t columns) {
  const auto found = peer.find(what);
  if (found == peer.end() || !found->is_object()) return;
  screen.add(progress_line("      " + std::string(what), progress_of(*found), columns), Look::Bold).end_line();
}

void add_peer(Screen& screen, const json& peer, size_t columns) {
  const Look look = look_of_peer(peer);
  const std::string name = text_of(peer, "node");
  screen.add(mark_of(look), look).add("  " + padded(name, 12) + " ");
  const std::string connection = text_of(peer, "connection-state");
  screen.add(connection, connection == "Connected" ? Look::Plain : look);
  if (connection == "Connected") {
    screen.add(" " + text_of(peer, "role") + " ");
    screen.add(text_of(peer, "disk-state"), look_of_disk(text_of(peer, "disk-state")));
    screen.add(" " + text_of(peer, "replication-state"));
    screen.add(" lag " + format_size(number_of(peer, "lag-bytes")) + "/" + std::to_string(number_of(peer, "lag-ms")) +
               "ms");
  }
  if (peer.value("split-brain", false)) screen.add("  SPLIT BRAIN: see 'lockstep explain'", Look::Bad);
  if (peer.value("unrelated", false)) screen.add("  UNRELATED DATA: see 'lockstep explain'", Look::Bad);
  screen.end_line();
  const uint64_t lacks_bytes = number_of(peer, "out-of-sync-bytes");
  if (lacks_bytes != 0 && !peer.contains("resync")) {
    screen.add("      out of sync: " + format_size(lacks_bytes), Look::Warning).end_line();
  }
  add_progress(screen, peer, "resync", columns);
  add_progress(screen, peer, "verify", columns);
}

void add_node(Screen& screen, const std::deque<WatchSample>& samples, size_t columns) {
  const Span span{samples.front(), samples.back()};
  const json& status = span.now.status;
  const Look look = look_of_node(status);
  screen.add(mark_of(look), look);
  screen.add(padded(text_of(status, "resource") + " on " + text_of(status, "node"), 24) + " ", Look::Bold);
  screen.add(padded(text_of(status, "role"), 10));
  screen.add(text_of(status, "disk-state"), look_of_disk(text_of(status, "disk-state")));
  screen.add("  " + format_size(number_of(status, "size-bytes")) + ", protocol " + text_of(status, "protocol"));
  const std::string sync = text_of(status, "sync");
  if (sync != "all" && sync != "?") screen.add(", sync " + sync);
  if (status.value("degraded", false)) screen.add(", degraded", Look::Warning);
  screen.end_line();
  if (status.value("failing", false)) {
    screen.add("      REQUESTS FAIL: see 'lockstep explain " + text_of(status, "resource") + "'", Look::Bad).end_line();
  }
  if (text_of(status, "suspended") != "no") {
    screen
        .add("      SUSPENDED (" + text_of(status, "suspended") + "): see 'lockstep explain " +
                 text_of(status, "resource") + "'",
             Look::Bad)
        .end_line();
  }
  if (text_of(status, "role") == "Primary") {
    uint64_t clients = 0;
    for (const json& nbd : status.value("nbd", json::array())) clients = std::max(clients, number_of(nbd, "clients"));
    const auto bytes = [&](const char* key) { return format_size(static_cast<uint64_t>(span.per_second(key))) + "/s"; };
    screen.add("      write " + format_count(span.per_second("writes")) + "/s " + bytes("written-bytes") + "  read " +
               format_count(span.per_second("reads")) + "/s " + bytes("read-bytes") + "  flush " +
               format_count(span.per_second("flushes")) + "/s  in flight " +
               std::to_string(number_of(status, "in-flight")) + "  clients " + std::to_string(clients));
    screen.end_line();
    const std::string latencies = latency_words(span);
    if (!latencies.empty()) screen.add("      p50/p99<=ms" + latencies).end_line();
  }
  for (const json& peer : status.value("peers", json::array())) add_peer(screen, peer, columns);
}

}  // namespace

uint64_t percentile_us(const json& bounds, const json& before, const json& now, double part) {
  if (!bounds.is_array() || !before.is_array() || !now.is_array() || before.size() != now.size()) return 0;
  std::vector<uint64_t> counts;
  uint64_t total = 0;
  for (size_t i = 0; i < now.size(); ++i) {
    const auto first = before[i].get<uint64_t>();
    const auto last = now[i].get<uint64_t>();
    counts.push_back(last >= first ? last - first : 0);
    total += counts.back();
  }
  if (total == 0) return 0;
  const double wanted = part * static_cast<double>(total);
  uint64_t passed = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    passed += counts[i];
    if (static_cast<double>(passed) >= wanted) return i < bounds.size() ? bounds[i].get<uint64_t>() : UINT64_MAX;
  }
  return UINT64_MAX;
}

std::string render_watch(const WatchHistory& history, const WatchView& view) {
  Screen screen(view);
  screen.add(view.title, Look::Bold).end_line();
  for (const auto& [name, samples] : history) {
    if (!samples.empty()) add_node(screen, samples, view.columns);
  }
  for (const std::string& notice : view.notices) screen.add(" !! ", Look::Bad).add(notice).end_line();
  if (history.empty() && view.notices.empty()) screen.add("no resource runs here").end_line();
  return screen.take();
}

}  // namespace lockstep::tools
