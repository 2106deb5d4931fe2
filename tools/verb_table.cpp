// What each verb is, does and takes. Read it as the reference; verbs.h says how its texts are written.
#include "tools/verbs.h"

namespace lockstep::tools {
namespace {

const OptionSpec kDryRun = {"dry-run", "", "say what would be done and lost, and do nothing; exits as the order would",
                            false, true};
const OptionSpec kGeneration = {"generation", "GENERATION",
                                "refuse unless it is this node's own; what a terminal would ask for", false, true};
const OptionSpec kStartTimeout = {"timeout", "SECONDS", "give up after this time (default 30)"};

VerbGroup life_of_a_node() {
  return {
      "The life of a node",
      {{"create",
        "prepare this node's disk and metadata",
        R"(Makes the disk file, fully allocated and written with zeroes, so that later writes need no allocation; an existing
file or device of at least the right size is zeroed. Then writes the metadata. Nothing is left half made when that fails or is
interrupted. On standard error it shows how far the zeroing is: a bar on a terminal, else a line each ten seconds.

Refuses (exit 3) a disk or metadata that is in use (locked by a daemon or another program, mounted, part of another device,
under a loop device) and one that holds a file system, a partition table, another signature that `blkid`(8) knows, or Lockstep
metadata; and metadata that is any other file with something in it. Where the daemon was killed just now, it waits up to 5
seconds until the kernel has let go of its files.

Disks that were zeroed on all nodes are identical: they need no first sync. Where two disks hold the same data already, give
`--existing-data` on both, and have one give way: see `resync`.)",
        ResourceOperand::Required,
        {},
        {{"existing-data", "", "keep what is on the disk, and be the source of the first sync"},
         {"force", "", "overwrite what looks like data; never what is in use"},
         kGeneration,
         kDryRun}},
       {"up",
        "start the node's daemon in the background",
        R"(Returns when its control socket answers. The daemon logs to _RUN_DIR/RES.NODE.log_. One that runs already is left
alone. When the daemon ends instead, its last line is printed.)",
        ResourceOperand::Required,
        {},
        {kStartTimeout, kDryRun}},
       {"down",
        "stop the node's daemon cleanly",
        "Returns when the daemon has ended. Nothing to do is no error.",
        ResourceOperand::Required,
        {},
        {kStartTimeout, kDryRun}},
       {"reload",
        "take over what changed in the configuration file",
        R"(Only `protocol` may change while a node runs, of the resource and of each node; refused (exit 3), with nothing taken over, when anything else has
changed. The file is the same on every node: change and reload it on each. New writes follow the new protocol at once. On the
Primary the command returns when everything that the old protocol had answered is on stable storage on the peers, or marked as
out of sync for those that are gone; until then `status` shows the old one for the peer.)",
        ResourceOperand::Required,
        {},
        {kDryRun}}}};
}

