#include "tests/unit/core/trio.h"

#include <catch2/catch.hpp>
#include <utility>

namespace lockstep::repl {

ReplicaOptions trio_options(int number) {
  ReplicaOptions options = test_options(static_cast<uint8_t>(number));
  options.peer_count = 2;
  for (PeerIndex peer = 0; peer < 2; ++peer) {
    options.peer_orders[peer] = static_cast<uint8_t>(peer < number ? peer : peer + 1);
  }
  return options;
}

Trio::Trio(const ReplicaOptions& first, const ReplicaOptions& second, const ReplicaOptions& third)
    : alpha(*this, 0, first), beta(*this, 1, second), gamma(*this, 2, third) {
  for (int number = 0; number < kSides; ++number) side(number).start();
}

PeerIndex Trio::place(const Side& at, const Side& of) {
  return static_cast<PeerIndex>(of.number() < at.number() ? of.number() : of.number() - 1);
}

bool Trio::deliver_one(int from, int to) {
  Link& link = this->link(from, to);
  auto& frames = link.frames[from < to ? 1 : 0];
  if (frames.empty() || holds[static_cast<size_t>(from)][static_cast<size_t>(to)] || !side(to).alive()) return false;
  const TestFrame frame = std::move(frames.front());
  frames.pop_front();
  side(to).receive(link.incarnation, frame, place(side(to), side(from)));
  return true;
}

void Trio::run() {
  bool moved = true;
  while (moved) {
    moved = false;
    for (int from = 0; from < kSides; ++from) {
      for (int to = 0; to < kSides; ++to) {
        while (from != to && deliver_one(from, to)) moved = true;
      }
    }
    for (int number = 0; number < kSides; ++number) moved = side(number).turn() || moved;
    // A link that was closed is gone once what was sent before has arrived.
    for (int a = 0; a < kSides; ++a) {
      for (int b = a + 1; b < kSides; ++b) {
        Link& link = this->link(a, b);
        if (!link.closing || !link.frames[0].empty() || !link.frames[1].empty()) continue;
        lose(a, b);
        moved = true;
      }
    }
  }
}

void Trio::lose(int a, int b) {
  Link& link = this->link(a, b);
  const Incarnation lost = std::exchange(link.incarnation, 0);
  link.closing = false;
  for (auto& frames : link.frames) frames.clear();
  if (lost == 0) return;
  if (side(a).alive()) side(a).feed(LinkLost{place(side(a), side(b)), lost});
  if (side(b).alive()) side(b).feed(LinkLost{place(side(b), side(a)), lost});
}

void Trio::lose_link(Side& a, Side& b) {
  lose(a.number(), b.number());
}

void Trio::lose_link_unnoticed(Side& notices, Side& other) {
  Link& link = this->link(notices.number(), other.number());
  const Incarnation lost = std::exchange(link.incarnation, 0);
  for (auto& frames : link.frames) frames.clear();
  notices.feed(LinkLost{place(notices, other), lost});
}

void Trio::connect(int a, int b) {
  Link& link = this->link(a, b);
  const auto wants = [this](int at, int of) {
    return side(at).alive() && side(at).wants_links[place(side(at), side(of))];
  };
  for (int attempt = 0; attempt < 4 && link.incarnation == 0 && wants(a, b) && wants(b, a); ++attempt) {
    link.incarnation = ++incarnations_;
    side(a).feed(LinkEstablished{place(side(a), side(b)), link.incarnation});
    side(b).feed(LinkEstablished{place(side(b), side(a)), link.incarnation});
    run();
  }
}

void Trio::connect(Side& a, Side& b) {
  connect(a.number(), b.number());
}

void Trio::connect() {
  for (int round = 0; round < 3; ++round) {
    for (int a = 0; a < kSides; ++a) {
      for (int b = a + 1; b < kSides; ++b) connect(a, b);
    }
  }
}

void Trio::carry(int from, const Send& send, TestFrame frame) {
  const int to = number_of_peer(from, send.peer);
  Link& link = this->link(from, to);
  if (link.incarnation != send.incarnation || link.closing) return;
  link.frames[from < to ? 1 : 0].push_back(std::move(frame));
}

void Trio::close(int number, PeerIndex peer, Incarnation incarnation) {
  const int other = number_of_peer(number, peer);
  Link& link = this->link(number, other);
  if (incarnation != link.incarnation || incarnation == 0) return;
  link.closing = true;
  link.frames[number < other ? 0 : 1].clear();  // it does not read any more
}

void Trio::side_is_gone(int number) {
  for (int other = 0; other < kSides; ++other) {
    if (other != number) lose(number, other);
  }
}

void Trio::pass(uint64_t time_us) {
  const uint64_t end_us = now_us + time_us;
  while (now_us < end_us) {
    now_us = std::min(now_us + 50'000, end_us);
    for (int number = 0; number < kSides; ++number) {
      if (side(number).alive()) side(number).feed(Ticked{});
    }
    run();
  }
}

void Trio::settle() {
  run();
  for (int round = 0; round < 6; ++round) {
    connect();
    pass(1'000'000);
  }
}

void Trio::make_mirrored() {
  run();
  connect();
  alpha.order(OrderKind::Promote);
  settle();
  LOCKSTEP_CHECK(alpha.is_primary() && alpha.is_up_to_date() && beta.is_up_to_date() && gamma.is_up_to_date());
  LOCKSTEP_CHECK(peer(alpha, beta).replication == ReplicationState::Established);
  LOCKSTEP_CHECK(peer(alpha, gamma).replication == ReplicationState::Established);
}

bool Trio::are_alike(const Side& a, const Side& b) const {
  return a.replica().status().generation == b.replica().status().generation && bits(a, b) == 0 && bits(b, a) == 0 &&
         a.disk == b.disk;
}

void write(Trio& trio, Side& side, const ByteRange& range, uint32_t value) {
  side.write(0, range, value);
  trio.run();
  REQUIRE(side.replies.at(0) == 0);
}

}  // namespace lockstep::repl
