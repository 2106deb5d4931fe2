// Losing peers told as stories: what is held, what ends it, and who steps down.
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {
namespace {

ReplicaOptions with_policy(uint8_t node_order, LossPolicy policy) {
  ReplicaOptions options = test_options(node_order);
  options.on_peer_loss = policy;
  return options;
}

OrderGiven resume(bool alone) {
  OrderGiven order;
  order.kind = OrderKind::Resume;
  order.alone = alone;
  return order;
}

Suspension suspension_of(const Side& side) {
  return side.replica().status().suspension;
}

// Until each side has found out, and a link has come up again if both want one.
void settle(Pair& pair) {
  for (int i = 0; i < 20; ++i) {
    pair.pass(100'000);
    if (!pair.linked()) pair.connect();
  }
}

}  // namespace

TEST_CASE("under suspend a lost peer's Primary answers nothing until the peer has everything") {
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.holds_to_beta = true;
  pair.alpha.write(0, blocks(1), 11);
  pair.run();
  pair.alpha.request(1, ClientOperation::Read, blocks(2));
  pair.lose_link();
  pair.holds_to_beta = false;
  pair.alpha.flush(2);
  pair.alpha.write(3, blocks(3), 33);
  pair.alpha.request(4, ClientOperation::Read, blocks(1));
  pair.alpha.request(5, ClientOperation::Trim, blocks(7, 0));
  pair.pass(10'000'000);
  CHECK(suspension_of(pair.alpha) == Suspension::PeerLoss);
  CHECK(pair.alpha.peer().awaited);
  CHECK(pair.alpha.replies.empty());
  CHECK(pair.alpha.disk[3] == 0);  // it did not start: it may come to nothing
  const Generation generation = pair.alpha.superblock.current;

  // The resync of what was in flight comes first.
  pair.beta.holds_flushes = true;
  pair.connect();
  CHECK(pair.alpha.peer().connection == ConnectionState::Connected);
  CHECK(pair.alpha.replies.empty());
  pair.beta.holds_flushes = false;
  pair.run();
  CHECK(suspension_of(pair.alpha) == Suspension::No);
  CHECK(pair.alpha.replies == std::map<uint32_t, int>{{0, 0}, {1, 0}, {2, 0}, {3, 0}, {4, 0}, {5, 0}});
  CHECK(pair.beta.disk[1] == 11);
  CHECK(pair.beta.stable_disk[1] == 11);
  CHECK(pair.beta.disk[3] == 33);
  CHECK(pair.alpha.superblock.current == generation);  // nothing was answered that beta does not have
}

TEST_CASE("resume --alone answers what was held, in a generation that the lost peer does not hold") {
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.holds_to_beta = true;
  pair.alpha.write(0, blocks(1), 11);
  pair.run();
  pair.lose_link();
  pair.run();
  pair.alpha.flush(1);
  pair.run();
  CHECK(pair.alpha.replies.empty());
  const Generation shared = pair.alpha.superblock.current;

  const uint64_t refused = pair.alpha.order(resume(false));
  pair.run();
  CHECK(pair.alpha.answered(refused, Outcome::ResumeAlone));
  CHECK(pair.alpha.replies.empty());

  pair.alpha.holds_persists = true;
  const uint64_t ticket = pair.alpha.order(resume(true));
  pair.run();
  CHECK(pair.alpha.replies.empty());  // before the generation is durable beta could pass for equal
  CHECK(pair.alpha.answers.count(ticket) == 0);
  pair.alpha.holds_persists = false;
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.alpha.superblock.current != shared);
  CHECK(pair.alpha.replies == std::map<uint32_t, int>{{0, 0}, {1, 0}});
  CHECK(pair.alpha.order(resume(true)) > 0);

  // Lost once more before it is in sync: it was given up with what it holds.
  pair.holds_to_beta = false;
  pair.beta.holds_flushes = true;
  pair.connect();
  pair.lose_link();
  pair.run();
  CHECK(suspension_of(pair.alpha) == Suspension::No);
  pair.beta.holds_flushes = false;
  pair.connect();
  CHECK(pair.beta.is_up_to_date());
  // In sync it counts again.
  pair.lose_link();
  pair.run();
  CHECK(suspension_of(pair.alpha) == Suspension::PeerLoss);
}

TEST_CASE("what is held fails when the last copy is lost: nothing would make it good") {
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.alpha.write(0, blocks(1), 11);
  pair.run();
  pair.alpha.holds_flushes = true;
  pair.alpha.flush(1);
  pair.holds_to_beta = true;
  pair.alpha.write(2, blocks(2), 22);
  pair.run();
  pair.lose_link();
  pair.run();
  REQUIRE(suspension_of(pair.alpha) == Suspension::PeerLoss);
  pair.alpha.request(3, ClientOperation::Read, blocks(1));
  pair.run();
  REQUIRE(pair.alpha.replies.count(3) == 0);
  pair.alpha.next_flush_errno = EIO;
  pair.alpha.holds_flushes = false;
  pair.run();
  CHECK(pair.alpha.replica().status().disk_state == DiskState::Failed);
  for (uint32_t slot = 1; slot <= 3; ++slot) CHECK(pair.alpha.replies.at(slot) == EIO);
}

TEST_CASE("a demotion while suspended fails what is held, and never calls it done") {
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.holds_to_beta = true;
  pair.alpha.holds_writes = true;
  pair.alpha.write(0, blocks(1), 11);
  pair.run();
  pair.lose_link();
  pair.alpha.flush(1);
  pair.alpha.write(2, blocks(2000), 22);
  pair.run();
  const uint64_t ticket = pair.alpha.order(OrderKind::Demote);
  pair.alpha.write(3, blocks(4), 44);
  pair.run();
  CHECK(pair.alpha.answers.count(ticket) == 0);  // one is on its way to the disk
  pair.alpha.holds_writes = false;
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.alpha.replies == std::map<uint32_t, int>{{0, ESHUTDOWN}, {1, ESHUTDOWN}, {2, ESHUTDOWN}, {3, ESHUTDOWN}});
  CHECK(pair.alpha.replica().status().in_flight == 0);
}

