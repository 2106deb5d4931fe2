#include "tools/configuration.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/program_options.hpp>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <sstream>

#include "io/base/units.h"
#include "tools/configuration_checks.h"
#include "tools/configuration_keys.h"
#include "tools/configuration_section.h"
#include "tools/configuration_text.h"

namespace lockstep::tools {
namespace {

namespace po = boost::program_options;

constexpr std::string_view kNodePrefix = "node.";
constexpr size_t kMaximumFileBytes = kMiB;

const std::vector<std::string>& resource_keys() {
  static const std::vector<std::string> keys = names_of(resource_key_specs());
  return keys;
}

const std::vector<std::string>& handler_keys() {
  static const std::vector<std::string> keys = names_of(handler_key_specs());
  return keys;
}

const std::vector<std::string>& node_keys() {
  static const std::vector<std::string> keys = names_of(node_key_specs());
  return keys;
}

Status check_sections(const ConfigurationLines& lines, const std::string& path) {
  size_t nodes = 0;
  bool has_resource = false;
  for (const ConfigurationSection& section : lines.sections) {
    if (section.name == "resource") {
      has_resource = true;
      continue;
    }
    if (section.name == "handlers") continue;
    if (section.name.starts_with(kNodePrefix)) {
      const std::string name = section.name.substr(kNodePrefix.size());
      if (!is_valid_name(name)) {
        return configuration_error(path, section.line,
                                   "'" + name + "' cannot name a node: use 1 to 64 of A-Z a-z 0-9 _ . -");
      }
      if (++nodes > kMaximumNodes) {
        return configuration_error(
            path, section.line, "more than " + std::to_string(kMaximumNodes) + " nodes: remove [" + section.name + "]");
      }
      continue;
    }
    const size_t dot = section.name.find('.');
    const std::string nearest = nearest_word(section.name.substr(0, dot), {"resource", "handlers", "node"});
    std::string hint = "known sections are [resource], [handlers] and [node.NAME]";
    if (nearest == "resource" || nearest == "handlers") hint = "did you mean [" + nearest + "]?";
    if (nearest == "node") {
      hint = "did you mean [node." + (dot == std::string::npos ? "NAME" : section.name.substr(dot + 1)) + "]?";
    }
    return configuration_error(path, section.line, "unknown section [" + section.name + "]: " + hint);
  }
  if (!has_resource) return configuration_error(path, 0, "no [resource] section: the file must have one");
  if (nodes == 0) return configuration_error(path, 0, "no [node.NAME] section: name at least one node");
  return {};
}

const std::vector<std::string>& keys_of(const std::string& section) {
  if (section == "resource") return resource_keys();
  return section == "handlers" ? handler_keys() : node_keys();
}

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

Status check_keys(const ConfigurationLines& lines, const std::string& path) {
  for (size_t i = 0; i < lines.entries.size(); ++i) {
    const ConfigurationEntry& entry = lines.entries[i];
    const auto& known = keys_of(entry.section);
    if (!contains(known, entry.key)) {
      const std::string nearest = nearest_word(entry.key, known);
      std::string hint = nearest.empty() ? "known keys are " + joined(known) : "did you mean '" + nearest + "'?";
      if (contains(node_keys(), entry.key)) hint = "it belongs to a [node.NAME]";
      if (contains(handler_keys(), entry.key)) hint = "it belongs to [handlers]";
      if (contains(resource_keys(), entry.key)) hint = "it belongs to [resource]";
      return configuration_error(path, entry.line,
                                 "unknown key '" + entry.key + "' in [" + entry.section + "]: " + hint);
    }
    const int first = lines.line_of(entry.section, entry.key);
    if (first != entry.line && entry.key != "nbd") {
      return configuration_error(
          path, entry.line,
          "key '" + entry.key + "' in [" + entry.section + "] stands twice: first on line " + std::to_string(first));
    }
  }
  return {};
}

// The text's values by "section.key", as Boost reads them.
Result<po::variables_map> parse_values(std::string_view text, const ConfigurationLines& lines,
                                       const std::string& path) {
  po::options_description known;
  for (const ConfigurationSection& section : lines.sections) {
    for (const std::string& key : keys_of(section.name)) {
      const std::string option = section.name + "." + key;
      if (key == "nbd") {
        known.add_options()(option.c_str(), po::value<std::vector<std::string>>()->composing());
      } else {
        known.add_options()(option.c_str(), po::value<std::string>());
      }
    }
  }
  try {
    std::istringstream stream{std::string(text)};
    po::variables_map values;
    po::store(po::parse_config_file(stream, known), values);
    po::notify(values);
    return values;
  } catch (const po::error& error) {
    return configuration_error(path, 0, error.what());
  }
}

Status read_path(const SectionReader& section, const std::string& key, std::string& path) {
  path = section.text(key, path);
  if (!path.empty() && path.front() != '/') return section.bad(key, "must be an absolute path");
  return {};
}

Status read_export(const SectionReader& section, ExportConfiguration& exported) {
  const std::vector<std::pair<std::string, bool>> yes_or_no = {{"yes", true}, {"no", false}};
  Status status = section.choose<bool>("read-only", exported.read_only, yes_or_no);
  if (status) status = section.choose<bool>("shared", exported.shared, yes_or_no);
  if (status) status = section.choose<bool>("tls-verify-peer", exported.tls_verify_peer, yes_or_no);
  if (status) {
    status = section.choose<TlsPolicy>(
        "tls", exported.tls, {{"off", TlsPolicy::Off}, {"on", TlsPolicy::On}, {"require", TlsPolicy::Require}});
  }
  if (!status) return status;
  std::istringstream names(section.text("tls-allow", ""));
  for (std::string name; std::getline(names, name, ',');) {
    name.erase(0, name.find_first_not_of(" \t"));
    name.erase(name.find_last_not_of(" \t") + 1);
    if (name.empty()) return section.bad("tls-allow", "write names with commas between them");
    exported.tls_allow.push_back(name);
  }
  return {};
}

Status read_sync(const SectionReader& section, SyncConfiguration& sync) {
  const std::string text = section.text("sync", "all");
  if (text == "all") return {};
  const size_t space = text.find(' ');
  const std::string word = text.substr(0, space);
  const std::string number =
      space == std::string::npos ? "" : text.substr(std::min(text.size(), text.find_first_not_of(' ', space)));
  const bool is_number = number.size() == 1 && number[0] >= '1' && number[0] < static_cast<char>('0' + kMaximumNodes);
  if ((word != "first" && word != "any") || !is_number) {
    return section.bad("sync", "write 'all', or 'first' or 'any' and how many peers, such as 'any 1'");
  }
  sync = {word == "first" ? SyncPeers::First : SyncPeers::Any, static_cast<uint8_t>(number[0] - '0')};
  return {};
}

const std::vector<std::pair<std::string, Protocol>>& protocol_words() {
  static const std::vector<std::pair<std::string, Protocol>> words{
      {"A", Protocol::A}, {"B", Protocol::B}, {"C", Protocol::C}};
  return words;
}

Status read_resource(const SectionReader& section, ResourceConfiguration& configuration) {
  Result<std::string> name = section.required("name");
  if (!name) return std::move(name).error();
  if (!is_valid_name(*name)) return section.bad("name", "use 1 to 64 of A-Z a-z 0-9 _ . -");
  configuration.name = *name;

  const Result<std::string> size = section.required("size");
  if (!size) return size.error();
  const Result<uint64_t> size_bytes = parse_size(*size);
  if (!size_bytes) return section.bad("size", "write bytes, or a number followed by K, M, G or T");
  if (*size_bytes == 0 || *size_bytes % kSizeUnitBytes != 0) {
    return section.bad("size", "must be a multiple of 4096 bytes and more than 0");
  }
  if (*size_bytes > static_cast<uint64_t>(INT64_MAX)) return section.bad("size", "is more than a device can have");
  configuration.size_bytes = *size_bytes;

  Status status = section.choose<Protocol>("protocol", configuration.protocol, protocol_words());
  if (!status) return status;
  status = read_sync(section, configuration.sync);
  if (!status) return status;
  status = section.choose<PeerLossPolicy>("on-peer-loss", configuration.on_peer_loss,
                                          {{"continue", PeerLossPolicy::Continue},
                                           {"suspend", PeerLossPolicy::Suspend},
                                           {"arbiter", PeerLossPolicy::Arbiter}});
  if (!status) return status;
  status = section.choose<bool>("insecure", configuration.insecure, {{"yes", true}, {"no", false}});
  if (!status) return status;

  if (section.given("peer-timeout")) {
    const Result<uint32_t> timeout_ms = parse_duration_ms(section.text("peer-timeout", ""));
    if (!timeout_ms || *timeout_ms < kMinimumPeerTimeoutMs || *timeout_ms > kMaximumPeerTimeoutMs) {
      return section.bad("peer-timeout", "write milliseconds or '3s' or '200ms', from 200ms to 60s");
    }
    configuration.peer_timeout_ms = *timeout_ms;
  }
  const auto number = [&section](const char* key, uint32_t least, uint32_t most, uint32_t& value) -> Status {
    if (!section.given(key)) return {};
    const std::string text = section.text(key, "");
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code == std::errc{} && end == text.data() + text.size() && value >= least && value <= most) return {};
    return section.bad(key, "must be a number from " + std::to_string(least) + " to " + std::to_string(most));
  };
  status = number("activity-log-extents", 61, 65534, configuration.activity_log_extents);
  if (status) status = number("poll-us", 0, kMaximumPollUs, configuration.poll_us);
  if (!status) return status;
  const auto rate = [&section](const char* key, uint64_t& value) -> Status {
    if (!section.given(key)) return {};
    const Result<uint64_t> parsed = parse_size(section.text(key, ""));
    if (!parsed) return section.bad(key, "write bytes a second, or with K, M or G");
    value = *parsed;
    return {};
  };
  status = rate("resync-rate-max", configuration.resync_rate_max);
  if (status) status = rate("resync-rate-min", configuration.resync_rate_min);
  if (!status) return status;
  if (configuration.resync_rate_max != 0 && configuration.resync_rate_max < configuration.resync_rate_min) {
    return section.bad("resync-rate-max", "must not be less than resync-rate-min, which is " +
                                              format_size(configuration.resync_rate_min) + " a second");
  }
  status = read_path(section, "secret-file", configuration.secret_file);
  if (!status) return status;
  configuration.fence_command = section.text("fence-command", "");
  status = read_export(section, configuration.nbd_export);
  if (!status) return status;
  const bool wants_arbiter = configuration.on_peer_loss == PeerLossPolicy::Arbiter;
  if (wants_arbiter && configuration.fence_command.empty()) {
    return section.bad("on-peer-loss", "needs the key 'fence-command': the program that is the arbiter");
  }
  if (!wants_arbiter && !configuration.fence_command.empty()) {
    return section.bad("fence-command", "is asked under 'on-peer-loss = arbiter' only");
  }
  if (wants_arbiter && configuration.fence_command.front() != '/') {
    return section.bad("fence-command", "must start with the absolute path of a program; there is no shell");
  }
  configuration.name_line = section.line("name");
  configuration.sync_line = section.line("sync");
  return {};
}

Status read_node(const SectionReader& section, NodeConfiguration& node) {
  Result<std::string> address = section.required("address");
  if (!address) return std::move(address).error();
  node.address = *address;
  Result<std::string> disk = section.required("disk");
  if (!disk) return std::move(disk).error();
  if (disk->front() != '/') return section.bad("disk", "must be an absolute path");
  node.disk = *disk;
  if (section.given("metadata")) {
    Result<std::string> metadata = section.required("metadata");
    if (!metadata) return std::move(metadata).error();
    if (metadata->front() != '/') return section.bad("metadata", "must be an absolute path");
    node.metadata = *metadata;
  } else if (node.disk.starts_with("/dev/")) {
    return section.bad("disk",
                       "a device needs the key 'metadata' too: the default, " + node.disk + ".meta, would be in /dev");
  } else {
    node.metadata = node.disk + ".meta";
  }
  if (section.given("audit")) {
    Result<std::string> audit = section.required("audit");
    if (!audit) return std::move(audit).error();
    if (audit->front() != '/') return section.bad("audit", "must be an absolute path");
    node.audit = *audit;
  } else if (!node.metadata.starts_with("/dev/")) {
    node.audit = node.metadata + ".audit";
  }
  if (section.given("protocol")) {
    Protocol protocol = Protocol::C;
    if (Status status = section.choose<Protocol>("protocol", protocol, protocol_words()); !status) return status;
    node.protocol = protocol;
  }
  node.nbd = section.texts("nbd");
  node.metrics = section.text("metrics", "");
  Status status = read_path(section, "link-certificates", node.link_certificates);
  if (status) status = read_path(section, "tls-certificates", node.tls_certificates);
  return status ? read_path(section, "tls-psk-file", node.tls_psk_file) : status;
}

}  // namespace

