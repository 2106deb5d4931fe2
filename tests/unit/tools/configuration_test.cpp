#include "tools/configuration.h"

#include <catch2/catch.hpp>

#include "io/base/units.h"
#include "tests/unit/tools/temporary_folder.h"

using namespace lockstep;
using namespace lockstep::tools;

namespace {

const char* const kGood = R"([resource]
name = pgdata
size = 20G                # twenty
protocol = C
on-peer-loss = continue
secret-file =

[node.alpha]
address = 127.0.0.1:7789
disk = /srv/alpha.img
metadata = /srv/alpha.md
nbd = unix:/run/lockstep/alpha.nbd
nbd = tcp:127.0.0.1:10809

[node.beta]
address = 127.0.0.1:7790
disk = /srv/beta.img
)";

// The file with its line `number` (from 1) replaced; "" drops nothing but its content, so that lines keep numbers.
std::string with_line(int number, const std::string& replacement) {
  std::string text;
  std::string_view rest = kGood;
  for (int line = 1; !rest.empty(); ++line) {
    const size_t end = rest.find('\n');
    text += line == number ? replacement : std::string(rest.substr(0, end));
    text += '\n';
    rest.remove_prefix(end + 1);
  }
  return text;
}

std::string error_of(const std::string& text) {
  const auto result = parse_configuration(text, "f.conf");
  return result ? "no error" : result.error().message;
}

}  // namespace

TEST_CASE("a node may have a protocol of its own") {
  const auto result = parse_configuration(with_line(17, "disk = /srv/beta.img\nprotocol = A"), "f.conf");
  REQUIRE(result.ok());
  CHECK(result->protocol == Protocol::C);
  CHECK_FALSE(result->find_node("alpha")->protocol.has_value());
  CHECK(result->find_node("beta")->protocol == Protocol::A);
  CHECK(error_of(with_line(17, "disk = /srv/beta.img\nprotocol = D")) ==
        "f.conf:18: bad value 'D' for 'protocol': must be one of A, B, C");
}

TEST_CASE("a complete file gives every value") {
  const auto result = parse_configuration(kGood, "f.conf");
  REQUIRE(result.ok());
  CHECK(result->name == "pgdata");
  CHECK(result->size_bytes == 20 * kGiB);
  CHECK(result->protocol == Protocol::C);
  CHECK(result->on_peer_loss == PeerLossPolicy::Continue);
  CHECK(result->sync == SyncConfiguration{});
  CHECK(result->peer_timeout_ms == 3000);
  CHECK(result->activity_log_extents == 1237);
  CHECK_FALSE(result->insecure);
  CHECK(result->secret_file.empty());
  REQUIRE(result->nodes.size() == 2);
  CHECK(result->nodes[0].name == "alpha");
  CHECK(result->nodes[0].line == 8);
  CHECK(result->nodes[0].address == "127.0.0.1:7789");
  CHECK(result->nodes[0].disk == "/srv/alpha.img");
  CHECK(result->nodes[0].metadata == "/srv/alpha.md");
  CHECK(result->nodes[0].nbd == std::vector<std::string>{"unix:/run/lockstep/alpha.nbd", "tcp:127.0.0.1:10809"});
  CHECK(result->nodes[1].metadata == "/srv/beta.img.meta");
  CHECK(result->nodes[1].nbd == std::vector<std::string>{"unix:/run/lockstep/pgdata.beta.nbd"});
  CHECK(result->node_names() == "alpha, beta");
  CHECK(result->find_node("beta") == &result->nodes[1]);
  CHECK(result->find_node("gamma") == nullptr);
}

TEST_CASE("the default nbd address has no node in it where the node is alone on its host") {
  const auto result = parse_configuration(
      "[resource]\nname=r\nsize=4096\ninsecure=yes\n[node.a]\naddress=10.0.0.1:1\ndisk=/"
      "d\n[node.b]\naddress=10.0.0.2:1\n"
      "disk=/d\n",
      "f.conf");
  REQUIRE(result.ok());
  CHECK(result->nodes[0].nbd == std::vector<std::string>{"unix:/run/lockstep/r.nbd"});
  CHECK(result->nodes[1].nbd == std::vector<std::string>{"unix:/run/lockstep/r.nbd"});
}

