// The operator's verbs, as orders to the replica.
#include <algorithm>
#include <array>
#include <utility>

#include "tools/daemon.h"
#include "tools/outcome_answers.h"

namespace lockstep::tools {

using repl::ControlAnswer;
using repl::ControlExit;
using repl::ControlRequest;
using repl::OrderGiven;
using repl::OrderKind;

Daemon::Verb Daemon::find_verb(const std::string& name) {
  struct Entry {
    const char* name;
    Verb verb;
  };
  static constexpr std::array kVerbs{
      Entry{"promote", &Daemon::promote},
      Entry{"demote", &Daemon::demote},
      Entry{"switchover", &Daemon::switchover},
      Entry{"connect", &Daemon::connect},
      Entry{"disconnect", &Daemon::disconnect},
      Entry{"resync", &Daemon::resync},
      Entry{"pause-resync", &Daemon::pause_resync},
      Entry{"resume-resync", &Daemon::resume_resync},
      Entry{"invalidate", &Daemon::invalidate},
      Entry{"invalidate-peer", &Daemon::invalidate_peer},
      Entry{"suspend", &Daemon::suspend},
      Entry{"resume", &Daemon::resume},
      Entry{"outdate", &Daemon::outdate},
      Entry{"reload", &Daemon::reload},
      Entry{"explain", &Daemon::explain},
      Entry{"down", &Daemon::down},
      Entry{"verify", &Daemon::verify},
      Entry{"resize", &Daemon::resize},
      Entry{"detach", &Daemon::detach},
      Entry{"attach", &Daemon::attach},
      Entry{"metrics", &Daemon::metrics},
  };
  const auto found = std::find_if(kVerbs.begin(), kVerbs.end(), [&](const Entry& entry) { return name == entry.name; });
  return found == kVerbs.end() ? nullptr : found->verb;
}

void Daemon::execute(ControlRequest request, std::unique_ptr<ControlAnswer> answer) {
  const Verb verb = find_verb(request.verb);
  if (verb == nullptr) {
    answer->done(ControlExit::Usage, "unknown verb '" + request.verb + "'");
  } else if (!driver_ || (stopping_ && request.verb != "explain" && request.verb != "down")) {
    answer->done(ControlExit::Failed, request.verb + " failed: the daemon of " + node_.name + " is stopping");
  } else {
    (this->*verb)(request, std::move(answer));
  }
}

void Daemon::give_order(const OrderGiven& order, std::unique_ptr<ControlAnswer> answer) {
  driver_->give_order(order, [this, kind = order.kind,
                              shared = std::shared_ptr<ControlAnswer>(std::move(answer))](repl::OrderAnswer outcome) {
    const repl::ReplicaStatus status = driver_->status();
    // A demotion by force closed the export before it was known whether the replica can follow.
    if (status.role == repl::Role::Primary && !export_->is_open() && !stopping_) export_opened();
    ControlExit exit = ControlExit::Failed;
    const std::string words = words_for(kind, outcome, exit);
    shared->done(exit, words);
  });
}

std::string Daemon::words_for(OrderKind order, repl::OrderAnswer outcome, ControlExit& exit) const {
  const repl::ReplicaStatus status = driver_->status();
  OutcomeContext context{configuration_.name, node_.name, "", to_string(status.generation),
                         std::string(to_string(status.disk_state))};
  if (outcome.peer < driver_->links().size()) context.peer = driver_->links()[outcome.peer]->peer_name();
  if (outcome.peer == driver_->links().size()) context.peer = node_.name;  // it is about this one
  OutcomeAnswer words = answer_for(order, outcome.outcome, context);
  exit = words.exit;
  return words.message;
}

bool Daemon::choose_peer(const ControlRequest& request, const char* argument, OrderGiven& order,
                         std::unique_ptr<ControlAnswer>& answer) {
  if (!request.has(argument)) {
    order.every_peer = true;
    return true;
  }
  const std::string name = request.text(argument);
  const auto& links = driver_->links();
  const auto found =
      std::find_if(links.begin(), links.end(), [&](const auto& link) { return link->peer_name() == name; });
  if (found == links.end()) {
    answer->done(ControlExit::Usage,
                 "no peer '" + name + "': the nodes of " + configuration_.name + " are " + configuration_.node_names());
    return false;
  }
  order.every_peer = false;
  order.peer = static_cast<repl::PeerIndex>(found - links.begin());
  return true;
}

bool Daemon::choose_generation(const ControlRequest& request, const char* argument, OrderGiven& order,
                               std::unique_ptr<ControlAnswer>& answer) {
  if (!request.has(argument)) return true;
  const auto generation = repl::parse_generation(request.text(argument));
  if (!generation) {
    answer->done(ControlExit::Usage, "--" + std::string(argument) +
                                         " takes a generation of 32 hex digits, as 'lockstep " + "explain " +
                                         configuration_.name + "' prints it");
    return false;
  }
  order.give_generation = true;
  order.generation = *generation;
  return true;
}

void Daemon::order_about_peer(OrderKind kind, const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  OrderGiven order;
  order.kind = kind;
  if (choose_peer(request, "peer", order, answer)) give_order(order, std::move(answer));
}

void Daemon::promote(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  OrderGiven order;
  order.kind = OrderKind::Promote;
  order.peer_fenced = request.flag("peer-fenced");
  if (choose_generation(request, "force-data-loss", order, answer)) give_order(order, std::move(answer));
}

void Daemon::demote(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  if (request.flag("force") && driver_->status().role == repl::Role::Primary) {
    loop_->spawn(demote_by_force(std::move(answer)));
    return;
  }
  OrderGiven order;
  order.kind = OrderKind::Demote;
  give_order(order, std::move(answer));
}

io::Task<void> Daemon::demote_by_force(std::unique_ptr<ControlAnswer> answer) {
  export_->refuse(node_.name + " is being demoted");
  abandon_held();
  co_await export_->close_sessions();
  OrderGiven order;
  order.kind = OrderKind::Demote;
  give_order(order, std::move(answer));
}

void Daemon::switchover(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  OrderGiven order;
  order.kind = OrderKind::Switchover;
  if (!request.has("to")) {
    answer->done(ControlExit::Usage,
                 "switchover needs the node: 'lockstep switchover " + configuration_.name + " --to NODE'");
    return;
  }
  order.to_self = request.text("to") == node_.name;
  if (order.to_self || choose_peer(request, "to", order, answer)) give_order(order, std::move(answer));
}

void Daemon::connect(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  order_about_peer(OrderKind::Connect, request, std::move(answer));
}

void Daemon::disconnect(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  order_about_peer(OrderKind::Disconnect, request, std::move(answer));
}

void Daemon::resync(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  OrderGiven order;
  order.kind = OrderKind::Resync;
  if (choose_peer(request, "peer", order, answer) && choose_generation(request, "discard-my-data", order, answer)) {
    give_order(order, std::move(answer));
  }
}

void Daemon::pause_resync(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  order_about_peer(OrderKind::PauseResync, request, std::move(answer));
}

void Daemon::resume_resync(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  order_about_peer(OrderKind::ResumeResync, request, std::move(answer));
}

void Daemon::verify(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  OrderGiven order;
  order.kind = OrderKind::Verify;
  order.repair = request.flag("repair");
  if (choose_peer(request, "peer", order, answer)) give_order(order, std::move(answer));
}

void Daemon::invalidate(const ControlRequest&, std::unique_ptr<ControlAnswer> answer) {
  give_order({.kind = OrderKind::Invalidate}, std::move(answer));
}

void Daemon::resize(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  OrderGiven order;
  order.kind = OrderKind::Resize;
  order.size_bytes = request.number("size-bytes");
  if (order.size_bytes == 0 || order.size_bytes % repl::kBlockBytes != 0) {
    answer->done(ControlExit::Usage, "resize needs a size that is a multiple of 4096 bytes");
    return;
  }
  give_order(order, std::move(answer));
}

void Daemon::invalidate_peer(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  OrderGiven order;
  order.kind = OrderKind::InvalidatePeer;
  if (!request.has("peer")) {
    answer->done(ControlExit::Usage,
                 "invalidate-peer needs the node: 'lockstep invalidate-peer " + configuration_.name + " PEER'");
    return;
  }
  if (choose_peer(request, "peer", order, answer)) give_order(order, std::move(answer));
}

void Daemon::suspend(const ControlRequest&, std::unique_ptr<ControlAnswer> answer) {
  give_order({.kind = OrderKind::Suspend}, std::move(answer));
}

void Daemon::resume(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  OrderGiven order;
  order.kind = OrderKind::Resume;
  order.alone = request.flag("alone");
  give_order(order, std::move(answer));
}

void Daemon::outdate(const ControlRequest&, std::unique_ptr<ControlAnswer> answer) {
  give_order({.kind = OrderKind::Outdate}, std::move(answer));
}

void Daemon::detach(const ControlRequest&, std::unique_ptr<ControlAnswer> answer) {
  give_order({.kind = OrderKind::Detach}, std::move(answer));
}

void Daemon::attach(const ControlRequest&, std::unique_ptr<ControlAnswer> answer) {
  loop_->spawn(attach_when_released(std::move(answer)));
}

// Right after a detach the last requests may still be on their way.
io::Task<void> Daemon::attach_when_released(std::unique_ptr<ControlAnswer> answer) {
  constexpr int kTries = 50;
  constexpr uint64_t kPauseMs = 20;
  for (int i = 0; i < kTries && driver_->may_attach() == repl::Outcome::DiskBusy; ++i) {
    const bool goes_on = co_await loop_->sleep_ms(kPauseMs);
    if (!goes_on) break;
  }
  const repl::Outcome outcome = driver_->may_attach();
  if (outcome == repl::Outcome::Done) {
    Result<Storage> storage = open_storage();
    const Status status = storage ? driver_->attach(std::move(storage->disk), std::move(storage->metadata))
                                  : Status(std::move(storage).error());
    if (!status) {
      answer->done(ControlExit::Failed, "attach failed: " + status.error().message);
      co_return;
    }
  }
  ControlExit exit = ControlExit::Failed;
  const std::string words = words_for(OrderKind::Attach, {outcome, 0}, exit);
  answer->done(exit, words);
}

void Daemon::abandon_held() {
  OrderGiven order;
  order.kind = OrderKind::AbandonHeld;
  driver_->give_order(order, [](repl::OrderAnswer) {});
}

}  // namespace lockstep::tools
