// What each key says. Read it as the reference, or read lockstep.conf(5), which is made of it.
#include "tools/configuration_keys.h"

namespace lockstep::tools {

const std::vector<KeySpec>& resource_key_specs() {
  static const std::vector<KeySpec> keys = {
      {"name", "1 to 64 of A-Z a-z 0-9 _ . -", true},
      {"size", "The device's size: bytes, or a number followed by K, M, G or T (powers of 1024); a multiple of 4096.",
       true},
      {"protocol",
       R"(When a write is acknowledged: `C` (the default) once each connected peer has written it, `B` once each has received it,
`A` once it is queued for each; besides, the local disk has completed it. A flush, or a write with FUA, is acknowledged under B
and C once it is on stable storage on all of them, under A once it is on the local disk's: then what was acknowledged may be lost
with the Primary, and what a peer holds is what the Primary's own disk could have held after a power cut some time before. Under A
at most 16 MiB may wait to be received by a peer; writes wait from there on. It may be changed while the nodes run: see `reload`
in `lockstep`(8).)"},
      {"sync",
       R"(With three nodes and more, which peers a write or a flush waits for: `all` (the default); `first` _K_: the first K in the
order of the [node.NAME] sections; `any` _K_: any K. Only peers that are connected and in sync count: one that is lost is not waited
for, nor is one that is being brought up to date, and if fewer than K are left all of them are waited for. What is done with the
rest is the same; they get every write, as fast as they can. Under `all` everything that was acknowledged is on each node that is
in sync. Under the others it is on K of them, besides the Primary: a survivor that is connected to one of these gets from it what
it lacks before it can be promoted. One that is promoted while those K are away has lost what only they had, and so may one be
where the survivors were restarted, too. K is at most the number of peers; with that many it is `all`. Under protocol A nothing is
waited for in any case.)"},
      {"on-peer-loss",
       R"(What a Primary does that loses a peer: `continue` (the default): goes on alone; `suspend`: holds all requests, reads too,
until the peer is back and in sync, or `lockstep resume --alone` is typed; `arbiter`: until an arbiter has recorded that the peer is
out. A peer that is stopped or disconnected in good order notes that its data is old, and is not waited for.)"},
      {"peer-timeout",
       R"(After this time without an answer a peer is dropped: milliseconds, or with `ms` or `s`; from 200ms to 60s, default
3s.)"},
      {"insecure",
       R"(`yes` allows replication and NBD over plain TCP to other hosts; the default is `no`, and then only loopback addresses and
unix sockets are accepted, and for NBD any address with `tls = require`.)"},
      {"secret-file",
       R"(The pre-shared key of the replication link, an absolute path of a file with one line _NAME:HEX-KEY_, as `psktool`(1)
writes it, the same on every node and readable for root alone: everything between the nodes then travels in TLS. The name has no
meaning.)"},
      {"link-certificates",
       R"(Certificates instead of a key: an absolute path of a folder with ca-cert.pem and this node's server-cert.pem,
server-key.pem, client-cert.pem and client-key.pem, in which the node's name is the common name or a DNS name. For every node or for
none.)"},
      {"fence-command",
       R"(With `on-peer-loss = arbiter`: the program that decides who goes on, an absolute path and its words; there is no shell. It
is run as _COMMAND_ `fence-peer`|`promote`|`unfence-peer` _RESOURCE_, with `LOCKSTEP_NODE`, `LOCKSTEP_PEERS` and more in its
environment, and is killed after 30 seconds. Exit status: 3, 4, 5, 7 the peers are out, 6 another node is Primary, 0 `unfence-peer`
is done; anything else is no answer. _docs/arbiter.md_ is the whole contract; `lockstep-arbiter-file` _FOLDER_ is one for a folder
that all nodes share.)"},
      {"activity-log-extents",
       R"(How many areas of 4 MiB may be written to at once without a write to the metadata; after a crash of the Primary that much
is resynced at most. From 61 to 65534, default 1237.)"},
      {"poll-us",
       R"(For how many microseconds after something happened the daemon looks for more before it sleeps, while it has two requests
or fewer in hand: a write that is alone then does not wait until a processor wakes up. It yields the processor between two looks,
and looks seldom where others want it. From 0 (never) to 1000, default 100.)"},
      {"resync-rate-max",
       R"(A resync or a verify never does more than that many bytes a second, with K, M or G as in `size`; 0, the default, means no
limit. Within it a resync goes at full speed while the application does not write, and so much slower while it does that its writes
take at most about twice their usual time.)"},
      {"resync-rate-min", "But never slower than this, whatever the application does: default 4M."},
      {"read-only", "`yes` serves the export for reading only; default `no`."},
      {"shared",
       R"(`yes` lets clients of several hosts use the export at once; by default (`no`) those of one host, until the last of them
has gone.)"},
      {"tls",
       R"(TLS on the export's TCP addresses: `off` (the default), `on` for clients that ask, or `require`. Unix sockets offer TLS
unless it is off, and never require it.)"},
      {"tls-certificates",
       R"(An absolute path of a folder with ca-cert.pem, server-cert.pem and server-key.pem. The key may not be readable for all
users.)"},
      {"tls-psk-file",
       R"(An absolute path of a file with a line _NAME:HEX-KEY_ for each client, as `psktool`(1) writes it. It may not be readable
for all users.)"},
      {"tls-verify-peer", "`yes` demands of clients a certificate that ca-cert.pem vouches for; default `no`."},
      {"tls-allow",
       R"(Names, with commas between them: only clients that have proved one of them with TLS, by certificate or key, and those on
unix sockets, may use the export.)"},
  };
  return keys;
}

const std::vector<KeySpec>& node_key_specs() {
  static const std::vector<KeySpec> keys = {
      {"address", "Where the node listens for its peers: _HOST:PORT_ or _[V6ADDRESS]:PORT_.", true},
      {"disk", "An absolute path of a file or block device.", true},
      {"protocol",
       R"(The protocol towards this node, by whoever is Primary: as in [resource], which counts where this is not given. It may be
changed while the nodes run, too.)"},
      {"metadata",
       R"(An absolute path of a file or block device. Default: _DISK.meta_; required where the disk stands in /dev.)"},
      {"audit",
       R"(The audit log of the node, an absolute path; see `lockstep`(8). Default: the path of the metadata and `.audit`, or, where
the metadata is a device, _/var/lib/lockstep/RES.NODE.audit_. At most 2 MiB, with FILE.1.)"},
      {
          "nbd",
          R"(Where the node serves the device while it is Primary: _unix:/PATH_ or _tcp:HOST:PORT_. May be given more than once.
Default: _unix:/run/lockstep/RES.nbd_, or _unix:/run/lockstep/RES.NODE.nbd_ where several nodes have addresses of one host.)",
      },
      {"metrics",
       R"(_HOST:PORT_ where the daemon serves _/metrics_ over HTTP for Prometheus. Default: nowhere. Without `insecure` it must be
loopback.)"},
      {"link-certificates", "As in [resource], for this node; it counts before that one."},
      {"tls-certificates", "As in [resource], for this node; it counts before that one."},
      {"tls-psk-file", "As in [resource], for this node; it counts before that one."},
  };
  return keys;
}

