#include "tools/configuration_checks.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

namespace lockstep::tools {
namespace {

// sun_path holds 108 bytes with its terminating zero.
constexpr size_t kMaximumSocketPathBytes = 107;

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

// "HOST:PORT" or "[V6]:PORT" with a port from 1 to 65535; false when the text has no such form.
bool split_host_port(std::string_view text, HostPort& result) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return false;
  }
  if (host.empty() || host.find_first_of(" \t/[]") != std::string_view::npos) return false;
  unsigned number = 0;
  const auto [end, code] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (code != std::errc{} || end != port.data() + port.size() || number == 0 || number > 65535) return false;
  result = {std::string(host), static_cast<uint16_t>(number)};
  return true;
}

// All loopback addresses are one host: this one.
std::string host_identity(std::string_view host) {
  return is_loopback_host(host) ? "loopback" : std::string(host);
}

std::string normal_path(const std::string& path) {
  return std::filesystem::path(path).lexically_normal().string();
}

class NodeChecker {
 public:
  NodeChecker(ResourceConfiguration& configuration, const ConfigurationLines& lines)
      : configuration_(configuration), lines_(lines) {}

  Status run() {
    for (const NodeConfiguration& node : configuration_.nodes) {
      if (Status status = check_address(node); !status) return status;
      if (Status status = check_tls(node); !status) return status;
      if (Status status = check_metrics(node); !status) return status;
    }
    for (NodeConfiguration& node : configuration_.nodes) {
      complete_nbd(node);
      if (node.audit.empty()) node.audit = "/var/lib/lockstep/" + configuration_.name + "." + node.name + ".audit";
      if (Status status = check_nbd(node); !status) return status;
      if (Status status = check_paths(node); !status) return status;
    }
    return {};
  }

 private:
  Error error(const NodeConfiguration& node, const std::string& key, const std::string& what, size_t index = 0) const {
    const int line = lines_.line_of("node." + node.name, key, index);
    return configuration_error(configuration_.path, line == 0 ? node.line : line, what);
  }

  std::string host(const NodeConfiguration& node) const { return host_identity(host_of(node.address)); }

  Status check_insecure(const NodeConfiguration& node, const std::string& key, const std::string& text,
                        const std::string& address_host, size_t index) const {
    if (configuration_.insecure || is_loopback_host(address_host)) return {};
    return error(node, key,
                 "'" + text + "' is not loopback and its traffic would not be encrypted: write " +
                     (key == "nbd" ? "'tls = require' with its credentials, or "
                                   : "'secret-file' or 'link-certificates' in [resource], or ") +
                     "'insecure = yes' in [resource] if the network is trusted",
                 index);
  }

  // Reads the address of a key that no other node, and no other key, may have as well.
  Status claim_address(const NodeConfiguration& node, const std::string& key, const std::string& text,
                       HostPort& address) {
    if (!split_host_port(text, address)) {
      return error(node, key,
                   "bad value '" + text + "' for '" + key + "': write HOST:PORT, or [ADDRESS]:PORT for IPv6");
    }
    const std::string identity = address.host + ":" + std::to_string(address.port);
    const auto [place, added] = addresses_.emplace(identity, node.name);
    if (added) return {};
    return error(node, key,
                 "address " + text + " of node '" + node.name + "' is already that of node '" + place->second +
                     "': give each node its own");
  }

  Status check_address(const NodeConfiguration& node) {
    HostPort address;
    if (Status status = claim_address(node, "address", node.address, address); !status) return status;
    ++nodes_of_host_[host(node)];
    const bool certified = !node.link_certificates.empty();
    if (certified && !configuration_.secret_file.empty()) {
      return configuration_error(configuration_.path, lines_.line_of("resource", "secret-file"),
                                 "write one of 'secret-file' and 'link-certificates', not both");
    }
    const bool others_are = std::ranges::any_of(
        configuration_.nodes, [](const NodeConfiguration& other) { return !other.link_certificates.empty(); });
    if (!certified && others_are) {
      return error(node, "address", "node '" + node.name + "' has no 'link-certificates', and another node has");
    }
    if (certified || !configuration_.secret_file.empty()) return {};
    return check_insecure(node, "address", node.address, address.host, 0);
  }

  // What it serves is no secret, and asks for no password.
  Status check_metrics(const NodeConfiguration& node) {
    if (node.metrics.empty()) return {};
    HostPort address;
    if (Status status = claim_address(node, "metrics", node.metrics, address); !status) return status;
    if (configuration_.insecure || is_loopback_host(address.host)) return {};
    return error(node, "metrics",
                 "'" + node.metrics +
                     "' is not loopback, and everybody there could read the metrics: write 'insecure = yes' "
                     "in [resource] if the network is trusted");
  }

  Error tls_error(const std::string& key, const std::string& what) const {
    return configuration_error(configuration_.path, lines_.line_of("resource", key), what);
  }