TEST_CASE("windows line ends and blanks around words change nothing") {
  const auto result = parse_configuration(
      "\r\n  [resource]\r\n\tname  =  r\r\nsize=4K\r\npeer-timeout = "
      "200ms\r\n[node.a]\r\naddress=[::1]:7\r\ndisk=/d\r\n",
      "f.conf");
  REQUIRE(result.ok());
  CHECK(result->name == "r");
  CHECK(result->peer_timeout_ms == 200);
  CHECK(result->nodes[0].disk == "/d");
}

TEST_CASE("each mistake is named with its file and line") {
  struct Mistake {
    int line;
    const char* content;
    const char* error;
  };
  const Mistake mistake = GENERATE(values<Mistake>({
      {4, "protcol = C", "f.conf:4: unknown key 'protcol' in [resource]: did you mean 'protocol'?"},
      {4, "disk = C", "f.conf:4: unknown key 'disk' in [resource]: it belongs to a [node.NAME]"},
      {4, "wholly-unrelated-thing = C",
       "f.conf:4: unknown key 'wholly-unrelated-thing' in [resource]: known keys are name, size, protocol, "
       "sync, on-peer-loss, "
       "peer-timeout, insecure, secret-file, link-certificates, fence-command, activity-log-extents, poll-us, "
       "resync-rate-max, resync-rate-min, read-only, shared, tls, tls-certificates, "
       "tls-psk-file, tls-verify-peer, tls-allow"},
      {11, "size = 1G", "f.conf:11: unknown key 'size' in [node.alpha]: it belongs to [resource]"},
      {11, "metdata = /x", "f.conf:11: unknown key 'metdata' in [node.alpha]: did you mean 'metadata'?"},
      {1, "[resorce]", "f.conf:1: unknown section [resorce]: did you mean [resource]?"},
      {8, "[nodes.alpha]", "f.conf:8: unknown section [nodes.alpha]: did you mean [node.alpha]?"},
      {8, "[node]", "f.conf:8: unknown section [node]: did you mean [node.NAME]?"},
      {8, "[tls]", "f.conf:8: unknown section [tls]: known sections are [resource], [handlers] and [node.NAME]"},
      {8, "[handler]", "f.conf:8: unknown section [handler]: did you mean [handlers]?"},
      {11, "metrics = 10.0.0.1:9477",
       "f.conf:11: '10.0.0.1:9477' is not loopback, and everybody there could read the metrics: write 'insecure = yes' "
       "in "
       "[resource] if the network is trusted"},
      {11, "metrics = 9477", "f.conf:11: bad value '9477' for 'metrics': write HOST:PORT, or [ADDRESS]:PORT for IPv6"},
      {4, "split-brain = /x", "f.conf:4: unknown key 'split-brain' in [resource]: it belongs to [handlers]"},
      {8, "[]", "f.conf:8: '[]' names no section: write [resource] or [node.NAME]"},
      {8, "[node.]", "f.conf:8: '' cannot name a node: use 1 to 64 of A-Z a-z 0-9 _ . -"},
      {8, "[node.al/pha]", "f.conf:8: 'al/pha' cannot name a node: use 1 to 64 of A-Z a-z 0-9 _ . -"},
      {15, "[node.alpha]", "f.conf:15: node 'alpha' stands twice: first on line 8"},
      {15, "[resource]", "f.conf:15: [resource] stands twice: first on line 1"},
      {1, "", "f.conf:2: key 'name' stands before any section: start with [resource]"},
      {4, "protocol", "f.conf:4: 'protocol' is neither a [section] nor 'key = value'"},
      {4, "= C", "f.conf:4: a value without a key: write 'key = value'"},
      {4, "protocol = \x01", "f.conf:4: a control character stands in this line: this is a text file"},
      {4, "size = 1G", "f.conf:4: key 'size' in [resource] stands twice: first on line 3"},
      {2, "", "f.conf:1: [resource] lacks the required key 'name'"},
      {3, "", "f.conf:1: [resource] lacks the required key 'size'"},
      {9, "", "f.conf:8: [node.alpha] lacks the required key 'address'"},
      {17, "", "f.conf:15: [node.beta] lacks the required key 'disk'"},
      {2, "name =", "f.conf:2: bad value '' for 'name': must not be empty"},
      {2, "name = pg data", "f.conf:2: bad value 'pg data' for 'name': use 1 to 64 of A-Z a-z 0-9 _ . -"},
      {2, "name = ..", "f.conf:2: bad value '..' for 'name': use 1 to 64 of A-Z a-z 0-9 _ . -"},
      {3, "size = 20X", "f.conf:3: bad value '20X' for 'size': write bytes, or a number followed by K, M, G or T"},
      {3, "size = -1", "f.conf:3: bad value '-1' for 'size': write bytes, or a number followed by K, M, G or T"},
      {3, "size = 0", "f.conf:3: bad value '0' for 'size': must be a multiple of 4096 bytes and more than 0"},
      {3, "size = 4097", "f.conf:3: bad value '4097' for 'size': must be a multiple of 4096 bytes and more than 0"},
      {3, "size = 9000000T", "f.conf:3: bad value '9000000T' for 'size': is more than a device can have"},
      {4, "protocol = c", "f.conf:4: bad value 'c' for 'protocol': must be one of A, B, C"},
      {4, "protocol =", "f.conf:4: bad value '' for 'protocol': must be one of A, B, C"},
      {5, "sync = any",
       "f.conf:5: bad value 'any' for 'sync': write 'all', or 'first' or 'any' and how many peers, such "
       "as 'any 1'"},
      {5, "sync = some 1",
       "f.conf:5: bad value 'some 1' for 'sync': write 'all', or 'first' or 'any' and how many peers, "
       "such as 'any 1'"},
      {5, "sync = any 0",
       "f.conf:5: bad value 'any 0' for 'sync': write 'all', or 'first' or 'any' and how many peers, "
       "such as 'any 1'"},
      {5, "sync = first 2", "f.conf:5: 'sync' waits for 2 peers, and a node has 1: write less, or 'all'"},
      {5, "on-peer-loss = stop",
       "f.conf:5: bad value 'stop' for 'on-peer-loss': must be one of continue, suspend, arbiter"},
      {5, "insecure = maybe", "f.conf:5: bad value 'maybe' for 'insecure': must be one of yes, no"},
      {5, "peer-timeout = 199ms",
       "f.conf:5: bad value '199ms' for 'peer-timeout': write milliseconds or '3s' or '200ms', from 200ms to 60s"},
      {5, "peer-timeout = 61s",
       "f.conf:5: bad value '61s' for 'peer-timeout': write milliseconds or '3s' or '200ms', from 200ms to 60s"},
      {5, "activity-log-extents = 60",
       "f.conf:5: bad value '60' for 'activity-log-extents': must be a number from 61 to 65534"},
      {5, "poll-us = 1001", "f.conf:5: bad value '1001' for 'poll-us': must be a number from 0 to 1000"},
      {5, "poll-us = -1", "f.conf:5: bad value '-1' for 'poll-us': must be a number from 0 to 1000"},
      {5, "activity-log-extents = 100x",
       "f.conf:5: bad value '100x' for 'activity-log-extents': must be a number from 61 to 65534"},
      {6, "secret-file = key", "f.conf:6: bad value 'key' for 'secret-file': must be an absolute path"},
      {9, "address = 127.0.0.1",
       "f.conf:9: bad value '127.0.0.1' for 'address': write HOST:PORT, or [ADDRESS]:PORT for IPv6"},
      {9, "address = 127.0.0.1:0",
       "f.conf:9: bad value '127.0.0.1:0' for 'address': write HOST:PORT, or [ADDRESS]:PORT for IPv6"},
      {9, "address = 127.0.0.1:65536",
       "f.conf:9: bad value '127.0.0.1:65536' for 'address': write HOST:PORT, or [ADDRESS]:PORT for IPv6"},
      {9, "address = ::1:77",
       "f.conf:9: bad value '::1:77' for 'address': write HOST:PORT, or [ADDRESS]:PORT for IPv6"},
      {9, "address = 10.0.0.1:7789",
       "f.conf:9: '10.0.0.1:7789' is not loopback and its traffic would not be encrypted: write 'secret-file' or "
       "'link-certificates' in [resource], or 'insecure = yes' in [resource] if the network is trusted"},
      {9, "address = 127.example.org:7789",
       "f.conf:9: '127.example.org:7789' is not loopback and its traffic would not be encrypted: write 'secret-file' "
       "or "
       "'link-certificates' in [resource], or 'insecure = yes' in [resource] if the network is trusted"},
      {16, "address = 127.0.0.1:7789",
       "f.conf:16: address 127.0.0.1:7789 of node 'beta' is already that of node 'alpha': give each node its own"},
      {10, "disk = alpha.img", "f.conf:10: bad value 'alpha.img' for 'disk': must be an absolute path"},
      {17, "disk = /dev/sdb",
       "f.conf:17: bad value '/dev/sdb' for 'disk': a device needs the key 'metadata' too: the default, /dev/sdb.meta, "
       "would be in /dev"},
      {11, "metadata = alpha.md", "f.conf:11: bad value 'alpha.md' for 'metadata': must be an absolute path"},
      {11, "metadata = /srv/alpha.img",
       "f.conf:11: metadata /srv/alpha.img of node 'alpha' is already the disk: give each its own path"},
      {17, "disk = /srv/../srv/alpha.img",
       "f.conf:17: disk /srv/../srv/alpha.img of node 'beta' is already the disk of node 'alpha' on the same host: "
       "give "
       "each its own path"},
      {17, "disk = /srv/alpha.md",
       "f.conf:17: disk /srv/alpha.md of node 'beta' is already the metadata of node 'alpha' on the same host: give "
       "each "
       "its own path"},
      {12, "nbd = /run/x", "f.conf:12: bad value '/run/x' for 'nbd': write unix:/PATH or tcp:HOST:PORT"},
      {13, "nbd = tcp:127.0.0.1", "f.conf:13: bad value 'tcp:127.0.0.1' for 'nbd': write unix:/PATH or tcp:HOST:PORT"},
      {13, "nbd = tcp:0.0.0.0:10809",
       "f.conf:13: 'tcp:0.0.0.0:10809' is not loopback and its traffic would not be encrypted: write 'tls = require' "
       "with its credentials, or 'insecure = yes' in [resource] if the network is trusted"},
      {5, "tls = maybe", "f.conf:5: bad value 'maybe' for 'tls': must be one of off, on, require"},
      {5, "tls = on",
       "f.conf:5: tls needs credentials: write 'tls-certificates' or 'tls-psk-file' in [resource] or in [node.alpha]"},
      {5, "tls-verify-peer = yes",
       "f.conf:5: tls-verify-peer has no effect: write 'tls = require' or 'tls = on', or remove it"},
      {5, "tls-certificates = pki", "f.conf:5: bad value 'pki' for 'tls-certificates': must be an absolute path"},
      {5, "tls-allow = a,,b", "f.conf:5: bad value 'a,,b' for 'tls-allow': write names with commas between them"},
      {5, "shared = 1", "f.conf:5: bad value '1' for 'shared': must be one of yes, no"},
      {13, "nbd = tcp:127.0.0.1:7790",
       "f.conf:13: nbd tcp:127.0.0.1:7790 is already the replication address of node 'beta': choose another port"},
      {13, "nbd = unix:/run/lockstep/pgdata.beta.nbd",
       "f.conf:15: nbd unix:/run/lockstep/pgdata.beta.nbd of node 'beta' is already that of node 'alpha' on the same "
       "host: "
       "give each its own"},
  }));
  CAPTURE(mistake.line, mistake.content);
  CHECK(error_of(with_line(mistake.line, mistake.content)) == mistake.error);
}