const std::vector<KeySpec>& handler_key_specs() {
  static const std::vector<KeySpec> keys = {
      {"before-resync-target",
       R"(This node is to be target of a resync: to take a snapshot of what is about to be overwritten, for instance. The resync
begins when the command has ended, or is killed; until then this node is Outdated, and gets no writes. One that goes on after an
interruption has no command of its own, unless the daemon was restarted. Not run where a Primary gets back a disk that it had lost,
since its clients would wait.)"},
      {"after-resync-target", "A resync to this node has ended: it is in sync."},
      {"split-brain", "A handshake has found that both nodes wrote apart from each other. Run on both."},
      {"peer-lost", "There has been no connection to the peer for half a second, for whatever reason."},
      {"peer-connected", "There is one, and the handshake has refused nothing."},
      {"local-io-error",
       R"(The local disk or its metadata has failed; or, where it is the last copy, a client has got the error; or a resync could not
read the disk.)"},
      {"promoted", "This node has become Primary."},
      {"demoted", "It has become Secondary, by an order or because it was replaced."},
      {"suspended", "A Primary answers nothing, for the reason in `LOCKSTEP_SUSPENDED`."},
      {"resumed", "It answers again, or is none any more."},
      {"resync-needs-handler",
       R"(`yes`: if before-resync-target does not exit with 0, nothing is copied to this node until `lockstep resume-resync` here, or
a new link to the peer, runs it again; default `no`, and the resync begins all the same.)"},
      {"timeout",
       R"(After this time a command is killed, with all that it started: milliseconds, or with `s`; from 1s to 3600s, default
60s.)"},
  };
  return keys;
}

std::vector<std::string> names_of(const std::vector<KeySpec>& keys) {
  std::vector<std::string> names;
  for (const KeySpec& key : keys) names.emplace_back(key.name);
  return names;
}

}  // namespace lockstep::tools