VerbGroup looking() {
  return {
      "Looking",
      {{"status",
        "print the state of a resource, or of all of this host",
        R"(One line for the resource and one for each peer. Without _RES_: everything with a control socket in the run folder,
and the resources in _/etc/lockstep_ that have a node of this host.

The live screen has, for each resource, its roles, rates, and the median and 99th percentile of latencies over the last seconds
(bounds of buckets: no less than what was measured), of `write`, `flush` and `read` requests, of writes (`disk`) and flushes
(`fsync`) of the local disk alone, and of writes to each peer and back. A mark stands before what is well (`ok`), what needs a
look (`!`) and what needs you (`!!`); colours only repeat it, and `NO_COLOR` in the environment leaves them out.)",
        ResourceOperand::Optional,
        {},
        {{"watch", "", "a live screen, or without a terminal again each second, until interrupted"}}},
       {"events",
        "print each change of state as it happens",
        R"(The present state comes first, as lines that begin with `exists`; then a line that begins with `change` for each
change of state. Counters are not states; but while a resync or a verify runs, a line that begins with `progress` follows for
each 10 % that are done, and at least each 5 seconds unless it is paused. With `--json` each line is an object with `event`
(one of these words) and `status`, an object as `status` prints it.)",
        ResourceOperand::Required,
        {},
        {}},
       {"wait",
        "wait for a condition",
        R"(Exits 5 when the time is over, and 4 when no daemon answers or it ends (except for `up`). On a terminal it shows how
far a resync or verify is.)",
        ResourceOperand::Required,
        {},
        {{"for",
          "CONDITION",
          "what to wait for",
          true,
          false,
          {{"up", "the daemon answers"},
           {"connected", "every configured peer is Connected"},
           {"synced", "every configured peer is Connected, Established and UpToDate, and this disk is UpToDate"},
           {"role=Primary", "this node is Primary"},
           {"role=Secondary", "this node is Secondary"},
           {"promotable", "a `promote` without options would succeed"},
           {"verified", "no online verify runs, and the last one with every peer reached its end, whatever it found"}}},
         {"timeout", "SECONDS", "give up after this time (default: never)"}}},
       {"explain",
        "say why the resource is in its state, and what changes that",
        R"(The rule of the last handshake with each peer and what it was decided from; who is absent since when, how much was
written that it lacks, and what will be copied from where when it returns, if nobody writes to it meanwhile, by which rule.)",
        ResourceOperand::Required,
        {},
        {}},
       {"audit",
        "print what operators did with the resource",
        R"(The audit log of this node: a line for each order, also for those of other nodes that this one was told of: when, on
which node, who, what, and what came of it.)",
        ResourceOperand::Required,
        {},
        {}},
       {"dump-metadata",
        "print the metadata of a stopped node",
        "The superblock, the activity log and a summary of the bitmaps.",
        ResourceOperand::Required,
        {},
        {}},
       {"metrics", "print counters in Prometheus text format", "", ResourceOperand::Required, {}, {}}}};
}

VerbGroup roles() {
  return {
      "Roles",
      {{"promote",
        "make this node Primary and open its export",
        R"(Works without options when this disk is UpToDate and every peer is connected and Secondary, or the arbiter grants
it, or no other node is configured. With a peer absent and no arbiter it exits 3 unless `--peer-fenced` says that the peer cannot
be serving clients. Data that is not UpToDate is served only with `--force-data-loss`.)",
        ResourceOperand::Required,
        {},
        {{"peer-fenced", "", "your word that each absent peer is powered off or cut off"},
         {"force-data-loss", "GENERATION",
          "serve data that is not UpToDate; _GENERATION_ is this node's own, as `status` prints it"},
         kGeneration,
         kDryRun}},
       {"demote",
        "close the export and become Secondary",
        "Drains and flushes first. Refuses (exit 3) while clients are attached.",
        ResourceOperand::Required,
        {},
        {{"force", "", "end the clients' sessions first"}, kDryRun}},
       {"switchover",
        "demote the Primary and promote _NODE_, or change nothing",
        "",
        ResourceOperand::Required,
        {},
        {{"to", "NODE", "the node that becomes Primary", true}, kDryRun}}}};
}

VerbGroup replication() {
  return {
      "Replication",
      {{"connect",
        "start replication with a peer (default: all)",
        "",
        ResourceOperand::Required,
        {"[PEER]"},
        {kDryRun}},
       {"disconnect",
        "stop replication with a peer (default: all)",
        "",
        ResourceOperand::Required,
        {"[PEER]"},
        {kDryRun}},
       {"resync",
        "start or restart a resync with a peer",
        R"(With the option it ends a split brain, or joins two disks that have nothing in common: this node gives way, and loses
what only it has. What is equal is compared, not copied.)",
        ResourceOperand::Required,
        {"PEER"},
        {{"discard-my-data", "GENERATION", "this node gives way; _GENERATION_ is its own, as `status` prints it"},
         kDryRun}},
       {"pause-resync", "pause a running resync", "", ResourceOperand::Required, {"[PEER]"}, {kDryRun}},
       {"resume-resync", "go on with a paused resync", "", ResourceOperand::Required, {"[PEER]"}, {kDryRun}},
       {"invalidate",
        "forget this node's data and sync it in full from a peer",
        R"(The node must be Secondary, and in sync with the peer before; refused (exit 3) for the last UpToDate copy,
and for a disk that serves the clients of a Primary whose own is gone. Returns
when the data is durably called Inconsistent; the resync follows by itself: `lockstep wait RES --for synced`.)",
        ResourceOperand::Required,
        {},
        {kGeneration, kDryRun}},
       {"invalidate-peer",
        "forget a peer's data and sync it in full from this node",
        R"(The peer must be connected, Secondary and in sync before, and this node UpToDate; refused (exit 3) for the last
UpToDate copy. Returns when the data is durably called Inconsistent; the resync follows by itself: `lockstep wait RES --for
synced`.)",
        ResourceOperand::Required,
        {"PEER"},
        {kGeneration, kDryRun}},
       {"verify",
        "compare both replicas online",
        R"(Compares every block of both while the device is in use, prints its progress and the ranges that differ, and marks
those out of sync. Both nodes stay UpToDate meanwhile. The Primary's copy counts: without a Primary this node's copy counts once
the two meet again. `lockstep resync RES PEER` copies later what `--repair` copies now.

A lost link or a change of roles interrupts it; interrupting the command does not: the daemons go on. Exits 1 when a difference
is left, or the end was not reached.)",
        ResourceOperand::Required,
        {"[PEER]"},
        {{"repair", "", "copy what differs from the Primary, beside the application's writes; refused without one"},
         kDryRun}}}};
}

