// The configuration file read again while the node runs.
#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "tools/daemon.h"
#include "tools/daemon_status.h"
#include "tools/outcome_answers.h"
#include "tools/reload.h"

namespace lockstep::tools {

using repl::ControlAnswer;
using repl::ControlExit;

namespace {

ControlExit exit_for(const Error& error) {
  return error.kind == ErrorKind::Refused ? ControlExit::Refused : ControlExit::Usage;
}

// "C", or "C (gamma: A)"
std::string protocols_of(const ResourceConfiguration& configuration) {
  std::string text(to_string(core_protocol(configuration.protocol)));
  std::string others;
  for (const NodeConfiguration& node : configuration.nodes) {
    const auto protocol = protocol_towards(node);
    if (!protocol || *protocol == core_protocol(configuration.protocol)) continue;
    others += (others.empty() ? "" : ", ") + node.name + ": " + std::string(to_string(*protocol));
  }
  return others.empty() ? text : text + " (" + others + ")";
}

}  // namespace

void Daemon::reload(const repl::ControlRequest&, std::unique_ptr<ControlAnswer> answer) {
  reload_configuration([shared = std::shared_ptr<ControlAnswer>(std::move(answer))](
                           ControlExit exit, const std::string& message) { shared->done(exit, message); });
}

Result<ResourceConfiguration> Daemon::wanted_configuration() const {
  ResourceConfiguration running = configuration_;
  running.size_bytes = driver_->identity().size_bytes;  // a resize may have changed it
  return reread_configuration(running);
}

void Daemon::plan_reload(ControlAnswer& answer) const {
  const auto wanted = wanted_configuration();
  if (!wanted) return answer.done(exit_for(wanted.error()), wanted.error().message);
  const std::string now = protocols_of(configuration_);
  const std::string then = protocols_of(*wanted);
  answer.done(ControlExit::Done, now == then ? "it would be done, and nothing would change: protocol " + now
                                             : "it would be done: protocol " + then + " instead of " + now +
                                                   " for what is written from then on; no data is lost by it");
}

void Daemon::reload_configuration(std::function<void(ControlExit, const std::string&)> told) {
  auto wanted = wanted_configuration();
  if (!wanted) {
    spdlog::error("{}: {}", configuration_.name, wanted.error().message);
    told(exit_for(wanted.error()), wanted.error().message);
    return;
  }
  repl::OrderGiven order;
  order.kind = repl::OrderKind::SetProtocol;
  order.protocol = core_protocol(wanted->protocol);
  for (size_t index = 0; index < driver_->links().size(); ++index) {
    const NodeConfiguration* peer = wanted->find_node(driver_->links()[index]->peer_name());
    if (peer != nullptr) order.peer_protocols[index] = protocol_towards(*peer);
  }
  driver_->give_order(order, [this, wanted = std::move(*wanted), told = std::move(told)](repl::OrderAnswer answer) {
    if (answer.outcome != repl::Outcome::Done) {
      const OutcomeContext context{configuration_.name, node_.name, "", "", ""};
      const OutcomeAnswer words = answer_for(repl::OrderKind::SetProtocol, answer.outcome, context);
      spdlog::error("{}: {}", configuration_.name, words.message);
      return told(words.exit, words.message);
    }
    configuration_ = wanted;
    const std::string message =
        "protocol " + protocols_of(configuration_) + " is in force for " + configuration_.name + " on " + node_.name;
    spdlog::info("{}: reload: {}", configuration_.name, message);
    state_changed();
    told(ControlExit::Done, message);
  });
}

}  // namespace lockstep::tools
