// What an order would be answered, without giving it.
#include <catch2/catch.hpp>
#include <functional>
#include <sstream>

#include "tests/unit/core/pair.h"

using namespace lockstep;
using namespace lockstep::repl;

namespace {

constexpr uint64_t kTicket = uint64_t{1} << 60;

struct Situation {
  const char* name;
  std::function<void(Pair&)> make;
};

const std::vector<Situation> kSituations{
    {"apart, nothing written", [](Pair& pair) { pair.run(); }},
    {"mirrored", [](Pair& pair) { pair.make_mirrored(); }},
    {"the peer is lost",
     [](Pair& pair) {
       pair.make_mirrored();
       pair.lose_link();
       pair.alpha.write(1, blocks(5), 7);
       pair.run();
     }},
    {"a resync is paused",
     [](Pair& pair) {
       pair.make_mirrored();
       pair.alpha.order(OrderKind::PauseResync);
       pair.lose_link();
       pair.alpha.write(1, blocks(5), 7);
       pair.run();
       pair.connect();
     }},
    {"a request is under way",
     [](Pair& pair) {
       pair.make_mirrored();
       pair.alpha.holds_writes = true;
       pair.alpha.write(1, blocks(5), 7);
       pair.run();
     }},
};

constexpr std::array kOrders{OrderKind::Promote,     OrderKind::Demote,         OrderKind::Connect,
                             OrderKind::Disconnect,  OrderKind::Switchover,     OrderKind::Resync,
                             OrderKind::PauseResync, OrderKind::ResumeResync,   OrderKind::Invalidate,
                             OrderKind::Suspend,     OrderKind::InvalidatePeer, OrderKind::Resize,
                             OrderKind::SetProtocol, OrderKind::Detach,         OrderKind::Shutdown,
                             OrderKind::Resume,      OrderKind::Verify,         OrderKind::Outdate};

// Everything of it that a driver or an operator can see.
std::string picture_of(const Side& side) {
  std::ostringstream text;
  const ReplicaStatus status = side.replica().status();
  const PeerStatus peer = side.peer();
  text << to_string(status.role) << to_string(status.disk_state) << to_string(status.generation)
       << to_string(status.suspension) << status.in_flight << to_string(peer.connection) << to_string(peer.replication)
       << peer.out_of_sync_blocks << peer.resync_paused_here << side.replica().state_version() << side.seen.size()
       << side.replica().superblock().forced << to_string(side.replica().superblock().current);
  return text.str();
}

}  // namespace

TEST_CASE("a rehearsed order is refused for what the order is refused for, and changes nothing") {
  size_t refusals = 0;
  for (const Situation& situation : kSituations) {
    for (const OrderKind kind : kOrders) {
      for (const bool on_alpha : {true, false}) {
        CAPTURE(situation.name, static_cast<int>(kind), on_alpha);
        Pair pair;
        situation.make(pair);
        Side& side = on_alpha ? pair.alpha : pair.beta;
        OrderGiven order;
        order.kind = kind;
        order.every_peer = false;
        order.size_bytes = 2 * kTestDeviceBytes;
        order.ticket = kTicket;
        const std::string before = picture_of(side);
        const auto rehearsed = side.replica().rehearse(order, pair.now_us, 0);
        CHECK(picture_of(side) == before);
        const uint64_t ticket = side.order(order);
        const auto found = side.answers.find(ticket);
        if (rehearsed && rehearsed->outcome != Outcome::Done) {
          ++refusals;
          REQUIRE(found != side.answers.end());
          CHECK(found->second.outcome == rehearsed->outcome);
          CHECK(found->second.peer == rehearsed->peer);
        } else if (found != side.answers.end()) {
          CHECK(found->second.outcome == Outcome::Done);
        }
      }
    }
  }
  CHECK(refusals > 50);
}

TEST_CASE("what is expected of an absent peer's return is what its return brings") {
  for (const bool writes : {false, true}) {
    CAPTURE(writes);
    Pair pair;
    pair.make_mirrored();
    CHECK_FALSE(pair.alpha.replica().expected_decision(0));
    pair.lose_link();
    if (writes) {
      pair.alpha.write(1, blocks(5), 7);
      pair.alpha.write(2, blocks(9, 3), 8);
    }
    pair.run();
    const auto expected = pair.alpha.replica().expected_decision(0);
    REQUIRE(expected);
    CHECK(expected->rule == (writes ? Rule::PeerIsBehind : Rule::EqualClean));
    CHECK(pair.alpha.peer().out_of_sync_blocks == (writes ? 4U : 0U));
    pair.connect();
    CHECK(pair.alpha.peer().decision.rule == expected->rule);
    CHECK(pair.alpha.peer().decision.kind == expected->kind);
  }
}

TEST_CASE("a rehearsal knows the generation that was typed, and the clients that are attached") {
  Pair pair;
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  OrderGiven order;
  order.ticket = kTicket;
  order.give_generation = true;
  order.generation = {1, 2};
  CHECK(pair.beta.replica().rehearse(order, pair.now_us, 0)->outcome == Outcome::WrongGeneration);
  order.generation = pair.beta.replica().superblock().current;
  const auto right = pair.beta.replica().rehearse(order, pair.now_us, 0);
  CHECK((!right || right->outcome == Outcome::Done));
  CHECK_FALSE(pair.beta.is_primary());

  OrderGiven demote;
  demote.kind = OrderKind::Demote;
  demote.ticket = kTicket;
  CHECK(pair.alpha.replica().rehearse(demote, pair.now_us, 1)->outcome == Outcome::ClientsAttached);
  const auto alone = pair.alpha.replica().rehearse(demote, pair.now_us, 0);
  CHECK((!alone || alone->outcome == Outcome::Done));
  CHECK(pair.alpha.is_primary());
}