VerbGroup disk_and_requests() {
  return {
      "Disk and requests",
      {{"suspend",
        "answer no client until `resume`",
        "Requests are held, not failed. `down` and `demote --force` fail them.",
        ResourceOperand::Required,
        {},
        {kDryRun}},
       {"resume",
        "end a suspension by hand",
        R"(Without the option it ends what `suspend` began. A Primary that waits for a lost peer (`on-peer-loss`) goes on
with `--alone` only: what it answers from then on is on this node alone until the peer is back.)",
        ResourceOperand::Required,
        {},
        {{"alone", "", "your word that each absent peer is powered off or cut off: go on without it"},
         kGeneration,
         kDryRun}},
       {"detach",
        "take the local disk away from a running node",
        R"(A Primary's clients are served from a peer's disk meanwhile. Refused (exit 3) for the last UpToDate copy. A disk
that has failed is away already.)",
        ResourceOperand::Required,
        {},
        {kDryRun}},
       {"attach",
        "give the local disk back to a running node",
        R"(After `detach`, or when the disk has failed: the same disk gets what it missed, a new one that `create` has made
on the path gets everything.)",
        ResourceOperand::Required,
        {},
        {kDryRun}},
       {"resize",
        "grow a resource online on all nodes",
        R"(_SIZE_ as in the configuration: bytes, or K M G T. Given at the Primary, if there is one, and refused unless every
peer is connected and UpToDate; a device never shrinks. Each node first makes room beyond the present size and writes zeroes
there (a block device must be long enough); then all take the new size. A node that is lost in the middle follows when it is back.
NBD tells the size when a client connects: attach the device again to see it, then grow the file system.

The size that counts is the one in the metadata. Set `size` in the configuration of every node when it has grown: it is what
`create` makes, for a node that is replaced. Until then each start of a daemon warns.)",
        ResourceOperand::Required,
        {"SIZE"},
        {kDryRun}},
       {"outdate",
        "call this node's data old",
        R"(For fencing handlers: after it `promote` needs `--force-data-loss`, until the node has met a Primary again. Refused
(exit 3) on a Primary, and while a peer replicates to this node.)",
        ResourceOperand::Required,
        {},
        {kDryRun}}}};
}

}  // namespace

const std::vector<VerbGroup>& verb_groups() {
  static const std::vector<VerbGroup> groups = {life_of_a_node(), looking(), roles(), replication(),
                                                disk_and_requests()};
  return groups;
}

const std::vector<OptionSpec>& common_options() {
  static const std::vector<OptionSpec> options = {
      {"config", "FILE", "the resource's configuration (default _/etc/lockstep/RES.conf_)"},
      {"node", "NAME",
       R"(which node of the resource (default: the one named like this host, in full or up to the first dot; if there is none and
just one node's control socket exists, that one))"},
      {"run-dir", "DIR", "where control sockets are (default `$LOCKSTEP_RUN_DIR`, else _/run/lockstep_)"},
      {"json", "", "print one JSON document instead of text (`events`: one a line)"},
      {"help", "", "print help, also of one verb"},
      {"version", "", "print the version"},
  };
  return options;
}

}  // namespace lockstep::tools