TEST_CASE("handlers are commands by event") {
  const std::string good = kGood;
  const auto result = parse_configuration(good +
                                              "[handlers]\nsplit-brain = /usr/bin/logger -t lockstep  split\n"
                                              "before-resync-target = /bin/snapshot\ntimeout = 5s\n"
                                              "resync-needs-handler = yes\n",
                                          "f.conf");
  REQUIRE(result.ok());
  CHECK(result->handlers.command_of(HandlerEvent::SplitBrain) == "/usr/bin/logger -t lockstep  split");
  CHECK(result->handlers.command_of(HandlerEvent::Promoted).empty());
  CHECK(result->handlers.timeout_ms == 5000);
  CHECK(result->handlers.resync_needs_handler);
  const auto error = [&](const std::string& line) { return error_of(good + "[handlers]\n" + line + "\n"); };
  CHECK(error("split-brian = /x") == "f.conf:19: unknown key 'split-brian' in [handlers]: did you mean 'split-brain'?");
  CHECK(error("protocol = C") == "f.conf:19: unknown key 'protocol' in [handlers]: it belongs to [resource]");
  CHECK(error("promoted = logger") ==
        "f.conf:19: bad value 'logger' for 'promoted': must start with the absolute path of a program; there is no "
        "shell");
  CHECK(error("timeout = 999ms") ==
        "f.conf:19: bad value '999ms' for 'timeout': write milliseconds or '60s', from 1s to 3600s");
  CHECK(error("timeout = 0") ==
        "f.conf:19: bad value '0' for 'timeout': write milliseconds or '60s', from 1s to 3600s");
  CHECK(error("resync-needs-handler = yes") ==
        "f.conf:19: bad value 'yes' for 'resync-needs-handler': needs the key 'before-resync-target', the handler that "
        "it is about");
}

