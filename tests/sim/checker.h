// The invariants; their numbers are those of docs/testing.md. checker.cpp: at what a client is told, at promotions and
// at the end; power_loss_check.cpp: what stable storage holds and says at any moment.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "replicator/core/generation_rules.h"
#include "replicator/core/replica.h"
#include "tests/sim/ledger.h"
#include "tests/sim/stream_order.h"

namespace lockstep::sim {

class World;
class Node;

class Checker {
 public:
  explicit Checker(World& world) : stream_order(world), world_(world) {}
  void prepare();  // once the nodes are there
  void start();

  // What the nodes report.
  void before_crash();
  // The node has changed to another protocol, and what the old one had answered is safe.
  void protocol_changed(int node);
  void node_crashed(int node, bool power_lost);
  void node_started(int node);
  void cache_lost(int node);     // by a flush that failed
  void disk_replaced(int node);  // by an empty one, or an older copy
  void copy_written(int node);   // of a resync, to the disk
  // `kept_by`: peers that had kept their promise when the answer was decided, and may be gone since. `had_disk`: then
  // the node's own disk had the write, and failed before the answer was given.
  void write_answered(int node, uint32_t write, bool fua, uint8_t kept_by, bool had_disk);
  void read_answered(const ByteRange& range, std::span<const Value> seen, uint64_t issued);
  void flush_answered(int node, uint64_t issued, bool had_disk);
  void request_failed(int node, int error_errno);
  void export_opened(int node);
  void noted(int node, const repl::Note& note);

  // Its disk is another than the one that it had, and has got nothing yet.
  bool is_replaced(int node) const { return nodes_[static_cast<size_t>(node)].replaced; }
  bool is_gone(int node) const { return nodes_[static_cast<size_t>(node)].gone; }
  // Some other node answered writes that this one lacks.
  bool is_behind(int node) const { return nodes_[static_cast<size_t>(node)].behind; }
  // An operator gave up this node's data.
  void invalidated(int node) { known(node).steady = false; }
  // … or had it promoted as the best of those that are left, none of which is a whole copy.
  void forced(int node) { known(node).forced = true; }
  // Of each disk a flush failed, or it was replaced, or given up by an operator, and none was resynced since. With
  // several peers one may have been the target of a resync meanwhile, which lacked nothing before and which nobody can
  // end any more, or have been left behind.
  bool no_whole_copy_is_left() const {
    return std::all_of(nodes_.begin(), nodes_.end(), [this](const Knowledge& each) {
      return each.gone || each.replaced || each.given_up || (nodes_.size() > 2 && (each.mixed || each.behind));
    });
  }
  // No write that was flushed is missing there.
  bool has_all_flushed(int node);
  // It could be the only one that is left, and no promise would be broken.
  bool suffices_alone(int node);

  void check_converged();
  // What each node's disk lacks of what was promised, and what is known of it.
  void trace_contents();
  // What is on stable storage is not what was written any more, and nobody knows it.
  void look_away() { looks_away_ = true; }
  // What the application is told is not held against the ledger any more: there are two truths.
  void operator_lied() { lied_ = true; }

  // Promotions that lost answered writes with their Primary, as protocol A may.
  uint64_t losses = 0;
  StreamOrder stream_order;
  uint64_t promotions = 0, crashes = 0, resyncs = 0, checks = 0;

