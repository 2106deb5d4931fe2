// Whether what was answered has waited for a node: what survivors must know of each other, told as stories.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>

#include "tests/unit/core/trio.h"

namespace lockstep::repl {
namespace {

uint64_t set_protocol(Side& side, Protocol protocol) {
  OrderGiven order;
  order.kind = OrderKind::SetProtocol;
  order.protocol = protocol;
  return side.order(order);
}

}  // namespace

// gamma is far away, under protocol A; alpha and beta lose their power together, with what they made stable.
TEST_CASE("a survivor under protocol A is target of a node that lost its power and has what was flushed") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.peer_protocols = {Protocol::C, Protocol::A};
  options[2].peer_protocols = {Protocol::C, Protocol::C};
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  REQUIRE(trio.gamma.superblock.waited_for == WaitedFor::No);
  REQUIRE(trio.beta.superblock.waited_for == WaitedFor::Yes);
  trio.holds[0][2] = true;
  write(trio, trio.alpha, blocks(6), 2);
  trio.alpha.flush(0);
  trio.run();
  REQUIRE(trio.alpha.replies.at(0) == 0);
  trio.beta.crash(true);
  trio.alpha.crash(true);
  trio.holds[0][2] = false;
  REQUIRE(trio.gamma.disk[6] == 0);
  const bool beta_comes_first = GENERATE(true, false);
  if (beta_comes_first) {
    trio.beta.start();
    trio.connect(trio.beta, trio.gamma);
    CHECK(trio.peer(trio.beta, trio.gamma).decision.rule == Rule::EqualPeerMayLack);
    CHECK(trio.beta.is_up_to_date());  // gamma saw nobody go on without it
    CHECK(trio.gamma.is_up_to_date());
    CHECK(trio.gamma.superblock.waited_for == WaitedFor::Yes);
    trio.alpha.start();
  } else {
    trio.alpha.start();
    trio.connect(trio.alpha, trio.gamma);
    CHECK(trio.peer(trio.alpha, trio.gamma).decision.rule == Rule::EqualSelfCrashedAhead);
    trio.beta.start();
  }
  trio.settle();
  for (Side* side : {&trio.alpha, &trio.beta, &trio.gamma}) CHECK(side->disk[6] == 2);
  CHECK(trio.are_alike(trio.alpha, trio.gamma));
}

TEST_CASE("a node that has granted a promotion does not know whether the next Primary waits for it") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.peer_protocols = {Protocol::C, Protocol::C};
  options[1].peer_protocols = {Protocol::A, Protocol::C};  // beta does not wait for alpha
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  REQUIRE(trio.gamma.superblock.waited_for == WaitedFor::Yes);
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE(trio.alpha.superblock.waited_for == WaitedFor::Yes);
  trio.beta.holds_flushes = true;  // what is here is not stable yet, so that nothing is answered
  const uint64_t ticket = trio.beta.order(OrderKind::Promote);
  trio.run();
  REQUIRE_FALSE(trio.beta.answered(ticket, Outcome::Done));
  CHECK(trio.alpha.superblock.waited_for == WaitedFor::Unknown);
  trio.beta.holds_flushes = false;
  trio.run();
  REQUIRE(trio.beta.answered(ticket, Outcome::Done));
  CHECK(trio.alpha.superblock.waited_for == WaitedFor::No);
  CHECK(trio.gamma.superblock.waited_for == WaitedFor::Yes);
}

TEST_CASE("a promotion that was granted, and failed, leaves it known who was waited for") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  trio.alpha.order(OrderKind::Demote);
  trio.run();
  REQUIRE(trio.alpha.superblock.waited_for == WaitedFor::Yes);
  trio.holds[1][2] = true;  // gamma does not hear that it is asked
  const uint64_t ticket = trio.beta.order(OrderKind::Promote);
  trio.run();
  REQUIRE(trio.alpha.superblock.waited_for == WaitedFor::Unknown);
  trio.lose_link(trio.beta, trio.gamma);
  trio.run();
  REQUIRE_FALSE(trio.beta.is_primary());
  CHECK_FALSE(trio.beta.answered(ticket, Outcome::Done));
  CHECK(trio.alpha.superblock.waited_for == WaitedFor::Yes);
}

TEST_CASE("a node that was not waited for knows so still when it has granted a promotion") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  options[0].peer_protocols = {Protocol::A, Protocol::A};
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  REQUIRE(trio.gamma.superblock.waited_for == WaitedFor::No);
  trio.alpha.crash();
  trio.run();
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.gamma.superblock.waited_for == WaitedFor::No);
  trio.beta.holds_flushes = true;  // it is granted, and does not open
  trio.beta.order(promote_fenced());
  trio.run();
  REQUIRE(trio.gamma.answered(trio.gamma.order(promote_fenced()), Outcome::PeerSaidNo));
  trio.beta.crash();
  CHECK(trio.gamma.superblock.waited_for == WaitedFor::No);
}

