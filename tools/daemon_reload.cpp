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
  const std::string now(to_string(core_protocol(configuration_.protocol)));
  const std::string then(to_string(core_protocol(wanted->protocol)));
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
  const repl::Protocol protocol = core_protocol(wanted->protocol);
  repl::OrderGiven order;
  order.kind = repl::OrderKind::SetProtocol;
  order.protocol = protocol;
  driver_->give_order(order,
                      [this, wanted = std::move(*wanted), protocol, told = std::move(told)](repl::OrderAnswer answer) {
                        if (answer.outcome != repl::Outcome::Done) {
                          const OutcomeContext context{configuration_.name, node_.name, "", "", ""};
                          const OutcomeAnswer words = answer_for(repl::OrderKind::SetProtocol, answer.outcome, context);
                          spdlog::error("{}: {}", configuration_.name, words.message);
                          return told(words.exit, words.message);
                        }
                        configuration_ = wanted;
                        const std::string message = "protocol " + std::string(to_string(protocol)) +
                                                    " is in force for " + configuration_.name + " on " + node_.name;
                        spdlog::info("{}: reload: {}", configuration_.name, message);
                        state_changed();
                        told(ControlExit::Done, message);
                      });
}

}  // namespace lockstep::tools