TEST_CASE("a peer that is lost during a demotion makes no answer good that it did not share") {
  const auto policy = GENERATE(LossPolicy::Suspend, LossPolicy::Arbiter);
  Pair pair(with_policy(0, policy), with_policy(1, policy));
  pair.make_mirrored();
  pair.holds_to_beta = true;
  pair.alpha.write(0, blocks(1), 11);
  pair.run();
  const Generation generation = pair.alpha.superblock.current;
  const uint64_t ticket = pair.alpha.order(OrderKind::Demote);
  pair.run();
  CHECK(pair.alpha.replies.empty());
  pair.lose_link();
  pair.run();
  CHECK(pair.alpha.replies == std::map<uint32_t, int>{{0, ESHUTDOWN}});
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.alpha.superblock.current == generation);
}

TEST_CASE("what is held can be failed first, so that its sessions end before the demotion") {
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.lose_link();
  pair.alpha.write(0, blocks(1), 11);
  pair.run();
  CHECK(pair.alpha.replies.empty());
  pair.alpha.order(OrderKind::AbandonHeld);
  pair.alpha.write(1, blocks(2), 22);
  pair.run();
  CHECK(pair.alpha.replies == std::map<uint32_t, int>{{0, ESHUTDOWN}, {1, ESHUTDOWN}});
  CHECK(pair.alpha.is_primary());
  // It was not demoted after all: with the peer back it serves.
  pair.connect();
  pair.alpha.write(0, blocks(1), 12);
  pair.run();
  CHECK(pair.alpha.replies[0] == 0);
}

TEST_CASE("a Secondary that leaves in good order is Outdated durably, and its Primary goes on") {
  const auto order = GENERATE(OrderKind::Disconnect, OrderKind::Shutdown);
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.beta.holds_persists = true;
  pair.beta.order(order);
  pair.run();
  CHECK(pair.linked());  // it is not durable yet, so the Primary must not rely on it
  pair.beta.holds_persists = false;
  pair.run();
  CHECK_FALSE(pair.linked());
  CHECK(pair.beta.superblock.disk_state == DiskState::Outdated);
  CHECK(suspension_of(pair.alpha) == Suspension::No);
  pair.alpha.write(0, blocks(1), 11);
  pair.run();
  CHECK(pair.alpha.replies[0] == 0);
}

TEST_CASE("a Primary that suspends does not make the peer that it drops old") {
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.alpha.order(OrderKind::Disconnect);
  pair.run();
  CHECK(suspension_of(pair.alpha) == Suspension::PeerLoss);
  CHECK(pair.beta.is_up_to_date());
}

TEST_CASE("promoted with the word that the peer is fenced, a node goes on without it") {
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.alpha.crash();
  pair.run();
  pair.beta.order(promote_fenced());
  pair.run();
  pair.beta.write(0, blocks(1), 11);
  pair.run();
  CHECK(pair.beta.replies[0] == 0);
  CHECK(suspension_of(pair.beta) == Suspension::No);
}

TEST_CASE("a suspended Primary that was replaced steps down: its clients get errors and its data is old") {
  const bool wrote = GENERATE(false, true);
  Pair pair(with_policy(0, LossPolicy::Suspend), with_policy(1, LossPolicy::Suspend));
  pair.make_mirrored();
  pair.lose_link();
  pair.run();
  pair.alpha.request(0, ClientOperation::Read, blocks(1));
  pair.alpha.write(1, blocks(1), 11);
  pair.run();
  pair.beta.order(promote_fenced());
  pair.run();
  if (wrote) pair.beta.write(0, blocks(1), 22);
  pair.run();
  pair.connect();
  settle(pair);
  CHECK(pair.alpha.replies == std::map<uint32_t, int>{{0, ESHUTDOWN}, {1, ESHUTDOWN}});
  CHECK_FALSE(pair.alpha.export_open);
  CHECK_FALSE(pair.alpha.is_primary());
  CHECK(pair.beta.is_primary());
  CHECK(pair.beta.peer().replication == ReplicationState::Established);
  CHECK(pair.alpha.is_up_to_date());
  CHECK(pair.alpha.disk[1] == (wrote ? 22 : 0));
}