  Status check_tls(const NodeConfiguration& node) const {
    const ExportConfiguration& exported = configuration_.nbd_export;
    const bool has_any = !node.tls_certificates.empty() || !node.tls_psk_file.empty();
    if (exported.tls == TlsPolicy::Off) {
      for (const char* key : {"tls-verify-peer", "tls-allow", "tls-certificates", "tls-psk-file"}) {
        if (lines_.line_of("resource", key) == 0) continue;
        return tls_error(key, std::string(key) + " has no effect: write 'tls = require' or 'tls = on', or remove it");
      }
      return {};
    }
    if (!has_any) {
      return tls_error("tls",
                       "tls needs credentials: write 'tls-certificates' or 'tls-psk-file' in [resource] or in "
                       "[node." +
                           node.name + "]");
    }
    if (exported.tls_verify_peer && node.tls_certificates.empty()) {
      return tls_error("tls-verify-peer",
                       "tls-verify-peer needs 'tls-certificates', whose ca-cert.pem clients are "
                       "verified by");
    }
    if (!exported.tls_allow.empty() && !exported.tls_verify_peer && node.tls_psk_file.empty()) {
      return tls_error("tls-allow",
                       "tls-allow needs clients that prove a name: write 'tls-verify-peer = yes' or a 'tls-psk-file'");
    }
    return {};
  }

  void complete_nbd(NodeConfiguration& node) {
    if (!node.nbd.empty()) return;
    const bool alone = nodes_of_host_[host(node)] == 1;
    node.nbd.push_back("unix:/run/lockstep/" + configuration_.name + (alone ? "" : "." + node.name) + ".nbd");
  }

  Status check_nbd(const NodeConfiguration& node) {
    for (size_t i = 0; i < node.nbd.size(); ++i) {
      const std::string& nbd = node.nbd[i];
      std::string identity;
      HostPort address;
      if (nbd.starts_with("unix:/")) {
        if (nbd.size() - 5 > kMaximumSocketPathBytes) {
          return error(node, "nbd", "bad value '" + nbd + "' for 'nbd': a socket's path has at most 107 bytes", i);
        }
        identity = normal_path(nbd.substr(5));
      } else if (nbd.starts_with("tcp:") && split_host_port(std::string_view(nbd).substr(4), address)) {
        identity = nbd.substr(4);
        if (configuration_.nbd_export.tls != TlsPolicy::Require) {
          if (Status status = check_insecure(node, "nbd", nbd, address.host, i); !status) return status;
        }
        if (const auto other = addresses_.find(address.host + ":" + std::to_string(address.port));
            other != addresses_.end()) {
          return error(
              node, "nbd",
              "nbd " + nbd + " is already the replication address of node '" + other->second + "': choose another port",
              i);
        }
      } else {
        return error(node, "nbd", "bad value '" + nbd + "' for 'nbd': write unix:/PATH or tcp:HOST:PORT", i);
      }
      const auto [place, added] = nbd_.emplace(std::pair{host(node), identity}, node.name);
      if (!added) {
        return error(node, "nbd",
                     "nbd " + nbd + " of node '" + node.name + "' is already that of node '" + place->second +
                         "' on the same host: give each its own",
                     i);
      }
    }
    return {};
  }

  Status check_paths(const NodeConfiguration& node) {
    for (const std::string key : {"disk", "metadata", "audit"}) {
      const std::string& path = key == "disk" ? node.disk : key == "metadata" ? node.metadata : node.audit;
      const auto [place, added] = paths_.emplace(std::pair{host(node), normal_path(path)}, std::pair{key, node.name});
      if (added) continue;
      const auto& [other_key, other_node] = place->second;
      const std::string where = other_node == node.name ? "" : " of node '" + other_node + "' on the same host";
      return error(node, key,
                   key + " " + path + " of node '" + node.name + "' is already the " + other_key + where +
                       ": give each its own path");
    }
    return {};
  }

  ResourceConfiguration& configuration_;
  const ConfigurationLines& lines_;
  std::map<std::string, std::string> addresses_;  // HOST:PORT to node
  std::map<std::string, int> nodes_of_host_;
  std::map<std::pair<std::string, std::string>, std::string> nbd_;  // host and address to node
  std::map<std::pair<std::string, std::string>, std::pair<std::string, std::string>> paths_;  // to key and node
};

}  // namespace

std::string host_of(std::string_view address) {
  HostPort parts;
  return split_host_port(address, parts) ? parts.host : std::string(address);
}

bool is_loopback_host(std::string_view host) {
  if (host == "localhost" || host == "::1") return true;
  if (!host.starts_with("127.")) return false;
  // Four numbers: "127.example.org" is a name.
  return std::count(host.begin(), host.end(), '.') == 3 &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

Status complete_and_check_nodes(ResourceConfiguration& configuration, const ConfigurationLines& lines) {
  return NodeChecker(configuration, lines).run();
}

}  // namespace lockstep::tools
