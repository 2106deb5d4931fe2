// create: prepares the disk and the metadata of this node, or leaves everything as it was.
#include <signal.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "io/base/units.h"
#include "io/file_setup.h"
#include "replicator/metadata_setup.h"
#include "tools/disk_inspection.h"
#include "tools/lockstep_common.h"
#include "tools/lockstep_confirm.h"
#include "tools/lockstep_losses.h"
#include "tools/lockstep_progress.h"
#include "tools/stopped_node.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

volatile sig_atomic_t interrupted = 0;

void note_interruption(int) {
  interrupted = 1;
}

// Files that this command made and that must not stay when it fails.
class MadeFiles {
 public:
  ~MadeFiles() {
    for (const std::string& path : paths_) ::unlink(path.c_str());
  }
  void add(const std::string& path) { paths_.push_back(path); }
  void keep() { paths_.clear(); }

 private:
  std::vector<std::string> paths_;
};

repl::Generation random_generation() {
  std::array<uint64_t, 2> words{};
  if (::getrandom(words.data(), sizeof words, 0) != static_cast<ssize_t>(sizeof words)) {
    fail(system_error("cannot get random bytes", errno));
  }
  return {words[0], words[1]};
}

void succeed_or_fail(const Status& status) {
  if (!status) fail(status.error());
}

[[noreturn]] void refuse(const std::string& why) {
  throw CommandError(ExitCode::Refused, why);
}

void check_content(const HeldPath& held, bool force) {
  if (force) return;
  const std::string content = value_or_fail(held.known_content());
  if (!content.empty())
    refuse(held.path() + " holds " + content + ": choose another path, or overwrite it with --force");
}

void check_disk(const HeldPath& disk, const Place& place, bool existing_data, bool force) {
  const uint64_t size_bytes = place.configuration->size_bytes;
  if (disk.kind() == PathKind::Missing) {
    if (existing_data) throw CommandError(ExitCode::Failed, disk.path() + " does not exist: there is no data to keep");
    return;
  }
  if (disk.size_bytes() < size_bytes) {
    throw CommandError(ExitCode::Failed, disk.path() + " is too small: it has " + std::to_string(disk.size_bytes()) +
                                             " bytes, and " + place.resource + " needs " + std::to_string(size_bytes));
  }
  if (disk.is_lockstep_metadata() && existing_data && !force) {
    refuse(disk.path() + " holds Lockstep metadata: it is no disk; choose another path");
  }
  if (!existing_data) check_content(disk, force);
}

void check_metadata(const HeldPath& metadata, bool force, uint64_t needed_bytes) {
  if (metadata.kind() == PathKind::Missing) return;
  if (metadata.kind() == PathKind::Device && metadata.size_bytes() < needed_bytes) {
    throw CommandError(ExitCode::Failed, metadata.path() + " is too small for the metadata: it has " +
                                             std::to_string(metadata.size_bytes()) + " bytes, and " +
                                             std::to_string(needed_bytes) + " are needed");
  }
  check_content(metadata, force);
  // Any file with something in it that we do not know is somebody's.
  if (metadata.kind() == PathKind::File && metadata.size_bytes() != 0 && !force) {
    refuse(metadata.path() + " exists and is not empty: choose another path, or overwrite it with --force");
  }
}

void check_space(const HeldPath& disk, const HeldPath& metadata, uint64_t disk_bytes, uint64_t metadata_bytes) {
  const bool new_disk = disk.kind() == PathKind::Missing;
  const bool new_metadata = metadata.kind() != PathKind::Device;
  if (!new_disk || !new_metadata || file_system_of(disk.path()) != file_system_of(metadata.path())) return;
  const uint64_t free_bytes = value_or_fail(io::free_space_bytes(disk.path()));
  if (free_bytes >= disk_bytes + metadata_bytes) return;
  throw CommandError(ExitCode::Failed, disk.path() + " and its metadata need " +
                                           format_size(disk_bytes + metadata_bytes) + ", and their file system has " +
                                           format_size(free_bytes) +
                                           " free: make room, or choose another place or a smaller size");
}

repl::MetadataParameters metadata_parameters(const Place& place, bool existing_data) {
  const ResourceConfiguration& configuration = *place.configuration;
  repl::MetadataParameters parameters;
  parameters.resource_name = place.resource;
  parameters.node_name = place.node;
  for (const NodeConfiguration& node : configuration.nodes) {
    if (node.name != place.node) parameters.peer_names.push_back(node.name);
  }
  parameters.size_bytes = configuration.size_bytes;
  parameters.activity_log_slots = configuration.activity_log_extents;
  parameters.existing_data = existing_data;
  if (existing_data) parameters.generation = random_generation();
  return parameters;
}

void zero_disk(HeldPath disk, uint64_t size_bytes, MadeFiles& made) {
  const std::string path = disk.path();
  ProgressShow show(true);
  const auto progress = [&](uint64_t done_bytes, uint64_t total_bytes) {
    if (interrupted != 0) throw CommandError(ExitCode::Failed, "interrupted: " + path + " is not prepared");
    show.update("zeroing " + path, {done_bytes, total_bytes, 0});
  };
  if (disk.kind() == PathKind::Missing) {
    // Removed also when the operator interrupts: allocate_zeroed() itself cleans up only after its own errors.
    made.add(disk.path());
    const Status status = io::allocate_zeroed(disk.path(), size_bytes, progress);
    if (!status && status.error().kind == ErrorKind::Refused) made.keep();
    succeed_or_fail(status);
  } else {
    succeed_or_fail(io::overwrite_with_zeroes(disk.path(), progress));
  }
}

}  // namespace