const NodeConfiguration* ResourceConfiguration::find_node(std::string_view node_name) const {
  for (const NodeConfiguration& node : nodes) {
    if (node.name == node_name) return &node;
  }
  return nullptr;
}

std::string ResourceConfiguration::node_names() const {
  std::vector<std::string> names;
  for (const NodeConfiguration& node : nodes) names.push_back(node.name);
  return joined(names);
}

bool is_valid_name(std::string_view name) {
  if (name.empty() || name.size() > 64 || name == "." || name == "..") return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-';
  });
}

Result<uint32_t> parse_duration_ms(std::string_view text) {
  const Error invalid{ErrorKind::Invalid, 0,
                      "'" + std::string(text) + "' is not a duration: write milliseconds, or '200ms' or '3s'"};
  uint32_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc{}) return invalid;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (unit.empty() || unit == "ms") return number;
  if (unit != "s" || number > UINT32_MAX / 1000) return invalid;
  return number * 1000;
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  std::string nearest;
  size_t nearest_distance = SIZE_MAX;
  for (const std::string& candidate : candidates) {
    // One row of the Levenshtein matrix at a time.
    std::vector<size_t> row(candidate.size() + 1);
    for (size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (size_t i = 0; i < word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i + 1;
      for (size_t j = 0; j < candidate.size(); ++j) {
        const size_t replaced = diagonal + (word[i] == candidate[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({replaced, row[j + 1] + 1, row[j] + 1});
      }
    }
    if (row.back() < nearest_distance) {
      nearest_distance = row.back();
      nearest = candidate;
    }
  }
  // Further than half of the word is a guess, not a hint.
  return nearest_distance <= std::max<size_t>(1, std::max(word.size(), nearest.size()) / 2) ? nearest : std::string();
}

Result<ResourceConfiguration> parse_configuration(std::string_view text, const std::string& path) {
  const Result<ConfigurationLines> lines = index_configuration(text, path);
  if (!lines) return lines.error();
  Status status = check_sections(*lines, path);
  if (!status) return std::move(status).error();
  status = check_keys(*lines, path);
  if (!status) return std::move(status).error();
  const Result<po::variables_map> values = parse_values(text, *lines, path);
  if (!values) return values.error();

  ResourceConfiguration configuration;
  configuration.path = path;
  for (const ConfigurationSection& section : lines->sections) {
    const SectionReader reader(*values, *lines, path, section);
    if (section.name == "resource") {
      status = read_resource(reader, configuration);
    } else if (section.name == "handlers") {
      status = read_handlers(reader, configuration.handlers);
    } else {
      NodeConfiguration node;
      node.name = section.name.substr(kNodePrefix.size());
      node.line = section.line;
      status = read_node(reader, node);
      configuration.nodes.push_back(std::move(node));
    }
    if (!status) return std::move(status).error();
  }
  for (const ConfigurationSection& section : lines->sections) {
    if (section.name != "resource") continue;
    // What holds for all nodes that say nothing else.
    const SectionReader reader(*values, *lines, path, section);
    std::string link_certificates;
    std::string certificates;
    std::string psk_file;
    status = read_path(reader, "link-certificates", link_certificates);
    if (status) status = read_path(reader, "tls-certificates", certificates);
    if (status) status = read_path(reader, "tls-psk-file", psk_file);
    if (!status) return std::move(status).error();
    for (NodeConfiguration& node : configuration.nodes) {
      if (node.link_certificates.empty()) node.link_certificates = link_certificates;
      if (node.tls_certificates.empty()) node.tls_certificates = certificates;
      if (node.tls_psk_file.empty()) node.tls_psk_file = psk_file;
    }
  }
  status = complete_and_check_nodes(configuration, *lines);
  if (!status) return std::move(status).error();
  if (configuration.sync.count >= configuration.nodes.size()) {
    return configuration_error(path, configuration.sync_line,
                               "'sync' waits for " + std::to_string(configuration.sync.count) +
                                   " peers, and a node has " + std::to_string(configuration.nodes.size() - 1) +
                                   ": write less, or 'all'");
  }
  return configuration;
}

Result<ResourceConfiguration> load_configuration(const std::string& path, const std::string& resource) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const int code = errno;
    const std::string what = path + ": cannot read the configuration: " + std::strerror(code);
    if (code == ENOENT) return Error{ErrorKind::NotFound, code, what + ": write it, or name it with --config FILE"};
    return Error{ErrorKind::Io, code, what};
  }
  struct stat about {};
  std::string text;
  int failed_errno = 0;
  if (::fstat(descriptor, &about) != 0) {
    failed_errno = errno;
  } else if (!S_ISREG(about.st_mode)) {
    failed_errno = S_ISDIR(about.st_mode) ? EISDIR : EINVAL;
  } else if (static_cast<uint64_t>(about.st_size) > kMaximumFileBytes) {
    failed_errno = EFBIG;
  }
  std::array<char, 4096> part{};
  while (failed_errno == 0) {
    const ssize_t got = ::read(descriptor, part.data(), part.size());
    if (got == 0) break;
    if (got < 0) {
      if (errno == EINTR) continue;
      failed_errno = errno;
    } else {
      text.append(part.data(), static_cast<size_t>(got));
    }
  }
  ::close(descriptor);
  if (failed_errno != 0) {
    return Error{ErrorKind::Io, failed_errno, path + ": cannot read the configuration: " + std::strerror(failed_errno)};
  }
  Result<ResourceConfiguration> configuration = parse_configuration(text, path);
  if (!configuration) return configuration;
  if (configuration->name != resource) {
    return configuration_error(
        path, configuration->name_line,
        "this file configures the resource '" + configuration->name + "', not '" + resource + "'");
  }
  return configuration;
}

}  // namespace lockstep::tools
