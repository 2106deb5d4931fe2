#include "tests/sim/network.h"

#include <algorithm>

#include "tests/sim/world.h"

namespace lockstep::sim {

void Network::send(int from, repl::Incarnation incarnation, Frame frame) {
  const auto link = link_[from];
  if (link == nullptr || link->incarnation[from] != incarnation || !link->open[from] || link->silent[from]) return;
  const int to = 1 - from;
  const uint64_t after = link->to[to].empty() ? 0 : link->to[to].back().arrives_us;
  frame.arrives_us =
      std::max(after, world_.now_us + world_.random.between(20, world_.random.chance(0.02) ? 5000 : 120));
  link->to[to].push_back(std::move(frame));
  schedule(link, to);
}

void Network::schedule(const std::shared_ptr<Link>& link, int to) {
  if (link->delivering[to] || link->to[to].empty()) return;
  link->delivering[to] = true;
  world_.at(link->to[to].front().arrives_us, [this, link, to] { deliver_next(link, to); });
}

void Network::deliver_next(const std::shared_ptr<Link>& link, int to) {
  link->delivering[to] = false;
  if (link->to[to].empty()) return;
  Frame& front = link->to[to].front();
  if (front.arrives_us > world_.now_us) return schedule(link, to);
  Node& node = world_.node(to);
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
      node.receive(link->incarnation[to], frame);
    }
  }
  schedule(link, to);
}

void Network::lost(const std::shared_ptr<Link>& link, int node, uint64_t delay_us) {
  if (!link->open[node]) return;
  link->open[node] = false;
  if (link_[node] == link) link_[node] = nullptr;
  if (!link->known[node]) return;  // it never heard of it
  const repl::Incarnation incarnation = link->incarnation[node];
  world_.node_event(node, delay_us, repl::LinkLost{0, incarnation});
}

void Network::close(int from, repl::Incarnation incarnation) {
  const auto link = link_[from];
  if (link == nullptr || link->incarnation[from] != incarnation) return;
  Frame frame;
  frame.closes = true;
  send(from, incarnation, std::move(frame));
  lost(link, from, 1);
}

void Network::node_gone(int node, bool silently) {
  const auto link = link_[node];
  if (link == nullptr) return;
  link->open[node] = false;
  link_[node] = nullptr;
  // What was sent may arrive in part.
  auto& under_way = link->to[1 - node];
  under_way.resize(world_.random.below(under_way.size() + 1));
  if (silently) return;
  Frame frame;
  frame.closes = true;
  frame.arrives_us = world_.now_us + world_.random.between(50, 2000);
  if (!under_way.empty()) frame.arrives_us = std::max(frame.arrives_us, under_way.back().arrives_us);
  under_way.push_back(std::move(frame));
  schedule(link, 1 - node);
}

void Network::try_connect() {
  if (connecting_ || partitioned || link_[0] != nullptr) return;
  if (!world_.node(0).wants_link() || !world_.node(1).wants_link()) return;
  connecting_ = true;
  world_.at(world_.now_us + world_.random.between(500, 3000), [this] {
    connecting_ = false;
    if (partitioned || link_[0] != nullptr || !world_.node(0).wants_link() || !world_.node(1).wants_link()) return;
    auto link = std::make_shared<Link>();
    for (int end = 0; end < 2; ++end) {
      link->incarnation[end] = ++incarnations_;
      if (link_[end] != nullptr) link_[end]->open[end] = false;  // the old one's end is forgotten
      link_[end] = link;
      const uint64_t boot = world_.node(end).boots();
      world_.at(world_.now_us + world_.random.between(1, 500), [this, link, end, boot] {
        world_.thawed(end, [this, link, end, boot] {
          Node& node = world_.node(end);
          if (!link->open[end] || !node.alive() || node.boots() != boot) return;
          link->known[end] = true;
          node.feed(repl::LinkEstablished{0, link->incarnation[end]});
        });
      });
    }
  });
}

void Network::cut() {
  const auto link = link_[0] != nullptr ? link_[0] : link_[1];
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

void Network::fall_silent(int from) {
  const auto link = link_[from];
  if (link == nullptr) return;
  link->silent[from] = true;
  auto& under_way = link->to[1 - from];
  under_way.resize(world_.random.below(under_way.size() + 1));
}

void Network::stall(uint64_t until_us) {
  for (const auto& link : link_) {
    if (link == nullptr) continue;
    for (auto& queue : link->to) {
      for (Frame& frame : queue) frame.arrives_us = std::max(frame.arrives_us, until_us);
    }
  }
}

}  // namespace lockstep::sim