 private:
  // What a disk holds, and hands on as the source of a resync.
  struct Held {
    bool has_acknowledged = true;
    bool behind = false;
    bool may_lack = false;
    bool from_crashed = false;
  };
  // What is known of a node's disk.
  struct Knowledge {
    bool has_acknowledged = true;  // every answered write
    bool behind = false;
    bool may_lack = false;       // answered writes, even flushed ones: protocol A
    bool left_lacking = false;   // it is behind because it may lack some, and for nothing else yet
    bool steady = true;          // it lives since it was last in sync
    bool from_crashed = false;   // its data came from a Primary that had crashed
    bool data_lost = false;      // as Primary it has said so
    bool gone = false;           // a flush of its disk failed, and it was not resynced since
    bool forced = false;         // an operator vouched for it, who had no better one
    bool abandoned = false;      // what it alone had was given up
    bool metadata_gone = false;  // it was lost with its metadata, and not resynced since
    bool unrecorded = false;     // and its metadata did not say so when its node ended
    // As a suspended Primary: who came in sync since, and the last write and moment of before it resumed. What was done
    // until then, and is told afterwards, did not wait for those.
    uint32_t joined = 0;
    uint32_t held_write = 0;
    uint64_t held_moment = 0;
    bool opened_suspended = false;  // its export, while it may not answer: another may be Primary in its place
    bool replaced = false;          // its disk, by an empty one or an older copy, and not resynced yet
    bool given_up = false;          // an operator had it invalidated, and it was not resynced since
    bool mixed = false;             // a resync from a copy that lacked nothing broke off, and made it no whole copy
    Held before_replacement;        // of the disk that was there, if it was replaced
    // Units whose stable value breaks a promise to a client who was told that it is flushed.
    std::vector<uint8_t> wrong;
    size_t wrong_count = 0;
  };
  // Units of which two nodes may hold different content after a loss of power.
  struct Difference {
    int a = 0, b = 0;
    std::vector<uint8_t> differs;
    std::vector<uint32_t> units;  // may name some that do not differ any more
  };
  // What a node would say of itself to a peer if it started now from stable storage.
  struct Restarted {
    const Node* node = nullptr;
    repl::PeerIndex peer = 0;
    repl::StateReport report;
  };

  bool keeps(int node, Promise promise) const;
  Held held_by(int node) const;
  // The generation in which promises were made last.
  repl::Generation promised_in() const;
  void note_complete(int node);
  void note_promise(int node);
  // A node answers from its own disk, and a peer that is in sync or that serves it holds the same.
  bool holds_answered(int node, int answered_by) const;
  Knowledge& known(int node) { return nodes_[static_cast<size_t>(node)]; }
  // `had_disk`: it was decided by its own disk, as in write_answered.
  bool answers_ahead(int node, int peer, bool had_disk = false) const;
  repl::Protocol weakest_protocol(int node) const;
  // On its disk, or with `stable` on its stable storage.
  bool has(int node, const Layout::Units& units, bool stable) const;
  // This write or one that came after it, whatever else was promised since.
  bool got(int node, uint32_t write, bool stable) const;
  // Where only some are waited for: whether they have got it, and who has not.
  void check_sync_set(int node, std::span<const uint32_t> writes, bool stable, uint8_t kept_by, bool was_held);
  std::optional<size_t> held_by_one(int node, int other, Promise promise, bool but_zeroes = false) const;
  bool is_steady_source(int node) const;
  // Promoted; what it lacks is given up as soon as its export opens.
  bool is_opening(int node) const;
  void check_source_has_more(int source, int target);
  void note_who_lacks_flushed(int node, std::span<const uint32_t> writes, bool had_disk);
  void caught_up(int node, int with);
  bool has_answered(int node) const;  // everything
  bool is_beside_one_ahead(int node, int other, const repl::Generation& generation) const;
  bool is_forgotten_copy(int node, int at) const;
  bool is_split_by_losses(int a, int b) const;
  bool holds_unanswered(int id) const;
  bool serves_for_nothing(int node) const;
  bool another_has_answered(int than) const;
  void give_up_what_is_lost(int node);
  void check_units_stable(int node, const Layout::Units& units, bool peers_as_well, const char* promise, bool had_disk);

  // power_loss_check.cpp
  void check_stable_storage();
  void look_at_changes();
  void look_at(int node, size_t unit);
  void look_at_difference(Difference& difference, size_t unit);
  bool is_promoted_unrecorded(int id) const;
  bool check_pair(Difference& difference);
  bool is_covered(const Difference& difference, uint64_t block) const;
  Restarted restarted(int node, int peer) const;
  void trace_report(const repl::StateReport& report) const;
  std::string first_wrong(int node) const;

  World& world_;
  bool looks_away_ = false;
  bool lied_ = false;
  bool disk_was_replaced_ = false;
  int last_primary_ = 0;
  bool last_primary_replaced_ = false;  // its disk, since: what is there now is a survivor's copy at best
  repl::Generation served_generation_;  // in which it answered last, if that was from a peer's disk
  // With several peers: in which something was answered, and in which a Primary without a disk asked for service.
  std::vector<repl::Generation> answered_in_, to_serve_in_;
  std::vector<Knowledge> nodes_;
  std::vector<Difference> differences_;
};

}  // namespace lockstep::sim
