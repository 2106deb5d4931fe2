// The audit log: its lines, its file, and what nodes tell each other of it.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "io/loop.h"
#include "tests/unit/tools/temporary_folder.h"
#include "tools/audit_file.h"
#include "tools/audit_log.h"

using namespace lockstep;
using namespace lockstep::tools;
using nlohmann::json;
using repl::AuditFrame;
using repl::FrameKind;

namespace {

AuditRecord record_of(const std::string& verb) {
  AuditRecord record;
  record.verb = verb;
  record.arguments = json::object();
  record.result = "done";
  record.user_id = 0;
  record.before = {{"role", "Secondary"}, {"disk-state", "UpToDate"}};
  return record;
}

// A node's log in a loop of its own, and the frames that it sends to its one peer.
struct Node {
  Node(std::string path, const std::string& name, const std::string& peer) {
    auto made = io::Loop::create({64, 1024 * 1024});
    REQUIRE(made.ok());
    loop = std::move(made).value();
    log = std::make_unique<AuditLog>(*loop, std::move(path), AuditLog::Names{"r", name, {peer}},
                                     [this](repl::PeerIndex, const AuditFrame& frame) { sent.push_back(frame); });
  }
  void add(const std::string& verb) {
    log->add(record_of(verb), [this] { ++ended; });
  }
  void run() {
    loop->spawn(finish());
    loop->run();
  }
  io::Task<void> finish() {
    co_await log->close();
    loop->stop();
  }
  std::unique_ptr<io::Loop> loop;
  std::vector<AuditFrame> sent;
  std::unique_ptr<AuditLog> log;
  int ended = 0;
};

void tell(const Node& from, Node& to) {
  for (const AuditFrame& frame : from.sent) to.log->frame_arrived(0, frame);
}

std::string verbs_in(const std::string& path) {
  std::string verbs;
  for (const std::string& line : read_audit_lines(path)) {
    const json object = json::parse(line, nullptr, false);
    verbs += (object.is_object() ? object.value("verb", std::string("?")) : "-") + " ";
  }
  return verbs;
}

}  // namespace

TEST_CASE("a line is one JSON object of a bounded length, whatever was typed") {
  AuditRecord record = record_of("promote");
  record.resource = "r";
  record.node = "alpha";
  record.stamp_us = 1795664054710567;
  record.sudo_user = "fred";
  record.arguments["force-data-loss"] = std::string(60'000, '\n') + "\x7f\xff";
  record.message = std::string(60'000, '"');
  const std::string line = audit_line(record);
  CHECK(line.size() <= repl::kMaximumAuditLineBytes);
  CHECK(line.find('\n') == std::string::npos);
  const json object = json::parse(line);
  CHECK(object["time"] == "2026-11-26T03:34:14.710567Z");
  CHECK(object["stamp"] == record.stamp_us);
  CHECK(object["uid"] == 0);
  CHECK(object["sudo-user"] == "fred");
  record.before["peers"] = std::string(5000, 'x');
  record.lost = std::string(5000, 'x');
  CHECK(audit_line(record).size() <= repl::kMaximumAuditLineBytes);
  CHECK(json::parse(audit_line(record))["verb"] == "promote");

  record = record_of("resync");
  record.node = "alpha";
  record.accepts_loss = true;
  record.arguments = {{"peer", "beta"}, {"discard-my-data", "0011"}};
  record.user = "root";
  record.sudo_user = "fred";
  CHECK(render_audit_line(audit_line(record)) ==
        "1970-01-01T00:00:00.000000Z alpha root/0(fred) resync --discard-my-data 0011 beta: done, Secondary/UpToDate, "
        "accepts a loss");
  CHECK(render_audit_line("{}").empty());
}

TEST_CASE("the file is turned over when it is full, and a line that was cut off spoils no other") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/audit";
  CHECK(read_audit_lines(path).empty());
  REQUIRE(append_audit_line(path, R"({"verb":"a"})"));
  { std::ofstream(path, std::ios::app) << R"({"verb":"b)"; }
  REQUIRE(append_audit_line(path, R"({"verb":"c"})"));
  CHECK(verbs_in(path) == "a - c ");
  for (int i = 0; i < 3; ++i) {
    { std::ofstream(path, std::ios::app) << std::string(kAuditFileBytes, 'x') << "\n"; }
    REQUIRE(append_audit_line(path, R"({"verb":"d"})"));
  }
  CHECK(std::filesystem::file_size(path) < 100);
  CHECK(std::filesystem::file_size(path + ".1") < kAuditFileBytes + 1000);
  CHECK_FALSE(std::filesystem::exists(path + ".2"));
  CHECK(next_audit_stamp(UINT64_MAX - 1) == UINT64_MAX);
  CHECK_FALSE(append_audit_line(folder.path(), "{}"));
}

TEST_CASE("what one node does is in the log of both, once, in order, also after restarts and without a link") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/alpha";
  const std::string peer_path = folder.path() + "/beta";
  {
    Node alpha(path, "alpha", "beta");
    alpha.add("promote");  // beta does not hear it
    alpha.add("demote");
    alpha.run();
    CHECK(alpha.ended == 2);
  }
  Node alpha(path, "alpha", "beta");
  Node beta(peer_path, "beta", "alpha");
  beta.log->link_came_up(0);
  REQUIRE(beta.sent.size() == 1);
  CHECK(beta.sent[0] == AuditFrame{FrameKind::AuditWanted, 0, ""});
  tell(beta, alpha);
  alpha.add("resync");
  CHECK(alpha.sent.size() == 3);
  tell(alpha, beta);
  tell(alpha, beta);
  alpha.run();
  beta.run();
  CHECK(verbs_in(path) == "promote demote resync ");
  CHECK(verbs_in(peer_path) == "promote demote resync ");

  // After a restart beta asks for what is newer than what it has.
  Node again(peer_path, "beta", "alpha");
  again.log->link_came_up(0);
  CHECK(again.sent.at(0).stamp_us == alpha.sent.back().stamp_us);
  again.run();
}

TEST_CASE("a peer's line is of the peer, of the resource and of its stamp, or it is none") {
  const auto judged = [](const std::string& line) {
    return audit_line_of_peer({FrameKind::AuditLine, 7, line}, "r", "alpha").has_value();
  };
  CHECK(judged(R"({"stamp":7,"node":"alpha","resource":"r"})"));
  CHECK_FALSE(judged(R"({"stamp":8,"node":"alpha","resource":"r"})"));
  CHECK_FALSE(judged(R"({"stamp":7,"node":"beta","resource":"r"})"));
  CHECK_FALSE(judged(R"({"stamp":7,"node":"alpha","resource":"s"})"));
  CHECK_FALSE(judged(R"({"stamp":7,"node":"alpha"})"));
  CHECK_FALSE(judged(R"({"stamp":"7","node":"alpha","resource":"r"})"));
  CHECK_FALSE(judged("[]"));
  CHECK_FALSE(judged("nothing"));
}

TEST_CASE("who orders is not held up by a log that cannot be written") {
  const TemporaryFolder folder;
  Node alpha(folder.path(), "alpha", "beta");  // a folder
  alpha.add("promote");
  alpha.run();
  CHECK(alpha.ended == 1);
  CHECK(alpha.sent.size() == 1);
}
