// Three replicas of the shipped core, for stories about a third node: pair.h's sides, each linked to the other two.
#pragma once

#include <array>
#include <cstdint>
#include <deque>

#include "tests/unit/core/pair.h"

namespace lockstep::repl {

ReplicaOptions trio_options(int number);

class Trio : public Wires {
 public:
  static constexpr int kSides = 3;
  Trio() : Trio(trio_options(0), trio_options(1), trio_options(2)) {}
  Trio(const ReplicaOptions& first, const ReplicaOptions& second, const ReplicaOptions& third);

  Side alpha, beta, gamma;
  std::array<std::array<bool, kSides>, kSides> holds{};  // [from][to]: frames stay on the link

  static PeerIndex place(const Side& at, const Side& of);
  PeerStatus peer(const Side& at, const Side& of) const { return at.peer(place(at, of)); }
  // Blocks that `at` knows to be out of sync with `of`.
  uint64_t bits(const Side& at, const Side& of) const { return peer(at, of).out_of_sync_blocks; }

  void run();
  // A link, and another when a handshake had to start again. Without names: between all that want one.
  void connect(Side& a, Side& b);
  void connect();
  void lose_link(Side& a, Side& b);  // with everything that is on it
  // What is on the link is lost, and only `notices` knows it so far.
  void lose_link_unnoticed(Side& notices, Side& other);
  void pass(uint64_t time_us);

  // Links are tried again, and time passes, as often as it takes for everything to come together.
  void settle();

  // alpha is Primary, all are UpToDate and Established with it.
  void make_mirrored();
  bool are_alike(const Side& a, const Side& b) const;  // one generation, no bits, the same content

 private:
  struct Link {
    Incarnation incarnation = 0;
    bool closing = false;
    std::array<std::deque<TestFrame>, 2> frames;  // to the lower, to the higher of the two numbers
  };
  static int number_of_peer(int number, PeerIndex peer) { return peer < number ? peer : peer + 1; }
  Side& side(int number) { return number == 0 ? alpha : number == 1 ? beta : gamma; }
  Link& link(int a, int b) { return links_[static_cast<size_t>(a + b - 1)]; }
  bool deliver_one(int from, int to);
  void lose(int a, int b);
  void connect(int a, int b);
  void carry(int from, const Send& send, TestFrame frame) override;
  void close(int number, PeerIndex peer, Incarnation incarnation) override;
  void side_is_gone(int number) override;

  std::array<Link, kSides> links_;
  Incarnation incarnations_ = 0;
};

// One that is answered with success at once.
void write(Trio& trio, Side& side, const ByteRange& range, uint32_t value);

}  // namespace lockstep::repl