TEST_CASE("a socket path that the kernel cannot take is refused") {
  const std::string path = "unix:/" + std::string(107, 'x');
  CHECK(error_of(with_line(12, "nbd = " + path)) ==
        "f.conf:12: bad value '" + path + "' for 'nbd': a socket's path has at most 107 bytes");
}

TEST_CASE("a file without nodes, without a resource, and with too many nodes") {
  CHECK(error_of("[resource]\nname = r\nsize = 4K\n") == "f.conf: no [node.NAME] section: name at least one node");
  CHECK(error_of("[node.a]\naddress = localhost:1\ndisk = /d\n") ==
        "f.conf: no [resource] section: the file must have one");
  CHECK(error_of("") == "f.conf: no [resource] section: the file must have one");
  std::string text = "[resource]\nname = r\nsize = 4K\n";
  for (int i = 1; i <= 9; ++i) {
    const std::string n = std::to_string(i);
    text += "[node.n" + n + "]\naddress = localhost:" + n + "\ndisk = /d" + n + "\n";
    if (i == 8) CHECK(error_of(text) == "no error");
  }
  CHECK(error_of(text) == "f.conf:28: more than 8 nodes: remove [node.n9]");
}

TEST_CASE("the replication link is encrypted by a key or by certificates, for every node or for none") {
  const auto parse = [](const std::string& resource, const std::string& alpha, const std::string& beta) {
    return parse_configuration("[resource]\nname = pgdata\nsize = 1G\n" + resource +
                                   "\n[node.alpha]\naddress = 10.0.0.1:7789\ndisk = /a\nnbd = unix:/a.nbd\n" + alpha +
                                   "\n[node.beta]\naddress = 10.0.0.2:7789\ndisk = /b\nnbd = unix:/b.nbd\n" + beta +
                                   "\n",
                               "f.conf");
  };
  CHECK(parse("secret-file = /etc/key", "", "").ok());
  const auto by_certificates = parse("link-certificates = /pki", "link-certificates = /pki.a", "");
  REQUIRE(by_certificates.ok());
  CHECK(by_certificates->nodes[0].link_certificates == "/pki.a");
  CHECK(by_certificates->nodes[1].link_certificates == "/pki");
  const auto plain = parse("", "", "");
  REQUIRE_FALSE(plain.ok());
  CHECK(plain.error().message.find("write 'secret-file' or 'link-certificates' in [resource], or 'insecure = yes'") !=
        std::string::npos);
  const auto both = parse("secret-file = /etc/key\nlink-certificates = /pki", "", "");
  REQUIRE_FALSE(both.ok());
  CHECK(both.error().message == "f.conf:4: write one of 'secret-file' and 'link-certificates', not both");
  const auto half = parse("", "link-certificates = /pki", "");
  REQUIRE_FALSE(half.ok());
  CHECK(half.error().message.find("node 'beta' has no 'link-certificates', and another node has") != std::string::npos);
}

