#include "replicator/core/replica_state.h"

namespace lockstep::repl {

// The order is carried out on a copy, so that what it is refused for is what the order itself would be refused for.
std::optional<OrderAnswered> Replica::rehearse(const OrderGiven& order, uint64_t now_us,
                                               uint32_t export_clients) const {
  State copy(*state_);
  Actions actions(actions_capacity(copy.options));
  copy.actions = &actions;
  copy.now_us = now_us;
  copy.export_clients = export_clients;
  copy.on(order);
  for (const Action& action : actions) {
    const auto* answered = std::get_if<OrderAnswered>(&action);
    if (answered != nullptr && answered->ticket == order.ticket) return *answered;
  }
  return std::nullopt;
}

}  // namespace lockstep::repl
