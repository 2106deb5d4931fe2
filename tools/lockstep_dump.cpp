// dump-metadata: what a stopped node has on stable storage about itself.
#include <nlohmann/json.hpp>

#include "io/base/units.h"
#include "replicator/metadata_setup.h"
#include "tools/disk_inspection.h"
#include "tools/lockstep_common.h"
#include "tools/stopped_node.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;
using repl::to_string;

json dump_activity_log(const repl::MetadataSummary& summary) {
  json log = {{"valid", summary.activity_log_valid}, {"slots", summary.superblock.identity.activity_log_slots}};
  if (!summary.activity_log_valid) return log;
  log["next-transaction"] = summary.next_transaction;
  log["hot-extents"] = summary.hot_extents;
  return log;
}

json dump_life(const repl::Life& life) {
  return {{"birth", life.birth}, {"age", life.age}};
}

// What is not as it was written, in words; empty when all is.
std::vector<std::string> damages(const repl::MetadataSummary& summary) {
  std::vector<std::string> found;
  for (size_t copy = 0; copy < summary.copies.size(); ++copy) {
    if (!summary.copies[copy].valid) {
      found.push_back("superblock copy " + std::to_string(copy + 1) + " is damaged: the other one counts");
    }
  }
  if (summary.copies[0].valid && summary.copies[1].valid && !summary.superblock_copies_agree) {
    found.emplace_back("the superblock copies differ, as a crash leaves them: the newer one counts");
  }
  if (summary.cut_off) found.emplace_back("the file is too short: what is missing counts as damaged");
  if (!summary.activity_log_valid) found.emplace_back("the activity log is damaged: every extent counts as hot");
  for (size_t peer = 0; peer < summary.bitmaps.size(); ++peer) {
    const auto& bitmap = summary.bitmaps[peer];
    if (bitmap.damaged_pages == 0) continue;
    std::string text = "bitmap of " + summary.superblock.peer_names[peer] + ": " +
                       std::to_string(bitmap.damaged_pages) + " damaged pages, whose blocks count as out of sync:";
    for (const uint32_t page : bitmap.first_damaged) text += " " + std::to_string(page);
    if (bitmap.damaged_pages > bitmap.first_damaged.size()) text += " …";
    found.push_back(std::move(text));
  }
  return found;
}

json dump_peer(const repl::MetadataSummary& summary, size_t peer) {
  const repl::PeerRecord& record = summary.superblock.image.peers[peer];
  const repl::MetadataSummary::Bitmap& bitmap = summary.bitmaps[peer];
  return {{"node", summary.superblock.peer_names[peer]},
          {"bitmap-generation", to_string(record.bitmap_generation)},
          {"previous-bitmap-generation", to_string(record.previous_bitmap_generation)},
          {"crashed-primary", record.crashed_primary},
          {"bitmap-in-memory", record.bitmap_in_memory},
          {"answered-ahead", record.answered_ahead},
          {"ahead-term", record.ahead_term},
          {"dirty-blocks", bitmap.dirty_blocks},
          {"dirty-bytes", bitmap.dirty_blocks * repl::kBlockBytes},
          {"damaged-pages", bitmap.damaged_pages},
          {"first-damaged-pages", bitmap.first_damaged},
          {"life", dump_life(summary.superblock.image.peer_lives[peer])}};
}

std::string_view waited_for(repl::WaitedFor known) {
  switch (known) {
    case repl::WaitedFor::Yes:
      return "yes";
    case repl::WaitedFor::No:
      return "no";
    case repl::WaitedFor::Unknown:
      break;
  }
  return "unknown";
}

// With more than one peer: what survivors of a Primary tell each other.
json dump_standing(const repl::SuperblockImage& image) {
  const repl::StreamPosition& stable = image.stable_position;
  return {{"term", image.term},
          {"waited-for", waited_for(image.waited_for)},
          {"stable", {{"stream", stable.stream}, {"through", stable.through}, {"term", stable.term}}}};
}