TEST_CASE("a configuration file is loaded from disk") {
  const TemporaryFolder folder;
  const std::string path = folder.write("pgdata.conf", kGood);

  const auto loaded = load_configuration(path, "pgdata");
  REQUIRE(loaded.ok());
  CHECK(loaded->path == path);

  const auto other = load_configuration(path, "mail");
  REQUIRE_FALSE(other.ok());
  CHECK(other.error().message == path + ":2: this file configures the resource 'pgdata', not 'mail'");

  const auto missing = load_configuration(folder.path() + "/none.conf", "none");
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().kind == ErrorKind::NotFound);
  CHECK(missing.error().message == folder.path() +
                                       "/none.conf: cannot read the configuration: No such file or "
                                       "directory: write it, or name it with --config FILE");

  const auto is_folder = load_configuration(folder.path(), "pgdata");
  REQUIRE_FALSE(is_folder.ok());
  CHECK(is_folder.error().message == folder.path() + ": cannot read the configuration: Is a directory");
}

TEST_CASE("durations") {
  CHECK(parse_duration_ms("3s").value() == 3000);
  CHECK(parse_duration_ms("200ms").value() == 200);
  CHECK(parse_duration_ms("200").value() == 200);
  for (const char* text : {"", "s", "3 s", "3m", "-1s", "4294968s", "4294967296"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_duration_ms(text).ok());
  }
}