TEST_CASE("whoever has its data from a survivor under protocol A may lack what that one lacks") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  for (ReplicaOptions& each : options) each.peer_protocols = {Protocol::C, Protocol::A};
  options[2].peer_protocols = {Protocol::C, Protocol::C};
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  trio.holds[0][2] = true;
  write(trio, trio.alpha, blocks(6), 2);
  // beta's disk is replaced, and gamma, in the same generation, is what it can get back.
  trio.beta.crash();
  trio.alpha.crash();
  trio.holds[0][2] = false;
  trio.beta.superblock = SuperblockImage{};
  trio.beta.superblock.life.birth = 4711;
  std::fill(trio.beta.disk.begin(), trio.beta.disk.end(), 0);
  trio.beta.start();
  trio.connect(trio.beta, trio.gamma);
  REQUIRE(trio.are_alike(trio.beta, trio.gamma));
  CHECK(trio.beta.superblock.waited_for == WaitedFor::No);
  // alpha knows of gamma only that it may lack something, and beta lives.
  trio.alpha.start();
  trio.connect(trio.alpha, trio.beta);
  trio.settle();
  for (Side* side : {&trio.alpha, &trio.beta, &trio.gamma}) CHECK(side->disk[6] == 2);
}

TEST_CASE("a disk that is given up while others go on lacks what they answer from here on") {
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  REQUIRE(trio.beta.superblock.waited_for == WaitedFor::Yes);
  trio.beta.order(OrderKind::Detach);
  trio.alpha.crash();
  trio.run();
  CHECK(trio.beta.superblock.waited_for == WaitedFor::No);
}

TEST_CASE("a disk that is given up with what was received, and not written, is no better than one not waited for") {
  std::array<ReplicaOptions, 3> options{trio_options(0), trio_options(1), trio_options(2)};
  options[0].protocol = Protocol::B;
  options[0].peer_protocols[1] = Protocol::A;  // towards gamma
  Trio trio(options[0], options[1], options[2]);
  trio.make_mirrored();
  trio.beta.holds_writes = true;
  write(trio, trio.alpha, blocks(6), 1);
  trio.alpha.write(1, blocks(6), 2);  // which waits at beta for the one before
  trio.run();
  REQUIRE(trio.alpha.replies.at(1) == 0);
  REQUIRE(trio.gamma.disk[6] == 2);
  trio.beta.order(OrderKind::Detach);
  trio.alpha.crash();
  trio.beta.holds_writes = false;
  trio.run();
  trio.beta.attach();
  trio.run();
  REQUIRE(trio.beta.disk[6] == 1);
  trio.connect(trio.beta, trio.gamma);
  CHECK(trio.beta.disk[6] == 2);
  CHECK(trio.gamma.disk[6] == 2);
}

// The order to go over to A changes nothing for a peer that cannot hear of it: for its link nobody knows yet that it is
// dead.
TEST_CASE("a peer that does not know that it is not waited for any more is waited for") {
  const bool by_flush = GENERATE(false, true);
  Trio trio;
  trio.make_mirrored();
  write(trio, trio.alpha, blocks(5), 1);
  REQUIRE(trio.gamma.superblock.waited_for == WaitedFor::Yes);
  trio.holds[0][2] = true;
  const uint64_t ticket = set_protocol(trio.alpha, Protocol::A);
  trio.run();
  REQUIRE(trio.alpha.answered(ticket, Outcome::Done));
  trio.alpha.write(0, blocks(6), 2);
  trio.run();
  CHECK(trio.alpha.replies.count(0) == 0);
  CHECK(trio.beta.superblock.waited_for == WaitedFor::No);
  if (by_flush) {
    trio.alpha.flush(1);
    trio.run();
    CHECK(trio.alpha.replies.count(1) == 0);
  }
  SECTION("until it hears of it, durably") {
    trio.gamma.holds_persists = true;
    trio.holds[0][2] = false;
    trio.run();
    CHECK(trio.alpha.replies.count(0) == 0);
    trio.gamma.holds_persists = false;
    trio.run();
    CHECK(trio.alpha.replies.at(0) == 0);
    CHECK(trio.gamma.superblock.waited_for == WaitedFor::No);
    if (by_flush) CHECK(trio.alpha.replies.at(1) == 0);
    // From here on it is not.
    trio.holds[0][2] = true;
    write(trio, trio.alpha, blocks(7), 3);
  }
  SECTION("or is gone") {
    trio.lose_link_unnoticed(trio.alpha, trio.gamma);
    trio.run();
    CHECK(trio.alpha.replies.at(0) == 0);
    trio.alpha.crash();
    trio.holds[0][2] = false;
    trio.settle();
    CHECK(trio.beta.disk[6] == 2);
    CHECK(trio.gamma.disk[6] == 2);
  }
}

}  // namespace lockstep::repl
