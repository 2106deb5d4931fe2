#include "tools/node_choice.h"

#include <catch2/catch.hpp>

#include "tests/unit/tools/temporary_folder.h"

using namespace lockstep;
using namespace lockstep::tools;

namespace {

ResourceConfiguration two_nodes() {
  return parse_configuration(
             "[resource]\nname=r\nsize=4K\n[node.alpha]\naddress=127.0.0.1:1\ndisk=/"
             "a\n[node.beta]\naddress=127.0.0.1:2\n"
             "disk=/b\n",
             "f.conf")
      .value();
}

}  // namespace

TEST_CASE("the node is the one asked for, else the host's, else the one that runs") {
  const TemporaryFolder folder;
  const ResourceConfiguration configuration = two_nodes();
  const auto chosen = [&](const std::string& given, const std::string& host) {
    const auto node = choose_node(configuration, given, folder.path(), host);
    return node ? (*node)->name : node.error().message;
  };

  CHECK(chosen("beta", "alpha") == "beta");
  CHECK(chosen("gamma", "alpha") == "f.conf: no node 'gamma': the nodes of r are alpha, beta");
  CHECK(chosen("", "alpha") == "alpha");
  CHECK(chosen("", "beta.example.org") == "beta");
  CHECK(chosen("", "vm") ==
        "f.conf: no node is named like this host, 'vm': add --node NAME; the nodes of r are alpha, beta");

  folder.write("r.gamma.sock", "");
  folder.write("r.beta.sock", "");
  CHECK(chosen("", "vm") == "beta");
  folder.write("r.alpha.sock", "");
  CHECK(chosen("", "vm") ==
        "f.conf: no node is named like this host, 'vm': add --node NAME; the nodes of r are alpha, beta");
}

TEST_CASE("paths in the run folder") {
  CHECK(control_socket_path("/run/lockstep", "r", "alpha") == "/run/lockstep/r.alpha.sock");
  CHECK(daemon_log_path("/run/lockstep", "r", "alpha") == "/run/lockstep/r.alpha.log");
  CHECK(choose_run_dir("/x") == "/x");
  CHECK(list_control_sockets("/nonexistent/folder").empty());
}