namespace {

struct Plan {
  HeldPath disk;
  Destroyed destroyed;
  bool metadata_is_device = false;
};

void check_generation(const Arguments& arguments, const Destroyed& destroyed) {
  if (!arguments.has("generation") || arguments.value("generation") == destroyed.generation) return;
  refuse(destroyed.generation.empty()
             ? "create refused: there is no generation here to give up: leave out --generation"
             : "create refused: the generation here is " + destroyed.generation + ", and not the one that was typed");
}

// Everything that can refuse, and the operator's word; then, and not in a dry run, the old metadata is gone.
Plan look_and_clear(const Place& place, const Arguments& arguments, uint64_t metadata_bytes) {
  const bool existing_data = arguments.has("existing-data");
  const bool force = arguments.has("force");
  const NodeConfiguration& node = place.own_node();
  StoppedNode stopped(place);
  succeed_or_fail(stopped.check());
  Plan plan{value_or_fail(stopped.hold(node.disk)), {}, false};
  check_disk(plan.disk, place, existing_data, force);
  HeldPath metadata = value_or_fail(stopped.hold(node.metadata));
  check_metadata(metadata, force, metadata_bytes);
  check_space(plan.disk, metadata, place.configuration->size_bytes, metadata_bytes);
  plan.metadata_is_device = metadata.kind() == PathKind::Device;
  plan.destroyed = what_create_destroys(place, plan.disk, metadata, existing_data);
  check_generation(arguments, plan.destroyed);
  if (arguments.has("dry-run")) return plan;
  if (!plan.destroyed.text.empty()) {
    confirm_loss(arguments, plan.destroyed.text, plan.destroyed.word);
    AuditRecord record = own_record(place, arguments, true);
    record.result = "begun";
    record.lost = plan.destroyed.data;
    record_now(place, std::move(record));
  }
  // From here on the old metadata, if any, must not vouch for a disk that is no longer what it was.
  if (metadata.kind() != PathKind::Missing) {
    succeed_or_fail(metadata.wipe_start(repl::kSuperblockCopies * repl::kMetadataUnitBytes));
  }
  if (metadata.kind() == PathKind::File && ::unlink(node.metadata.c_str()) != 0) {
    fail(system_error("cannot remove " + node.metadata, errno));
  }
  return plan;
}

ExitCode print_plan(const Place& place, const Arguments& arguments, const Destroyed& destroyed) {
  if (arguments.has("json")) {
    print_json(json{{"dry-run", true}, {"resource", place.resource}, {"node", place.node}, {"lost", destroyed.data}});
  } else {
    print_text(destroyed.text.empty() ? "it would be done; nothing that is known as data is lost by it\n"
                                      : destroyed.text);
  }
  return ExitCode::Done;
}

void record_end(const Place& place, const Arguments& arguments, bool destroys, const char* result,
                const std::string& message) {
  AuditRecord record = own_record(place, arguments, destroys);
  record.result = result;
  record.message = message;
  record_now(place, std::move(record));
}

// What the disk holds afterwards, in words.
std::string prepare(const Place& place, Plan& plan, bool existing_data, const repl::MetadataParameters& parameters) {
  const NodeConfiguration& node = place.own_node();
  MadeFiles made;
  std::string did = "zeroed";
  if (existing_data) {
    succeed_or_fail(plan.disk.reserve_space());
    did = "its data kept";
  } else {
    zero_disk(std::move(plan.disk), place.configuration->size_bytes, made);
  }
  // What exists by now is a half made file of ours; what stood there before is gone.
  if (!plan.metadata_is_device) made.add(node.metadata);
  succeed_or_fail(repl::create_metadata(node.metadata, parameters));
  made.keep();
  return did;
}

}  // namespace

ExitCode run_create(const Arguments& arguments) {
  const bool existing_data = arguments.has("existing-data");
  const Place place = place_of_configuration(arguments);
  const NodeConfiguration& node = place.own_node();
  const uint64_t size_bytes = place.configuration->size_bytes;
  const repl::MetadataParameters parameters = metadata_parameters(place, existing_data);
  const uint64_t metadata_bytes = repl::metadata_size_bytes(parameters);

  Plan plan = look_and_clear(place, arguments, metadata_bytes);
  const bool destroys = !plan.destroyed.text.empty();
  if (arguments.has("dry-run")) return print_plan(place, arguments, plan.destroyed);

  struct sigaction action {};
  action.sa_handler = note_interruption;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  std::string did;
  try {
    did = prepare(place, plan, existing_data, parameters);
  } catch (const CommandError& error) {
    record_end(place, arguments, destroys, "failed", error.what());
    throw;
  }
  const std::string line = "created " + place.resource + " on node " + place.node + ": disk " + node.disk + " (" +
                           format_size(size_bytes) + ", " + did + "), metadata " + node.metadata + " (" +
                           format_size(metadata_bytes) + ")";
  record_end(place, arguments, destroys, "done", line);
  if (arguments.has("json")) {
    print_json(json{{"resource", place.resource},
                    {"node", place.node},
                    {"disk", node.disk},
                    {"size-bytes", size_bytes},
                    {"zeroed", !existing_data},
                    {"metadata", node.metadata},
                    {"metadata-bytes", metadata_bytes}});
  } else {
    print_text(line + "\n");
  }
  return ExitCode::Done;
}

}  // namespace lockstep::tools
