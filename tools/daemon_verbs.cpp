// The operator's verbs, as orders to the replica.
#include <algorithm>
#include <array>
#include <utility>

#include "tools/daemon.h"
#include "tools/daemon_status.h"
#include "tools/outcome_answers.h"

namespace lockstep::tools {

using repl::ControlAnswer;
using repl::ControlExit;
using repl::ControlRequest;
using repl::OrderGiven;
using repl::OrderKind;

namespace {

struct OrderVerb {
  const char* name;
  OrderKind kind;
};
constexpr std::array kOrderVerbs{
    OrderVerb{"promote", OrderKind::Promote},
    OrderVerb{"demote", OrderKind::Demote},
    OrderVerb{"switchover", OrderKind::Switchover},
    OrderVerb{"connect", OrderKind::Connect},
    OrderVerb{"disconnect", OrderKind::Disconnect},
    OrderVerb{"resync", OrderKind::Resync},
    OrderVerb{"pause-resync", OrderKind::PauseResync},
    OrderVerb{"resume-resync", OrderKind::ResumeResync},
    OrderVerb{"invalidate", OrderKind::Invalidate},
    OrderVerb{"invalidate-peer", OrderKind::InvalidatePeer},
    OrderVerb{"suspend", OrderKind::Suspend},
    OrderVerb{"resume", OrderKind::Resume},
    OrderVerb{"outdate", OrderKind::Outdate},
    OrderVerb{"verify", OrderKind::Verify},
    OrderVerb{"resize", OrderKind::Resize},
    OrderVerb{"detach", OrderKind::Detach},
};

const OrderVerb* find_order_verb(const std::string& name) {
  const auto found =
      std::find_if(kOrderVerbs.begin(), kOrderVerbs.end(), [&](const OrderVerb& verb) { return name == verb.name; });
  return found == kOrderVerbs.end() ? nullptr : &*found;
}

bool ends_sessions_first(const OrderGiven& order, const ControlRequest& request) {
  return order.kind == OrderKind::Demote && request.flag("force");
}

}  // namespace

Daemon::Verb Daemon::find_verb(const std::string& name) {
  struct Entry {
    const char* name;
    Verb verb;
  };
  static constexpr std::array kVerbs{
      Entry{"explain", &Daemon::explain}, Entry{"metrics", &Daemon::metrics}, Entry{"latencies", &Daemon::latencies},
      Entry{"down", &Daemon::down},       Entry{"attach", &Daemon::attach},   Entry{"reload", &Daemon::reload},
  };
  const auto found = std::find_if(kVerbs.begin(), kVerbs.end(), [&](const Entry& entry) { return name == entry.name; });
  return found == kVerbs.end() ? nullptr : found->verb;
}

void Daemon::execute(ControlRequest request, std::unique_ptr<ControlAnswer> answer) {
  const Verb verb = find_verb(request.verb);
  const OrderVerb* order_verb = find_order_verb(request.verb);
  const bool looks = request.verb == "explain" || request.verb == "metrics" || request.verb == "latencies";
  if (verb == nullptr && order_verb == nullptr) {
    answer->done(ControlExit::Usage, "unknown verb '" + request.verb + "'");
  } else if (!driver_ || (stopping_ && request.verb != "explain" && request.verb != "down")) {
    answer->done(ControlExit::Failed, request.verb + " failed: the daemon of " + node_.name + " is stopping");
  } else if (looks) {
    (this->*verb)(request, std::move(answer));
  } else if (verb == nullptr) {
    execute_order(request, order_verb->kind, std::move(answer));
  } else if (request.flag("dry-run")) {
    plan_without_order(request, std::move(answer));
  } else {
    (this->*verb)(request, audited(request, false, std::move(answer)));
  }
}

// A dry run and the order itself go the same way up to the last step: what refuses the one refuses the other.
void Daemon::execute_order(const ControlRequest& request, OrderKind kind, std::unique_ptr<ControlAnswer> answer) {
  const bool dry_run = request.flag("dry-run");
  OrderGiven order;
  order.kind = kind;
  if (!fill_order(request, order, answer)) return;
  const bool clients_end = ends_sessions_first(order, request);
  const std::optional<Loss> loss = loss_of(view(), order);
  // Also an order that ends with its dry run, because that was refused, is one that somebody gave.
  if (!dry_run || request.flag("order-follows")) answer = audited(request, loss.has_value(), std::move(answer));
  if (request.has("generation") && request.text("generation") != to_string(driver_->status().generation)) {
    return answer_outcome(kind, {repl::Outcome::WrongGeneration, order.peer}, *answer);
  }
  if (kind == OrderKind::Resync && !order.give_generation && refuse_resync_apart(order.peer, *answer)) return;
  if (!dry_run && !loss) return carry_out(order, clients_end, std::move(answer));
  const repl::OrderAnswer rehearsed = driver_->rehearse(order, clients_end).value_or(repl::OrderAnswer{});
  if (rehearsed.outcome != repl::Outcome::Done) return answer_outcome(kind, rehearsed, *answer);
  if (dry_run) return answer->done(ControlExit::Done, plan_text(view(), order, loss), plan_data(view(), loss));
  // Known before it happens, also if this node does not live to tell the end.
  record_begin(
      request, *loss,
      [this, order, clients_end, shared = std::make_shared<std::unique_ptr<ControlAnswer>>(std::move(answer))] {
        if (stopping_) return answer_outcome(order.kind, {repl::Outcome::Stopping, 0}, **shared);
        carry_out(order, clients_end, std::move(*shared));
      });
}

void Daemon::carry_out(const OrderGiven& order, bool clients_end, std::unique_ptr<ControlAnswer> answer) {
  if (clients_end && driver_->status().role == repl::Role::Primary) {
    loop_->spawn(demote_by_force(std::move(answer)));
    return;
  }
  give_order(order, std::move(answer));
}

void Daemon::answer_outcome(OrderKind kind, repl::OrderAnswer outcome, ControlAnswer& answer) const {
  ControlExit exit = ControlExit::Failed;
  const std::string words = words_for(kind, outcome, exit);
  answer.done(exit, words);
}

// A resync that names no loser ends no split brain: said, since it would change nothing.
bool Daemon::refuse_resync_apart(repl::PeerIndex peer, ControlAnswer& answer) const {
  const repl::PeerStatus status = driver_->peer_status(peer);
  const bool split = repl::SyncKind::SplitBrain == status.decision.kind;
  if (!kept_apart_by(status, split ? repl::SyncKind::SplitBrain : repl::SyncKind::Unrelated)) return false;
  answer.done(ControlExit::Refused, "resync refused: " + node_.name + " and " + driver_->links()[peer]->peer_name() +
                                        (split ? " wrote apart from each other" : " have no data in common") +
                                        ", and one of them has to give way: 'lockstep explain " + configuration_.name +
                                        "' has the command for each");
  return true;
}

void Daemon::plan_without_order(const ControlRequest& request, std::unique_ptr<ControlAnswer> answer) {
  if (request.verb == "attach") {
    const repl::Outcome outcome = driver_->may_attach();
    if (outcome != repl::Outcome::Done) return answer_outcome(OrderKind::Attach, {outcome, 0}, *answer);
    answer->done(ControlExit::Done, "it would be done, if the files are good: " + node_.disk + ", " + node_.metadata);
  } else if (request.verb == "reload") {
    plan_reload(*answer);
  } else if (request.verb == "down") {
    answer->done(ControlExit::Done, "it would be done: the daemon of " + node_.name + " would stop");
  } else {
    answer->done(ControlExit::Usage, request.verb + " has no dry run");
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

bool Daemon::fill_order(const ControlRequest& request, OrderGiven& order, std::unique_ptr<ControlAnswer>& answer) {
  const auto usage = [&](const std::string& message) {
    answer->done(ControlExit::Usage, message);
    return false;
  };
  order.peer_fenced = request.flag("peer-fenced");
  order.alone = request.flag("alone");
  order.repair = request.flag("repair");
  const std::string what = "'lockstep " + request.verb + " " + configuration_.name;
  switch (order.kind) {
    case OrderKind::Promote:
      return choose_generation(request, "force-data-loss", order, answer);
    case OrderKind::Switchover:
      if (!request.has("to")) return usage("switchover needs the node: " + what + " --to NODE'");
      order.to_self = request.text("to") == node_.name;
      return order.to_self || choose_peer(request, "to", order, answer);
    case OrderKind::Resync:
    case OrderKind::InvalidatePeer:
      if (!request.has("peer")) return usage(request.verb + " needs the node: " + what + " PEER'");
      return choose_peer(request, "peer", order, answer) &&
             choose_generation(request, "discard-my-data", order, answer);
    case OrderKind::Resize:
      order.size_bytes = request.number("size-bytes");
      if (order.size_bytes != 0 && order.size_bytes % repl::kBlockBytes == 0) return true;
      return usage("resize needs a size that is a multiple of 4096 bytes");
    default:
      return choose_peer(request, "peer", order, answer);
  }
}

io::Task<void> Daemon::demote_by_force(std::unique_ptr<ControlAnswer> answer) {
  export_->refuse(node_.name + " is being demoted");
  abandon_held();
  co_await export_->close_sessions();
  OrderGiven order;
  order.kind = OrderKind::Demote;
  give_order(order, std::move(answer));
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