json dump(const repl::MetadataSummary& summary) {
  const repl::Superblock& superblock = summary.superblock;
  json history = json::array();
  for (const repl::Generation& generation : superblock.image.history) {
    if (!generation.is_zero()) history.push_back(to_string(generation));
  }
  json peers = json::array();
  for (size_t peer = 0; peer < summary.bitmaps.size(); ++peer) peers.push_back(dump_peer(summary, peer));
  return {{"version", repl::kMetadataVersion},
          {"resource", superblock.resource_name},
          {"resource-id", to_string(superblock.identity.resource_id)},
          {"node", superblock.node_name},
          {"size-bytes", superblock.identity.size_bytes},
          {"sequence", superblock.sequence},
          {"copies-agree", summary.superblock_copies_agree},
          {"damages", damages(summary)},
          {"prepared-size-bytes", superblock.image.prepared_size_bytes},
          {"life", dump_life(superblock.image.life)},
          {"disk-state", std::string(to_string(superblock.image.disk_state))},
          {"primary", superblock.image.primary},
          {"forced", superblock.image.forced},
          {"generation", to_string(superblock.image.current)},
          {"history", std::move(history)},
          {"standing", dump_standing(superblock.image)},
          {"activity-log", dump_activity_log(summary)},
          {"peers", std::move(peers)}};
}

std::string yes_or_no(const json& value) {
  return value.get<bool>() ? "yes" : "no";
}

std::string render_dump(const json& dump) {
  const auto text = [](const json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); };
  std::string lines = text(dump["resource"]) + " node:" + text(dump["node"]) + " version:" + text(dump["version"]) +
                      " size:" + text(dump["size-bytes"]) + " sequence:" + text(dump["sequence"]) +
                      " copies-agree:" + yes_or_no(dump["copies-agree"]) + "\n";
  for (const json& damage : dump["damages"])
    lines += (text(damage).find("differ, as a crash") == std::string::npos ? "  DAMAGED: " : "  note: ") +
             text(damage) + "\n";
  lines += "  disk:" + text(dump["disk-state"]) + " primary:" + yes_or_no(dump["primary"]) +
           " forced:" + yes_or_no(dump["forced"]) + " generation:" + text(dump["generation"]) + "\n";
  lines += "  life: birth:" + text(dump["life"]["birth"]) + " age:" + text(dump["life"]["age"]) + "\n";
  if (dump["prepared-size-bytes"] != 0) lines += "  prepared-size:" + text(dump["prepared-size-bytes"]) + "\n";
  for (const json& generation : dump["history"]) lines += "  history:" + text(generation) + "\n";
  const json& standing = dump["standing"];
  if (standing["term"] != 0) {
    lines += "  standing: term:" + text(standing["term"]) + " waited-for:" + text(standing["waited-for"]) +
             " stable-through:" + text(standing["stable"]["through"]) + " of-term:" + text(standing["stable"]["term"]) +
             "\n";
  }
  const json& log = dump["activity-log"];
  lines += "  activity-log:" +
           (log["valid"].get<bool>() ? std::to_string(log["hot-extents"].size()) + " hot of " + text(log["slots"])
                                     : std::string("damaged, every extent counts as hot")) +
           "\n";
  for (const json& peer : dump["peers"]) {
    lines += "  " + text(peer["node"]) + " bitmap-generation:" + text(peer["bitmap-generation"]) +
             " crashed-primary:" + yes_or_no(peer["crashed-primary"]) +
             " answered-ahead:" + yes_or_no(peer["answered-ahead"]) +
             " dirty:" + format_size(peer["dirty-bytes"].get<uint64_t>()) +
             " damaged-pages:" + text(peer["damaged-pages"]) + "\n";
  }
  return lines;
}

}  // namespace

ExitCode run_dump_metadata(const Arguments& arguments) {
  const Place place = place_of_configuration(arguments);
  const std::string& path = place.own_node().metadata;
  {
    // A running daemon changes it all the time.
    StoppedNode stopped(place);
    const bool runs = !stopped.check();
    Result<HeldPath> opened = stopped.hold(path);
    if (!opened && runs) {
      throw CommandError(ExitCode::Failed, "dump-metadata is for a stopped node, and the daemon of " + place.resource +
                                               " runs on " + place.node + ": '" + place.command("explain") +
                                               "' says what it knows, or stop it with '" + place.command("down") + "'");
    }
    const HeldPath held = value_or_fail(std::move(opened));
    if (held.kind() == PathKind::Missing) {
      throw CommandError(ExitCode::Failed, path + " does not exist: make it with '" + place.command("create") + "'");
    }
  }
  Result<repl::MetadataSummary> summary = repl::summarize_metadata(path);
  if (!summary) throw CommandError(ExitCode::Failed, summary.error().message);
  const json document = dump(*summary);
  if (arguments.has("json")) {
    print_json(document);
  } else {
    print_text(render_dump(document));
  }
  return ExitCode::Done;
}

}  // namespace lockstep::tools