TEST_CASE("a Primary that was frozen answers nothing before a round trip, whatever the policy") {
  const auto policy = GENERATE(LossPolicy::Continue, LossPolicy::Suspend, LossPolicy::Arbiter);
  Pair pair(with_policy(0, policy), with_policy(1, policy));
  pair.make_mirrored();
  pair.pass(1'000'000);
  pair.now_us += 10'000'000;  // nobody ran
  pair.holds_to_alpha = true;
  pair.alpha.request(0, ClientOperation::Read, blocks(1));
  pair.run();
  CHECK(pair.alpha.replies.empty());
  pair.holds_to_alpha = false;
  pair.pass(100'000);
  settle(pair);
  CHECK(pair.alpha.replies == std::map<uint32_t, int>{{0, 0}});
}

TEST_CASE("a frozen Primary that was replaced meanwhile gives no stale read, under continue as well") {
  Pair pair(with_policy(0, LossPolicy::Continue), with_policy(1, LossPolicy::Continue));
  pair.make_mirrored();
  pair.pass(1'000'000);
  pair.alpha_frozen = true;
  pair.pass(4'000'000);
  REQUIRE_FALSE(pair.linked());
  pair.beta.order(promote_fenced());
  pair.run();
  pair.beta.write(0, blocks(1), 22);
  pair.run();
  REQUIRE(pair.beta.replies[0] == 0);
  pair.alpha_frozen = false;
  // Thawed: requests first, as its sockets have them.
  pair.alpha.request(0, ClientOperation::Read, blocks(1));
  pair.alpha.write(1, blocks(5), 55);
  pair.run();
  CHECK(pair.alpha.replies.empty());
  pair.pass(200'000);
  CHECK(pair.alpha.replies.empty());
  pair.connect();
  settle(pair);
  CHECK(pair.alpha.replies == std::map<uint32_t, int>{{0, ESHUTDOWN}, {1, ESHUTDOWN}});
  CHECK_FALSE(pair.alpha.is_primary());
  CHECK(pair.alpha.disk[1] == 22);
}

TEST_CASE("under continue a frozen Primary waits for its peer no longer than peer-timeout") {
  Pair pair(with_policy(0, LossPolicy::Continue), with_policy(1, LossPolicy::Continue));
  pair.make_mirrored();
  pair.alpha_frozen = true;
  pair.pass(4'000'000);
  pair.alpha_frozen = false;
  pair.alpha.write(0, blocks(1), 11);
  pair.pass(1'000'000);
  CHECK(pair.alpha.replies.empty());
  CHECK(suspension_of(pair.alpha) == Suspension::PeerLoss);
  pair.pass(3'000'000);
  CHECK(suspension_of(pair.alpha) == Suspension::No);
  CHECK(pair.alpha.replies[0] == 0);
}

TEST_CASE("an operator suspends and resumes; requests wait and do not fail") {
  Pair pair;
  pair.make_mirrored();
  pair.alpha.order(OrderKind::Suspend);
  pair.alpha.write(0, blocks(1), 11);
  pair.pass(5'000'000);
  CHECK(suspension_of(pair.alpha) == Suspension::Operator);
  CHECK(pair.alpha.replies.empty());
  const uint64_t ticket = pair.alpha.order(resume(false));
  pair.run();
  CHECK(pair.alpha.answered(ticket, Outcome::Done));
  CHECK(pair.alpha.replies[0] == 0);
  const uint64_t again = pair.alpha.order(resume(false));
  CHECK(pair.alpha.answered(again, Outcome::NotSuspended));
}

TEST_CASE("outdate is for a Secondary that no Primary reaches") {
  Pair pair;
  pair.make_mirrored();
  const uint64_t on_primary = pair.alpha.order(OrderKind::Outdate);
  const uint64_t while_connected = pair.beta.order(OrderKind::Outdate);
  pair.run();
  CHECK(pair.alpha.answered(on_primary, Outcome::IsPrimary));
  CHECK(pair.beta.answered(while_connected, Outcome::ConnectedPeer));
  pair.lose_link();
  pair.beta.holds_persists = true;
  const uint64_t ticket = pair.beta.order(OrderKind::Outdate);
  pair.run();
  CHECK(pair.beta.answers.count(ticket) == 0);
  pair.beta.holds_persists = false;
  pair.run();
  CHECK(pair.beta.answered(ticket, Outcome::Done));
  const uint64_t promote = pair.beta.order(promote_fenced());
  pair.run();
  CHECK(pair.beta.answered(promote, Outcome::NotUpToDate));
  pair.connect();
  CHECK(pair.beta.is_up_to_date());
}

}  // namespace lockstep::repl
