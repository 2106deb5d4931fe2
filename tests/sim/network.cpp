#include "tests/sim/network.h"

#include <algorithm>

#include "tests/sim/world.h"

namespace lockstep::sim {

Network::Network(World& world, int node_count) : world_(world), node_count_(node_count) {
  for (int a = 0; a < node_count; ++a) {
    for (int b = a + 1; b < node_count; ++b) {
      Pair pair;
      pair.nodes = {a, b};
      pairs_.push_back(pair);
    }
  }
}

Network::Pair& Network::pair(int a, int b) {
  if (a > b) std::swap(a, b);
  // Pairs in order: (0,1) (0,2) … (1,2) …
  return pairs_[static_cast<size_t>(a * (2 * node_count_ - a - 1) / 2 + b - a - 1)];
}

void Network::send(int from, int to, repl::Incarnation incarnation, Frame frame) {
  const int end = from < to ? 0 : 1;
  const LinkPointer link = pair(from, to).link[end];
  if (link == nullptr || link->incarnation[end] != incarnation) return;
  put(link, end, std::move(frame));
}

void Network::put(const LinkPointer& link, int from_end, Frame frame) {
  if (!link->open[from_end] || link->silent[from_end]) return;
  const int to = 1 - from_end;
  const uint64_t after = link->to[to].empty() ? 0 : link->to[to].back().arrives_us;
  frame.arrives_us =
      std::max(after, world_.now_us + world_.random.between(20, world_.random.chance(0.02) ? 5000 : 120));
  link->to[to].push_back(std::move(frame));
  schedule(link, to);
}

void Network::schedule(const LinkPointer& link, int to) {
  if (link->delivering[to] || link->to[to].empty()) return;
  link->delivering[to] = true;
  world_.at(link->to[to].front().arrives_us, [this, link, to] { deliver_next(link, to); });
}

void Network::deliver_next(const LinkPointer& link, int to) {
  link->delivering[to] = false;
  if (link->to[to].empty()) return;
  Frame& front = link->to[to].front();
  if (front.arrives_us > world_.now_us) return schedule(link, to);
  Node& node = world_.node(link->nodes[to]);
  if (link->open[to] && node.is_frozen()) {
    front.arrives_us = node.frozen_until_us() + 1;
    return schedule(link, to);
  }
  if (link->open[to] && !link->known[to]) {
    front.arrives_us = world_.now_us + 100;
    return schedule(link, to);
  }
  if (link->open[to] && !front.closes && !node.can_receive(front)) {
    front.arrives_us = world_.now_us + 200;  // back-pressure: the receiver does not read
    return schedule(link, to);
  }
  const Frame frame = std::move(front);
  link->to[to].pop_front();
  if (link->open[to]) {
    if (frame.closes) {
      lost(link, to, 0);
    } else {
      node.receive(link->nodes[1 - to], link->incarnation[to], frame);
    }
  }
  schedule(link, to);
}

void Network::lost(const LinkPointer& link, int end, uint64_t delay_us) {
  if (!link->open[end]) return;
  link->open[end] = false;
  LinkPointer& held = pair(link->nodes[0], link->nodes[1]).link[end];
  if (held == link) held = nullptr;
  if (!link->known[end]) return;  // it never heard of it
  const int id = link->nodes[end];
  const uint64_t boot = world_.node(id).boots();
  const repl::Incarnation incarnation = link->incarnation[end];
  const int other = link->nodes[1 - end];
  world_.at(world_.now_us + delay_us, [this, id, boot, other, incarnation] {
    world_.thawed(id, boot, [this, id, other, incarnation] {
      Node& node = world_.node(id);
      node.feed(repl::LinkLost{node.peer_index(other), incarnation});
    });
  });
}

void Network::close(int from, int to, repl::Incarnation incarnation) {
  const int end = from < to ? 0 : 1;
  const LinkPointer link = pair(from, to).link[end];
  if (link == nullptr || link->incarnation[end] != incarnation) return;
  Frame frame;
  frame.closes = true;
  put(link, end, std::move(frame));
  lost(link, end, 1);
}

void Network::node_gone(int node, bool silently) {
  for (int other = 0; other < node_count_; ++other) {
    if (other == node) continue;
    const int end = node < other ? 0 : 1;
    LinkPointer& held = pair(node, other).link[end];
    const LinkPointer link = std::exchange(held, nullptr);
    if (link == nullptr) continue;
    link->open[end] = false;
    // What was sent may arrive in part.
    auto& under_way = link->to[1 - end];
    under_way.resize(world_.random.below(under_way.size() + 1));
    if (silently) continue;
    Frame frame;
    frame.closes = true;
    frame.arrives_us = world_.now_us + world_.random.between(50, 2000);
    if (!under_way.empty()) frame.arrives_us = std::max(frame.arrives_us, under_way.back().arrives_us);
    under_way.push_back(std::move(frame));
    schedule(link, 1 - end);
  }
}

bool Network::wants_link(const Pair& pair) const {
  return !pair.partitioned && pair.link[0] == nullptr && world_.node(pair.nodes[0]).wants_link(pair.nodes[1]) &&
         world_.node(pair.nodes[1]).wants_link(pair.nodes[0]);
}

// A daemon that was refused takes its time before it tries again: an order that waits for handshakes, or asks the
// arbiter, gets on in between.
bool Network::takes_its_time(const Pair& pair) const {
  for (const size_t end : {0, 1}) {
    const Node& node = world_.node(pair.nodes[end]);
    if (!node.responds()) continue;
    const repl::Rule rule = node.peer(pair.nodes[1 - end]).decision.rule;
    if (rule == repl::Rule::SelfMayBeStale || rule == repl::Rule::PeerMayBeStale) return !world_.random.chance(0.02);
  }
  return false;
}

void Network::try_connect() {
  for (Pair& pair : pairs_) {
    if (pair.connecting || !wants_link(pair) || takes_its_time(pair)) continue;
    pair.connecting = true;
    world_.at(world_.now_us + world_.random.between(500, 3000), [this, &pair] {
      pair.connecting = false;
      if (wants_link(pair)) establish(pair);
    });
  }
}

void Network::establish(Pair& pair) {
  const auto link = std::make_shared<Link>();
  link->nodes = pair.nodes;
  for (int end = 0; end < 2; ++end) {
    link->incarnation[end] = ++incarnations_;
    if (pair.link[end] != nullptr) pair.link[end]->open[end] = false;  // the old one's end is forgotten
    pair.link[end] = link;
    const int id = link->nodes[end];
    const uint64_t boot = world_.node(id).boots();
    world_.at(world_.now_us + world_.random.between(1, 500), [this, link, end, id, boot] {
      world_.thawed(id, boot, [this, link, end, id] {
        if (!link->open[end]) return;
        link->known[end] = true;
        Node& node = world_.node(id);
        node.feed(repl::LinkEstablished{node.peer_index(link->nodes[1 - end]), link->incarnation[end]});
      });
    });
  }
}

void Network::cut(int a, int b) {
  const Pair& between = pair(a, b);
  const LinkPointer link = between.link[0] != nullptr ? between.link[0] : between.link[1];
  if (link == nullptr) return;
  for (int to = 0; to < 2; ++to) {
    link->to[to].resize(world_.random.below(link->to[to].size() + 1));
    link->silent[to] = true;
  }
  for (int end = 0; end < 2; ++end) {
    const uint64_t delay = world_.random.below(3000);
    world_.at(world_.now_us + delay, [this, link, end] { lost(link, end, 0); });
  }
}

void Network::fall_silent(int from, int to) {
  const int end = from < to ? 0 : 1;
  const LinkPointer link = pair(from, to).link[end];
  if (link == nullptr) return;
  link->silent[end] = true;
  auto& under_way = link->to[1 - end];
  under_way.resize(world_.random.below(under_way.size() + 1));
}

void Network::stall(int a, int b, uint64_t until_us) {
  for (const LinkPointer& link : pair(a, b).link) {
    if (link == nullptr) continue;
    for (auto& queue : link->to) {
      for (Frame& frame : queue) frame.arrives_us = std::max(frame.arrives_us, until_us);
    }
  }
}

void Network::partition(int a, int b) {
  pair(a, b).partitioned = true;
  fall_silent(a, b);
  fall_silent(b, a);
}

void Network::heal_all() {
  for (Pair& pair : pairs_) pair.partitioned = false;
}

}  // namespace lockstep::sim
