// The daemon's orders, as its audit log has them.
#include <charconv>
#include <fstream>
#include <utility>

#include "tools/daemon.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;
using repl::ControlExit;
using repl::ControlRequest;
using repl::PeerIndex;

// Who logged in, as the kernel remembers it through su and sudo. Of no use to refuse anything.
std::optional<uint32_t> login_id_of(std::optional<uint32_t> process) {
  if (!process) return std::nullopt;
  std::ifstream file("/proc/" + std::to_string(*process) + "/loginuid");
  uint32_t id = UINT32_MAX;
  if (!(file >> id) || id == UINT32_MAX) return std::nullopt;
  return id;
}

json argument_json(const ControlRequest::Value& value) {
  return std::visit([](const auto& each) { return json(each); }, value);
}

const char* result_of(ControlExit exit) {
  if (exit == ControlExit::Done) return "done";
  return exit == ControlExit::Refused ? "refused" : "failed";
}

}  // namespace

// Who ordered it hears of it when the line is stable; see AuditLog::add().
class Daemon::AuditedAnswer final : public repl::ControlAnswer {
 public:
  AuditedAnswer(Daemon& daemon, AuditRecord record, bool is_dry_run, std::unique_ptr<repl::ControlAnswer> answer)
      : daemon_(daemon), record_(std::move(record)), is_dry_run_(is_dry_run), answer_(std::move(answer)) {}
  void done(ControlExit exit, const std::string& message, const json& data) override {
    if (is_dry_run_ && exit == ControlExit::Done) return answer_->done(exit, message, data);
    record_.result = result_of(exit);
    record_.message = message;
    record_.after = daemon_.states_for_audit();
    daemon_.audit_log_->add(std::move(record_),
                            [exit, message, data, answer = std::shared_ptr<repl::ControlAnswer>(std::move(answer_))] {
                              answer->done(exit, message, data);
                            });
  }

 private:
  Daemon& daemon_;
  AuditRecord record_;
  bool is_dry_run_;
  std::unique_ptr<repl::ControlAnswer> answer_;
};

void Daemon::link_came_up(PeerIndex peer) {
  if (audit_log_) audit_log_->link_came_up(peer);
}

void Daemon::audit_frame_arrived(PeerIndex peer, const repl::AuditFrame& frame) {
  if (audit_log_) audit_log_->frame_arrived(peer, frame);
}

json Daemon::states_for_audit() const {
  const repl::ReplicaStatus status = driver_->status();
  json peers = json::object();
  for (PeerIndex index = 0; index < driver_->links().size(); ++index) {
    const repl::PeerStatus peer = driver_->peer_status(index);
    peers[driver_->links()[index]->peer_name()] =
        std::string(to_string(peer.connection)) + "/" + std::string(to_string(peer.role)) + "/" +
        std::string(to_string(peer.disk_state)) + "/" + std::string(replication_of(peer));
  }
  return {{"role", to_string(status.role)},
          {"disk-state", to_string(status.disk_state)},
          {"suspended", to_string(status.suspension)},
          {"generation", to_string(status.generation)},
          {"peers", std::move(peers)}};
}

AuditRecord Daemon::audit_record_of(const ControlRequest& request, bool accepts_loss) const {
  AuditRecord record;
  record.user_id = request.user;
  record.login_id = login_id_of(request.process);
  record.user = request.text("user");
  record.sudo_user = request.text("sudo-user");
  record.verb = request.verb;
  record.arguments = json::object();
  for (const auto& [name, value] : request.arguments) {
    const bool is_argument = name != "user" && name != "sudo-user" && name != "dry-run" && name != "order-follows";
    if (is_argument) record.arguments[name] = argument_json(value);
  }
  record.accepts_loss = accepts_loss;
  record.before = states_for_audit();
  return record;
}

std::unique_ptr<repl::ControlAnswer> Daemon::audited(const ControlRequest& request, bool accepts_loss,
                                                     std::unique_ptr<repl::ControlAnswer> answer) {
  return std::make_unique<AuditedAnswer>(*this, audit_record_of(request, accepts_loss), request.flag("dry-run"),
                                         std::move(answer));
}

void Daemon::record_begin(const ControlRequest& request, const Loss& loss, std::function<void()> recorded) {
  AuditRecord record = audit_record_of(request, true);
  record.result = "begun";
  record.lost = loss.data;
  audit_log_->add(std::move(record), std::move(recorded));
}

}  // namespace lockstep::tools
