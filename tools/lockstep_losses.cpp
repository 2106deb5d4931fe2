#include "tools/lockstep_losses.h"

#include <sys/stat.h>

#include <algorithm>

#include "io/base/units.h"
#include "replicator/metadata_setup.h"
#include "tools/audit_record.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

// "2026-11-26T03:20:11Z": when the metadata was written last, so the daemon ran until about then.
std::string written_at(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return {};
  return format_stamp(static_cast<uint64_t>(found.st_mtim.tv_sec) * 1'000'000).substr(0, 19) + "Z";
}

void add_metadata(const std::string& path, Destroyed& destroyed) {
  const Result<repl::MetadataSummary> summary = repl::summarize_metadata(path);
  if (!summary) {
    destroyed.text += "  the metadata " + path + ", which is damaged: what it knew is not known any more\n";
    return;
  }
  const repl::SuperblockImage& image = summary->superblock.image;
  destroyed.generation = destroyed.word = to_string(image.current);
  const std::string disk_state(to_string(image.disk_state));
  const std::string last = written_at(path);
  destroyed.text +=
      "  generation " + destroyed.generation + " of " + summary->superblock.resource_name + " on " +
      summary->superblock.node_name + ", " + disk_state + ", " + format_size(summary->superblock.identity.size_bytes) +
      (image.primary ? ", that of a Primary" : "") + (last.empty() ? "" : ", written last at " + last) + "\n";
  json peers = json::array();
  for (size_t peer = 0; peer < summary->bitmaps.size(); ++peer) {
    const uint64_t bytes = summary->bitmaps[peer].dirty_blocks * repl::kBlockBytes;
    const std::string& name = summary->superblock.peer_names[peer];
    peers.push_back({{"node", name}, {"lacks-bytes", bytes}});
    if (bytes != 0) {
      destroyed.text += "  " + format_size(bytes) + " of it " + name + " did not have when it was seen last" +
                        ", besides what was in flight\n";
    }
  }
  destroyed.data["generation"] = destroyed.generation;
  destroyed.data["disk-state"] = disk_state;
  destroyed.data["primary"] = image.primary;
  destroyed.data["written-at"] = last;
  destroyed.data["peers"] = std::move(peers);
}

}  // namespace

Destroyed what_create_destroys(const Place& place, const HeldPath& disk, const HeldPath& metadata, bool keeps_data) {
  Destroyed destroyed;
  if (metadata.is_lockstep_metadata()) {
    destroyed.data = json::object();
    add_metadata(metadata.path(), destroyed);
  } else if (metadata.kind() == PathKind::File && metadata.size_bytes() != 0) {
    destroyed.text += "  what is in " + metadata.path() + ", " + format_size(metadata.size_bytes()) + "\n";
  }
  if (!keeps_data && disk.kind() != PathKind::Missing) {
    const Result<std::string> content = disk.known_content();
    const bool known = content.ok() && !content->empty();
    if (known || !destroyed.text.empty()) {
      destroyed.text += "  all that is on " + disk.path() + ", " + format_size(disk.size_bytes()) +
                        (known ? ", which holds " + *content : "") + ": it is zeroed\n";
      destroyed.data["disk-bytes"] = disk.size_bytes();
    }
  }
  if (destroyed.text.empty()) return destroyed;
  destroyed.text = "this destroys on " + place.node + ":\n" + destroyed.text;
  if (destroyed.word.empty()) destroyed.word = keeps_data ? metadata.path() : disk.path();
  return destroyed;
}

}  // namespace lockstep::tools
