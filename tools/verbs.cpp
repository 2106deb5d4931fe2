#include "tools/verbs.h"

#include <algorithm>

namespace lockstep::tools {
namespace {

constexpr std::string_view kExitCodes =
    "Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by a safety rule,\n"
    "4 no daemon answers, 5 the awaited condition did not come in time.\n";

constexpr OptionSpec kDryRun = {"dry-run", "",
                                "say what would be done and lost, and do nothing; exits as the order would"};
constexpr OptionSpec kGeneration = {"generation", "GENERATION",
                                    "refuse unless it is this node's own; what a terminal would ask for"};
constexpr OptionSpec kStartTimeout = {"timeout", "SECONDS", "give up after this time (default 30)"};

std::string option_line(const OptionSpec& option) {
  std::string left = "  --" + std::string(option.name);
  if (!option.value.empty()) left += " " + std::string(option.value);
  left.resize(std::max<size_t>(left.size() + 2, 30), ' ');
  return left + std::string(option.help) + "\n";
}

}  // namespace

const std::vector<OptionSpec>& common_options() {
  static const std::vector<OptionSpec> options = {
      {"config", "FILE", "the resource's configuration (default /etc/lockstep/RES.conf)"},
      {"node", "NAME", "which node of the resource (default: the one named like this host)"},
      {"run-dir", "DIR", "where control sockets are (default $LOCKSTEP_RUN_DIR, else /run/lockstep)"},
      {"json", "", "print one JSON document instead of text"},
      {"help", "", "print help, also of one verb"},
      {"version", "", "print the version"},
  };
  return options;
}

const std::vector<VerbSpec>& all_verbs() {
  static const std::vector<VerbSpec> verbs = {
      {"create",
       "prepare this node's disk and metadata",
       "Makes the disk file, fully allocated and written with zeroes, and the metadata. An existing disk of the right\n"
       "size is zeroed. Refuses (exit 3) what is in use, and a disk or metadata that holds a file system, a partition\n"
       "table or Lockstep metadata. When every node's disk was zeroed by this, the first sync is not needed.",
       ResourceOperand::Required,
       {},
       {{"existing-data", "", "keep what is on the disk, and be the source of the first sync"},
        {"force", "", "overwrite what looks like data; never what is in use"},
        kGeneration,
        kDryRun}},
      {"up",
       "start the node's daemon in the background",
       "Returns when its control socket answers. The daemon logs to RUN_DIR/RES.NODE.log. A daemon that runs already\n"
       "is left alone.",
       ResourceOperand::Required,
       {},
       {kStartTimeout, kDryRun}},
      {"down",
       "stop the node's daemon cleanly",
       "Returns when the daemon has ended.",
       ResourceOperand::Required,
       {},
       {kStartTimeout, kDryRun}},
      {"status",
       "print the state of a resource, or of all of this host",
       "One line for the resource and one for each peer. Without RES: every resource with a control socket in the run\n"
       "folder or a configuration of this host in /etc/lockstep.",
       ResourceOperand::Optional,
       {},
       {{"watch", "", "a live screen, or without a terminal again each second, until interrupted"}}},
      {"events",
       "print each change of state as it happens",
       "The present state comes first, as 'exists' lines; then 'change' lines, and while a resync or verify runs a\n"
       "'progress' line for each 10 % that are done, and at least each 5 s. With --json a JSON document a line.",
       ResourceOperand::Required,
       {},
       {}},
      {"wait",
       "wait for a condition",
       "CONDITION is one of: up, connected, synced (this disk is UpToDate, and every peer Connected, Established and\n"
       "UpToDate), role=Primary, role=Secondary, promotable, verified. Exits 5 when the time is over.",
       ResourceOperand::Required,
       {},
       {{"for", "CONDITION", "what to wait for", true},
        {"timeout", "SECONDS", "give up after this time (default: never)"}}},
      {"promote",
       "make this node Primary and open its export",
       "Works when this disk is UpToDate and every peer is connected and Secondary. With a peer absent it exits 3 "
       "unless\n"
       "--peer-fenced says that the peer cannot be serving.",
       ResourceOperand::Required,
       {},
       {{"peer-fenced", "", "your word that each absent peer is powered off or cut off"},
        {"force-data-loss", "GENERATION",
         "serve data that is not UpToDate; GENERATION is this node's own, as status prints it"},
        kGeneration,
        kDryRun}},
      {"demote",
       "close the export and become Secondary",
       "Drains and flushes first. Refuses (exit 3) while clients are attached.",
       ResourceOperand::Required,
       {},
       {{"force", "", "end the clients' sessions first"}, kDryRun}},
      {"switchover",
       "demote the Primary and promote another node, or change nothing",
       "",
       ResourceOperand::Required,
       {},
       {{"to", "NODE", "the node that becomes Primary", true}, kDryRun}},
      {"connect", "start replication with a peer (default: all)", "", ResourceOperand::Required, {"[PEER]"}, {kDryRun}},
      {"disconnect",
       "stop replication with a peer (default: all)",
       "",
       ResourceOperand::Required,
       {"[PEER]"},
       {kDryRun}},
      {"resync",
       "start or restart a resync with a peer",
       "",
       ResourceOperand::Required,
       {"PEER"},
       {{"discard-my-data", "GENERATION",
         "end a split brain: this node gives way; GENERATION is its own, as status prints it"},
        kDryRun}},
      {"pause-resync", "pause a running resync", "", ResourceOperand::Required, {"[PEER]"}, {kDryRun}},
      {"resume-resync", "go on with a paused resync", "", ResourceOperand::Required, {"[PEER]"}, {kDryRun}},
      {"invalidate",
       "forget this node's data and sync it in full from a peer",
       "Refused (exit 3) for the last UpToDate copy. The resync follows by itself: 'lockstep wait RES --for synced'.",
       ResourceOperand::Required,
       {},
       {kGeneration, kDryRun}},
      {"invalidate-peer",
       "forget a peer's data and sync it in full from this node",
       "The peer must be connected and Secondary, and this node UpToDate. Refused (exit 3) for the last UpToDate "
       "copy.\n"
       "The resync follows by itself: 'lockstep wait RES --for synced'.",
       ResourceOperand::Required,
       {"PEER"},
       {kGeneration, kDryRun}},
      {"verify",
       "compare both replicas online",
       "Every block of both is compared while the device is in use. Prints its progress, and the ranges that differ,\n"
       "which are marked out of sync. The Primary's copy counts: --repair copies what differs from there, beside the\n"
       "application's writes, and needs a Primary; 'lockstep resync RES PEER' does it later. Without a Primary this\n"
       "node's copy counts once the two meet again. Exits 1 when a difference is left, or the end was not reached.",
       ResourceOperand::Required,
       {"[PEER]"},
       {{"repair", "", "copy what differs from the Primary"}, kDryRun}},
      {"suspend",
       "answer no client until 'resume'",
       "Requests are held, not failed. 'down' and 'demote --force' fail them.",
       ResourceOperand::Required,
       {},
       {kDryRun}},
      {"resume",
       "end a suspension by hand",
       "Without --alone it ends what 'suspend' began. A Primary that waits for a lost peer (on-peer-loss) goes on "
       "only\n"
       "with --alone: then what it answers is on this node alone until the peer is back.",
       ResourceOperand::Required,
       {},
       {{"alone", "", "your word that each absent peer is powered off or cut off: go on without it"},
        kGeneration,
        kDryRun}},
      {"outdate",
       "call this node's data old",
       "For fencing handlers: after it promote needs --force-data-loss, until the node has met a Primary again. "
       "Refused\n"
       "(exit 3) on a Primary, and while a peer replicates to this node.",
       ResourceOperand::Required,
       {},
       {kDryRun}},
      {"resize",
       "grow a resource online on all nodes",
       "SIZE as in the configuration: bytes, or K M G T. Given at the Primary, with every peer connected and "
       "UpToDate;\n"
       "each node makes room first, zeroed. Clients see the new size when they connect anew. Set 'size' in the\n"
       "configuration of every node afterwards.",
       ResourceOperand::Required,
       {"SIZE"},
       {kDryRun}},
      {"detach",
       "take the local disk away from a running node",
       "A Primary's clients are served from a peer's disk meanwhile. Refused (exit 3) for the last UpToDate copy.",
       ResourceOperand::Required,
       {},
       {kDryRun}},
      {"attach",
       "give the local disk back to a running node",
       "After 'detach', or when the disk has failed: the same disk gets what it missed, a new one ('create') "
       "everything.",
       ResourceOperand::Required,
       {},
       {kDryRun}},
      {"reload",
       "take over what changed in the configuration file",
       "Only protocol may change while a node runs; anything else is refused (exit 3), and nothing is taken over. The\n"
       "file is the same on every node: change and reload it on each. On the Primary it returns when everything that\n"
       "the old protocol had answered is stable on the peers, or marked for those that are gone.",
       ResourceOperand::Required,
       {},
       {kDryRun}},
      {"explain",
       "say why the resource is in its state, and what would change it",
       "Also who is absent since when, how much was written that it lacks, and what will be copied from where when it\n"
       "returns, by which rule.",
       ResourceOperand::Required,
       {},
       {}},
      {"audit",
       "print what operators did with the resource",
       "The audit log of this node: a line for each order, also for those of other nodes that this one was told of.",
       ResourceOperand::Required,
       {},
       {}},
      {"dump-metadata", "print the metadata of a stopped node", "", ResourceOperand::Required, {}, {}},
      {"metrics", "print counters in Prometheus text format", "", ResourceOperand::Required, {}, {}},
  };
  return verbs;
}

const VerbSpec* find_verb(std::string_view name) {
  const auto& verbs = all_verbs();
  const auto found = std::find_if(verbs.begin(), verbs.end(), [&](const VerbSpec& verb) { return verb.name == name; });
  return found == verbs.end() ? nullptr : &*found;
}

std::string usage_line(const VerbSpec& verb) {
  std::string line = "lockstep " + std::string(verb.name);
  line += verb.resource == ResourceOperand::Required ? " RES" : " [RES]";
  for (const std::string_view operand : verb.operands) line += " " + std::string(operand);
  for (const OptionSpec& option : verb.options) {
    std::string text = "--" + std::string(option.name);
    if (!option.value.empty()) text += " " + std::string(option.value);
    line += option.required ? " " + text : " [" + text + "]";
  }
  return line;
}

std::string general_help() {
  std::string text =
      "Usage: lockstep VERB RES [OPERANDS] [OPTIONS]\n\n"
      "Works on the replicated device RES of this node: through its daemon, lockstepd, or on the files of a stopped\n"
      "node. A daemon refuses orders that its version does not know.\n\nVerbs:\n";
  for (const VerbSpec& verb : all_verbs()) {
    std::string left = "  " + std::string(verb.name);
    left.resize(20, ' ');
    text += left + std::string(verb.summary) + "\n";
  }
  text += "\nOptions, anywhere on the line:\n";
  for (const OptionSpec& option : common_options()) text += option_line(option);
  text += "\n'lockstep VERB --help' tells more about a verb; so does lockstep(8).\n\n" + std::string(kExitCodes);
  return text;
}

std::string verb_help(const VerbSpec& verb) {
  std::string text = "Usage: " + usage_line(verb) + "\n\n" + std::string(verb.summary) + "\n";
  if (!verb.details.empty()) text += "\n" + std::string(verb.details) + "\n";
  if (!verb.options.empty()) {
    text += "\nOptions:\n";
    for (const OptionSpec& option : verb.options) text += option_line(option);
  }
  text += "\nCommon options:\n";
  for (const OptionSpec& option : common_options()) text += option_line(option);
  return text + "\n" + std::string(kExitCodes);
}

}  // namespace lockstep::tools