TEST_CASE("loopback is recognised without looking names up") {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "localhost", "::1"}) CHECK(is_loopback_host(host));
  for (const char* host : {"10.0.0.1", "127.example.org", "127.0.0.1.evil", "::", "localhost.example"}) {
    CHECK_FALSE(is_loopback_host(host));
  }
}
TEST_CASE("who may use the export") {
  const auto parse = [](const std::string& lines, const std::string& node_lines = "") {
    return parse_configuration(
        "[resource]\nname=r\nsize=4096\n" + lines + "\n[node.a]\naddress=127.0.0.1:1\ndisk=/d\n" + node_lines,
        "f.conf");
  };
  const auto plain = parse("");
  REQUIRE(plain);
  CHECK(plain->nbd_export.tls == TlsPolicy::Off);
  CHECK_FALSE(plain->nbd_export.shared);
  CHECK_FALSE(plain->nbd_export.read_only);

  const auto all = parse(
      "read-only = yes\nshared = yes\ntls = require\ntls-certificates = /pki\ntls-psk-file = /keys\n"
      "tls-verify-peer = yes\ntls-allow = db1 , db2",
      "nbd = tcp:0.0.0.0:10809\ntls-certificates = /pki.a");
  REQUIRE(all);
  CHECK(all->nbd_export.read_only);
  CHECK(all->nbd_export.shared);
  CHECK(all->nbd_export.tls == TlsPolicy::Require);
  CHECK(all->nbd_export.tls_verify_peer);
  CHECK(all->nbd_export.tls_allow == std::vector<std::string>{"db1", "db2"});
  CHECK(all->nodes[0].tls_certificates == "/pki.a");
  CHECK(all->nodes[0].tls_psk_file == "/keys");

  // Offered is not required: clear text could still leave the host.
  CHECK_FALSE(parse("tls = on\ntls-psk-file = /keys", "nbd = tcp:0.0.0.0:10809"));
  CHECK_FALSE(parse("tls = on\ntls-certificates = /pki\ntls-allow = a"));
  CHECK_FALSE(parse("tls = on\ntls-psk-file = /keys\ntls-verify-peer = yes"));
}
