#include "replicator/core/generation_rules.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "replicator/core/probes.h"

namespace lockstep::repl {
namespace {

// A decision as one side sees it, and the name that the other side gives to the same rule.
struct Verdict {
  SyncKind kind;
  SyncExtent extent;
  Rule rule;
};

bool has_disk(const StateReport& report) {
  return is_disk(report.disk_state);
}

bool is_inconsistent(const StateReport& report) {
  return report.disk_state == DiskState::Inconsistent;
}
bool is_invalidated(const StateReport& report) {
  return is_inconsistent(report) && report.out_of_sync_blocks > 0;
}
bool is_primary(const StateReport& report) {
  return report.role == Role::Primary;
}
bool is_up_to_date(const StateReport& report) {
  return report.disk_state == DiskState::UpToDate;
}

bool has_third_nodes(const StateReport& report) {
  return report.may_hold != 0;
}

// It was not restarted since it got what it holds, and nor was the node that it has that from. UpToDate is also who was
// restarted, and then met one that lives and holds less.
bool has_lived_on(const StateReport& report) {
  return is_up_to_date(report) && (!has_third_nodes(report) || report.position.stream != 0);
}

// It knows more of what it holds of a stream: all, or what it had made stable when it was restarted. But one that is
// UpToDate and knows nothing has met one that lives, and is like that one.
bool knows_more(const StateReport& report, const StateReport& other) {
  if (report.position.stream != 0 || other.position.stream != 0) {
    return report.position.stream != 0 && other.position.stream == 0;
  }
  return report.stable_position.stream != 0 && other.stable_position.stream == 0 && !is_up_to_date(other) &&
         !LOCKSTEP_MUTANT("stable-position-not-compared");
}

// A later Primary than the one that crashed has brought `other` together with what was left.
bool is_past(const StateReport& report, const StateReport& other) {
  return other.term > report.ahead_term && !LOCKSTEP_MUTANT("crash-before-the-last-primary-counts");
}

bool has_crashed(const StateReport& report, const StateReport& other) {
  return report.crashed_primary && !is_past(report, other);
}

bool has_answered_ahead(const StateReport& report, const StateReport& other) {
  return report.answered_ahead && !is_past(report, other);
}

// Of the last Primary's stream that it was in sync with. One that was restarted may have recorded something of an
// earlier one only.
bool knows_last_place(const StateReport& report) {
  return holds_at_least(report).term == report.term;
}

// `report` is of a Primary that crashed, and `other` may lack what it answered, as it knows itself or the other does.
bool is_ahead(const StateReport& report, const StateReport& other) {
  return has_answered_ahead(report, other) || (has_crashed(report, other) && other.waited_for == WaitedFor::No &&
                                               report.waited_for != WaitedFor::No && !has_crashed(other, report));
}

// The bitmap of `report` knows every change since `generation`.
bool tracks_since(const StateReport& report, const Generation& generation) {
  return is_a_name(generation) &&
         (report.bitmap_generation == generation || report.previous_bitmap_generation == generation);
}

bool remembers(const StateReport& report, const Generation& generation) {
  return is_a_name(generation) &&
         std::find(report.history.begin(), report.history.end(), generation) != report.history.end();
}

bool is_unused(const StateReport& report) {
  return report.unanswered_since == kHeldByNobody;
}

// Both bitmaps count from one common generation.
bool tracks_since_same(const StateReport& a, const StateReport& b) {
  return tracks_since(b, a.bitmap_generation) || tracks_since(b, a.previous_bitmap_generation);
}

bool shares_ancestor(const StateReport& a, const StateReport& b) {
  const auto known_to_b = [&b](const Generation& generation) {
    return is_a_name(generation) &&
           (b.current == generation || tracks_since(b, generation) || remembers(b, generation));
  };
  return known_to_b(a.current) || known_to_b(a.bitmap_generation) || known_to_b(a.previous_bitmap_generation) ||
         std::any_of(a.history.begin(), a.history.end(), known_to_b);
}

Verdict source(SyncExtent extent, Rule rule) {
  return {SyncKind::Source, extent, rule};
}
Verdict target(SyncExtent extent, Rule rule) {
  return {SyncKind::Target, extent, rule};
}

// One generation on both sides: every write that one of them acknowledged is on both or under a bit, so any
// direction keeps what was promised; the order of the rules prefers the copy that needs no excuse. Bits are never
// ignored: equal generations with bits left are copied, whoever has the bits.
Verdict decide_equal(const StateReport& self, const StateReport& peer) {
  constexpr auto kBitmap = SyncExtent::Bitmap;
  if (is_inconsistent(self)) return target(kBitmap, Rule::EqualSelfInconsistent);
  if (is_inconsistent(peer)) return source(kBitmap, Rule::EqualPeerInconsistent);

  const bool ignores = LOCKSTEP_MUTANT("equal-generations-ignore-bits");
  const bool self_crashed = has_crashed(self, peer);
  const bool peer_crashed = has_crashed(peer, self);
  const bool self_has_bits = self.out_of_sync_blocks > 0 && !ignores;
  const bool peer_has_bits = peer.out_of_sync_blocks > 0 && !ignores;
  if (!self_has_bits && !peer_has_bits && !self_crashed && !peer_crashed) {
    return {SyncKind::None, SyncExtent::Nothing, Rule::EqualClean};
  }
  if (is_primary(self) != is_primary(peer)) {
    return is_primary(self) ? source(kBitmap, Rule::EqualSelfPrimary) : target(kBitmap, Rule::EqualPeerPrimary);
  }
  const bool same_stream = self.position.is_same_stream(peer.position);
  // A crash before both got the same later Primary's stream says nothing of what they hold now.
  const bool crash_is_past = same_stream && !LOCKSTEP_MUTANT("past-crash-counts");
  const bool self_is_ahead = is_ahead(self, peer);
  if (!crash_is_past && self_is_ahead != is_ahead(peer, self)) {
    // It crashed as Primary under protocol A: only its own disk has all that it answered.
    return self_is_ahead ? source(kBitmap, Rule::EqualSelfCrashedAhead) : target(kBitmap, Rule::EqualPeerCrashedAhead);
  }
  // With several peers a Primary may have answered what only some of them had. Of any three equal nodes one must be no
  // target of the other two: each of these rules goes by what a node is, before those that go by what two know of each
  // other. This one comes first: a node that was not waited for has been no Primary since it was told so.
  const bool self_waited_for = self.waited_for == WaitedFor::Yes && peer.waited_for == WaitedFor::No;
  const bool peer_waited_for = peer.waited_for == WaitedFor::Yes && self.waited_for == WaitedFor::No;
  const bool crash_counts = self_crashed != peer_crashed && LOCKSTEP_MUTANT("crash-before-waited-for");
  if (self_waited_for != peer_waited_for && !crash_counts &&
      !LOCKSTEP_MUTANT("survivor-that-lacks-answers-is-source")) {
    return self_waited_for ? source(kBitmap, Rule::EqualPeerMayLack) : target(kBitmap, Rule::EqualSelfMayLack);
  }
  if (!crash_is_past && self_crashed != peer_crashed) {
    // A peer that lived on completed what the crashed Primary may have lost from its volatile cache. If it was
    // restarted too, it only knows that its data is consistent, and the Primary had every write first.
    const bool ignores_survivor = LOCKSTEP_MUTANT("crashed-primary-wins");
    if (self_crashed) {
      return has_lived_on(peer) && !ignores_survivor ? target(kBitmap, Rule::EqualSelfCrashed)
                                                     : source(kBitmap, Rule::EqualSelfCrashedAlone);
    }
    return has_lived_on(self) && !ignores_survivor ? source(kBitmap, Rule::EqualPeerCrashed)
                                                   : target(kBitmap, Rule::EqualPeerCrashedAlone);
  }
  const StreamPosition self_holds = holds_at_least(self);
  const StreamPosition peer_holds = holds_at_least(peer);
  const bool comparable = self_holds.is_same_stream(peer_holds) && self.term == peer.term &&
                          (same_stream || !LOCKSTEP_MUTANT("stable-position-not-compared"));
  const bool of_two_terms = self_holds.stream != 0 && peer_holds.stream != 0 && self.term != peer.term &&
                            knows_last_place(self.term > peer.term ? self : peer) &&
                            !LOCKSTEP_MUTANT("places-of-two-terms-not-compared");
  const bool differ = of_two_terms || (comparable && self_holds.through != peer_holds.through);
  if (differ && !LOCKSTEP_MUTANT("survivor-with-less-is-source")) {
    const bool self_has_more = of_two_terms ? self.term > peer.term : self_holds.through > peer_holds.through;
    return self_has_more ? source(kBitmap, Rule::EqualSelfReceivedMore) : target(kBitmap, Rule::EqualPeerReceivedMore);
  }
  // One of them was restarted, and the other has all that it is known to have made stable.
  if (knows_more(self, peer) != knows_more(peer, self) && !LOCKSTEP_MUTANT("bits-before-who-lived-on")) {
    return knows_more(self, peer) ? source(kBitmap, Rule::EqualSelfReceivedMore)
                                  : target(kBitmap, Rule::EqualPeerReceivedMore);
  }
  // One that has granted a promotion does not know any more. The other has all that was answered in this generation.
  const bool self_was_waited_for = self.waited_for == WaitedFor::Yes;
  const bool peer_was_waited_for = peer.waited_for == WaitedFor::Yes;
  if (self_was_waited_for != peer_was_waited_for && !LOCKSTEP_MUTANT("granted-promotion-makes-equal")) {
    return self_was_waited_for ? source(kBitmap, Rule::EqualPeerMayLack) : target(kBitmap, Rule::EqualSelfMayLack);
  }
  // Of three nodes two may have gone on without the one that left, in the same generation.
  const bool self_left = self.disk_state == DiskState::Outdated;
  const bool peer_left = peer.disk_state == DiskState::Outdated;
  if (has_third_nodes(self) && has_third_nodes(peer) && self_left != peer_left &&
      !LOCKSTEP_MUTANT("outdated-node-comes-first")) {
    return peer_left ? source(kBitmap, Rule::EqualSelfFresher) : target(kBitmap, Rule::EqualPeerFresher);
  }
  if (self_has_bits != peer_has_bits) {
    return self_has_bits ? source(kBitmap, Rule::EqualSelfHasBits) : target(kBitmap, Rule::EqualPeerHasBits);
  }
  if (is_up_to_date(self) != is_up_to_date(peer)) {
    return is_up_to_date(self) ? source(kBitmap, Rule::EqualSelfFresher) : target(kBitmap, Rule::EqualPeerFresher);
  }
  return self.node_order < peer.node_order ? source(kBitmap, Rule::EqualSelfFirst)
                                           : target(kBitmap, Rule::EqualPeerFirst);
}

// `partial` was on its way from sync_base to sync_toward when its resync broke off, and `whole` is not the node that it
// came from. What came is under bits at `partial`, so that whoever knows every change since the base, or is there, can
// go on by bitmap.
std::optional<SyncExtent> completes(const StateReport& whole, const StateReport& partial) {
  if (!is_inconsistent(partial) || is_inconsistent(whole) || !is_a_name(partial.sync_toward) ||
      !is_a_name(whole.current) || whole.current == partial.current || tracks_since(whole, partial.current)) {
    return std::nullopt;
  }
  // A generation that `whole` undid is as good as the one that it went back to.
  const auto is_at_or_behind = [&whole](const Generation& generation) {
    const bool undid = whole.undone == generation && !LOCKSTEP_MUTANT("aim-that-was-undone-has-no-source");
    return whole.current == generation || undid || tracks_since(whole, generation) || remembers(whole, generation);
  };
  // Else it holds older data; but whoever remembers the resync's own name has all that its source had.
  if (!is_at_or_behind(partial.sync_toward) && !remembers(whole, partial.current)) return std::nullopt;
  const bool by_bits =
      is_a_name(partial.sync_base) && (whole.current == partial.sync_base || tracks_since(whole, partial.sync_base));
  return by_bits ? SyncExtent::Bitmap : SyncExtent::Full;
}

bool is_partial(const StateReport& report) {
  return is_inconsistent(report) && is_a_name(report.sync_toward) && !is_unused(report);
}

// An operator, or the arbiter, made it Primary without the node whose data `partial` was on its way to.
bool is_vouched_for(const StateReport& whole, const StateReport& partial) {
  return is_primary(whole) && is_up_to_date(whole) && !whole.current.is_zero() && is_inconsistent(partial) &&
         !LOCKSTEP_MUTANT("partial-waits-for-lost-source");
}

// `broken` is no copy any more, and nothing was ever written in the generation that it was granted, or was on its way
// to. All that it may get back are zeroes, and `whole` has them, as create left them.
bool gives_zeroes(const StateReport& whole, const StateReport& broken) {
  return has_third_nodes(whole) && whole.current.is_zero() && !is_inconsistent(whole) && is_inconsistent(broken) &&
         is_unused(broken) && !LOCKSTEP_MUTANT("zeroes-have-no-source");
}

// `partial` was on its way to a node that had never been written to, so that its aim has no name; it has got more
// since, and is no copy any more. Its base is all that it could fall back on, and `whole` has that, or has gone on from
// it; or its disk had just been created, and there is nothing to fall back on.
bool has_its_base(const StateReport& whole, const StateReport& partial) {
  if (!is_inconsistent(partial) || is_inconsistent(whole) || !partial.sync_toward.is_zero()) return false;
  const bool had_nothing = has_third_nodes(partial) && partial.sync_base.is_zero() && is_for_resync(partial.current);
  if (had_nothing && !LOCKSTEP_MUTANT("created-and-unnamed-aim-is-unrelated")) return true;
  return is_a_name(partial.sync_base) && (whole.current == partial.sync_base || remembers(whole, partial.sync_base)) &&
         !LOCKSTEP_MUTANT("unnamed-aim-is-unrelated");
}

// Each may hold what the other does, as far as both know, and neither has recorded that it left the other behind. One
// undid a generation that the other has, and another one after that.
bool neither_went_on_alone(const StateReport& self, const StateReport& peer) {
  return has_third_nodes(self) && has_third_nodes(peer) && self.bitmap_generation.is_zero() &&
         peer.bitmap_generation.is_zero();
}

// Two generations in which nothing was answered: the two are as equal as before.
Verdict decide_as_equal(const StateReport& self, const StateReport& peer) {
  const Verdict verdict = decide_equal(self, peer);
  const bool self_comes_first =
      is_primary(self) != is_primary(peer) ? is_primary(self) : self.node_order < peer.node_order;
  const bool self_is_source = verdict.kind == SyncKind::None ? self_comes_first : verdict.kind == SyncKind::Source;
  return self_is_source ? source(SyncExtent::Bitmap, Rule::PeerIsUnanswered)
                        : target(SyncExtent::Bitmap, Rule::SelfIsUnanswered);
}

Verdict decide_lineage(const StateReport& self, const StateReport& peer) {
  if (const auto extent = completes(peer, self)) return target(*extent, Rule::SelfIsPartial);
  if (const auto extent = completes(self, peer)) return source(*extent, Rule::PeerIsPartial);
  if (self.current != peer.current && !tracks_since(self, peer.current) && !tracks_since(peer, self.current) &&
      (is_partial(self) || is_partial(peer))) {
    if (is_vouched_for(peer, self)) return target(SyncExtent::Full, Rule::SelfIsPartial);
    if (is_vouched_for(self, peer)) return source(SyncExtent::Full, Rule::PeerIsPartial);
    // Neither can give the other anything: that is for the node from which the newer data came.
    const bool both = is_inconsistent(self) && is_inconsistent(peer);
    return {SyncKind::Refuse, SyncExtent::Nothing, both ? Rule::BothInconsistent : Rule::InconsistentWouldBeSource};
  }
  if (self.current.is_zero() && peer.current.is_zero()) {
    // Both are as create left them, unless one was invalidated since: then its bits say so.
    if (is_invalidated(self) != is_invalidated(peer)) return decide_equal(self, peer);
    return {SyncKind::None, SyncExtent::Nothing, Rule::BothJustCreated};
  }
  if (gives_zeroes(peer, self)) return target(SyncExtent::Full, Rule::SelfIsUnanswered);
  if (gives_zeroes(self, peer)) return source(SyncExtent::Full, Rule::PeerIsUnanswered);
  if (LOCKSTEP_MUTANT("empty-disk-is-source") && self.current.is_zero() != peer.current.is_zero()) {
    return self.current.is_zero() ? source(SyncExtent::Full, Rule::PeerJustCreated)
                                  : target(SyncExtent::Full, Rule::SelfJustCreated);
  }
  if (self.current.is_zero()) return target(SyncExtent::Full, Rule::SelfJustCreated);
  if (peer.current.is_zero()) return source(SyncExtent::Full, Rule::PeerJustCreated);
  if (self.current == peer.current) return decide_equal(self, peer);
  // One took it from the other, which went back from it: whatever either has answered is on both or under a bit.
  const bool self_undid = is_a_name(self.undone) && self.undone == peer.current;
  const bool peer_undid = is_a_name(peer.undone) && peer.undone == self.current;
  if (self_undid != peer_undid && !(is_inconsistent(self) && is_inconsistent(peer)) &&
      !LOCKSTEP_MUTANT("undone-generation-forgotten")) {
    const Verdict verdict = decide_equal(self, peer);
    if (verdict.kind != SyncKind::None) return verdict;
    return self_undid ? target(SyncExtent::Bitmap, Rule::SelfIsUnanswered)
                      : source(SyncExtent::Bitmap, Rule::PeerIsUnanswered);
  }

  // What an incomplete copy says of others is of a time before.
  if (is_inconsistent(self) != is_inconsistent(peer)) {
    if (is_inconsistent(peer) && tracks_since(self, peer.current)) {
      return source(SyncExtent::Bitmap, Rule::PeerIsBehind);
    }
    if (is_inconsistent(self) && tracks_since(peer, self.current)) {
      return target(SyncExtent::Bitmap, Rule::SelfIsBehind);
    }
  }

  constexpr Verdict kSplitBrain{SyncKind::SplitBrain, SyncExtent::Nothing, Rule::SplitBrain};
  const bool self_tracks = tracks_since(self, peer.current);
  const bool peer_tracks = tracks_since(peer, self.current);
  if (self_tracks && peer_tracks && LOCKSTEP_MUTANT("split-brain-resolved-by-name")) {
    return self.node_order < peer.node_order ? source(SyncExtent::Bitmap, Rule::PeerIsBehind)
                                             : target(SyncExtent::Bitmap, Rule::SelfIsBehind);
  }
  const bool is_a_copy_left = !is_inconsistent(self) || !is_inconsistent(peer);
  if (self_tracks && peer_tracks && neither_went_on_alone(self, peer) && is_a_copy_left &&
      !LOCKSTEP_MUTANT("undone-twice-is-a-split-brain")) {
    return decide_as_equal(self, peer);
  }
  if (self_tracks && peer_tracks) return kSplitBrain;
  if (LOCKSTEP_MUTANT("newer-data-is-target") && self_tracks != peer_tracks) {
    return self_tracks ? target(SyncExtent::Bitmap, Rule::SelfIsBehind)
                       : source(SyncExtent::Bitmap, Rule::PeerIsBehind);
  }
  if (self_tracks) return source(SyncExtent::Bitmap, Rule::PeerIsBehind);
  if (peer_tracks) return target(SyncExtent::Bitmap, Rule::SelfIsBehind);

  // A generation that a node made and in which nothing was answered is as good as the one before.
  const bool self_answered_nothing = tracks_since(peer, self.unanswered_since);
  const bool peer_answered_nothing = tracks_since(self, peer.unanswered_since);
  if (self_answered_nothing != peer_answered_nothing) {
    return self_answered_nothing ? target(SyncExtent::Bitmap, Rule::SelfIsUnanswered)
                                 : source(SyncExtent::Bitmap, Rule::PeerIsUnanswered);
  }

  if (self_answered_nothing && is_a_copy_left && !LOCKSTEP_MUTANT("two-unanswered-are-a-split-brain")) {
    return decide_as_equal(self, peer);  // neither did
  }

  const bool self_remembers = remembers(self, peer.current);
  const bool peer_remembers = remembers(peer, self.current);
  if (self_remembers && peer_remembers) return kSplitBrain;
  const auto far = LOCKSTEP_MUTANT("far-behind-needs-only-bits") ? SyncExtent::Bitmap : SyncExtent::Full;
  if (self_remembers) return source(far, Rule::PeerIsFarBehind);
  if (peer_remembers) return target(far, Rule::SelfIsFarBehind);

  // As above, but the one before is in the other's history only: that has all of it.
  const bool self_went_on_for_nothing = remembers(peer, self.unanswered_since);
  const bool peer_went_on_for_nothing = remembers(self, peer.unanswered_since);
  if (self_went_on_for_nothing != peer_went_on_for_nothing && !LOCKSTEP_MUTANT("unanswered-since-the-past-splits")) {
    return self_went_on_for_nothing ? target(SyncExtent::Full, Rule::SelfIsUnanswered)
                                    : source(SyncExtent::Full, Rule::PeerIsUnanswered);
  }

  if (has_its_base(peer, self)) return target(SyncExtent::Full, Rule::SelfIsPartial);
  if (has_its_base(self, peer)) return source(SyncExtent::Full, Rule::PeerIsPartial);
  if (shares_ancestor(self, peer) && LOCKSTEP_MUTANT("split-brain-given-to-the-first")) {
    return self.node_order < peer.node_order ? source(SyncExtent::Full, Rule::PeerIsFarBehind)
                                             : target(SyncExtent::Full, Rule::SelfIsFarBehind);
  }
  if (shares_ancestor(self, peer)) return kSplitBrain;
  return {SyncKind::Unrelated, SyncExtent::Nothing, Rule::Unrelated};
}

// It was younger when the other side met it last. What is written over it must be everything, since no bitmap knows
// what the older copy lacks; and only by data that is known to be the newest. A disk that was never written to needs no
// such rule.
bool was_rolled_back(const StateReport& report, const StateReport& other) {
  return !report.current.is_zero() && report.life.birth == other.remembered.birth &&
         report.life.age < other.remembered.age;
}

// Not the one whose changes `from` has under bits, whatever name it was given since: by a node that did not know that
// anything had been written, say.
bool is_another_disk(const StateReport& to, const StateReport& from) {
  return from.remembered != Life{} && to.life.birth != from.remembered.birth;
}

// A first generation that was granted, and nothing was written in it: that node holds zeroes, and loses nothing,
// whatever else was found. Of two such any will do that is whole.
Verdict settle_unused(const StateReport& self, const StateReport& peer, Verdict verdict) {
  const bool self_is_unused = is_unused(self);
  const bool peer_is_unused = is_unused(peer);
  if (!self_is_unused && !peer_is_unused) return verdict;
  const bool self_comes_last =
      is_inconsistent(self) != is_inconsistent(peer) ? is_inconsistent(self) : peer.node_order < self.node_order;
  return self_is_unused && (!peer_is_unused || self_comes_last) ? target(SyncExtent::Full, Rule::SelfIsUnanswered)
                                                                : source(SyncExtent::Full, Rule::PeerIsUnanswered);
}

Verdict settle_split_brain(const StateReport& self, const StateReport& peer, Verdict verdict) {
  if (self.discard_my_data == peer.discard_my_data) return verdict;
  const SyncExtent extent = tracks_since_same(self, peer) ? SyncExtent::Bitmap : SyncExtent::Full;
  return self.discard_my_data ? target(extent, Rule::SplitBrainSelfGivesWay)
                              : source(extent, Rule::SplitBrainPeerGivesWay);
}

Verdict refuse(Rule rule) {
  return {SyncKind::Refuse, SyncExtent::Nothing, rule};
}

// One Primary was replaced by the other, and has not noticed yet. Of two streams a Secondary takes one: it would call
// each of them in sync, and count what one sends as the other's.
Verdict follows_another(const StateReport& self) {
  return refuse(is_primary(self) ? Rule::PeerFollowsAnother : Rule::SelfFollowsAnother);
}

// The disk that `from` met last, and that could have told what it lacks, is gone. What is in its place tells nothing:
// to be its source makes nobody the newest. One that was empty when they met, and is the same still, has lost nothing.
bool may_be_stale(const StateReport& from, const StateReport& to, Rule rule) {
  const bool takes_everything = rule == Rule::SelfJustCreated || rule == Rule::PeerJustCreated ||
                                rule == Rule::UnrelatedSelfGivesWay || rule == Rule::UnrelatedPeerGivesWay;
  const bool is_the_one_met = to.life.birth == from.remembered.birth && to.life.age >= from.remembered.age;
  if (!takes_everything || is_the_one_met || is_primary(from)) return false;
  if (LOCKSTEP_MUTANT("stale-disk-is-source-of-empty-one")) return false;
  return from.disk_state == DiskState::Outdated || from.disk_state == DiskState::Consistent;
}

// One side is Primary without data of its own. Only the data that its clients have seen may serve them.
Verdict decide_served(const StateReport& self, const StateReport& peer) {
  const bool self_is_served = !self.served.is_zero();
  const StateReport& client = self_is_served ? self : peer;
  const StateReport& server = self_is_served ? peer : self;
  if (is_primary(server)) return refuse(Rule::BothPrimary);
  if (server.sees_primary && !LOCKSTEP_MUTANT("replaced-primary-is-served")) return follows_another(self);
  const bool holds_it = server.current == client.served;
  const bool held_it = is_a_name(client.served_previous) && server.current == client.served_previous;
  // Outdated, too: while it holds this generation nothing was answered without it.
  const bool whole = has_disk(server) && !is_inconsistent(server);
  if (!whole || (!holds_it && !held_it)) return refuse(Rule::ServedDataElsewhere);
  // While another one brings that disk up to date this one serves beside it.
  const bool has_source = client.is_target && !LOCKSTEP_MUTANT("served-target-starts-again");
  if (!has_disk(client) || !holds_it || has_source) {
    return {SyncKind::Serve, SyncExtent::Nothing, self_is_served ? Rule::SelfServedByPeer : Rule::PeerServedBySelf};
  }
  const Verdict verdict = decide_lineage(self, peer);
  const SyncKind expected = self_is_served ? SyncKind::Target : SyncKind::Source;
  return verdict.kind == expected ? verdict : refuse(Rule::ServedDataElsewhere);
}

// The other node's disk is gone, or out of use, and not what it has promised with it.
bool is_behind_diskless(const StateReport& holder, const StateReport& diskless) {
  if (is_primary(holder) || diskless.current.is_zero() || LOCKSTEP_MUTANT("diskless-peer-not-compared")) return false;
  if (has_third_nodes(diskless) && is_unused(diskless) && !LOCKSTEP_MUTANT("unused-name-makes-old")) return false;
  if (holder.current == diskless.current)
    return has_answered_ahead(diskless, holder) && !has_answered_ahead(holder, diskless);
  if (!is_a_name(diskless.sync_toward) || LOCKSTEP_MUTANT("mixture-compared-as-a-whole-disk")) {
    return decide_lineage(holder, diskless).kind == SyncKind::Target;
  }
  // It was a mixture on its way to a third node's data. Whoever could not complete it lacks that.
  StateReport mixture = diskless;
  mixture.disk_state = DiskState::Inconsistent;
  const SyncKind kind = decide_lineage(holder, mixture).kind;
  return kind == SyncKind::Target || kind == SyncKind::Refuse;
}

}  // namespace

bool all_known_behind(const SuperblockImage& image, uint8_t peer_count) {
  return std::all_of(image.peers.begin(), image.peers.begin() + peer_count, [&](const PeerRecord& record) {
    // A first generation that was granted, and in which nothing was written, is no more than what create left.
    const bool is_unused = image.unanswered_since == kHeldByNobody;
    const bool may_be_promoted = (is_unused || record.previous_bitmap_generation == image.current) &&
                                 !LOCKSTEP_MUTANT("begun-resync-makes-up-to-date");
    return !record.bitmap_generation.is_zero() && !may_be_promoted;
  });
}

StreamPosition holds_at_least(const StateReport& report) {
  return report.position.stream != 0 ? report.position : report.stable_position;
}

bool undo_unanswered(SuperblockImage& image) {
  const Generation since = image.unanswered_since;
  if (!is_a_name(since)) return false;
  image.undone = std::exchange(image.current, since);
  image.unanswered_since = Generation{};
  for (PeerRecord& peer : image.peers) {
    if (peer.bitmap_generation == since) peer.bitmap_generation = Generation{};
    // Else it is behind, unless it holds what this node holds again: a target, say, that has not heard that it is one.
    const bool is_alike = peer.bitmap_generation.is_zero() || LOCKSTEP_MUTANT("undone-beside-a-begun-resync");
    if (is_alike && peer.previous_bitmap_generation == since) peer.previous_bitmap_generation = Generation{};
  }
  return true;
}

Decision decide(const StateReport& self, const StateReport& peer) {
  const auto decision = [](const Verdict& verdict) { return Decision{verdict.kind, verdict.extent, verdict.rule}; };

  if (!self.served.is_zero() || !peer.served.is_zero()) return decision(decide_served(self, peer));
  if (!has_disk(self) || !has_disk(peer)) {
    Rule rule = has_disk(peer) ? Rule::SelfDiskless : has_disk(self) ? Rule::PeerDiskless : Rule::BothDiskless;
    if (rule == Rule::PeerDiskless && is_behind_diskless(self, peer)) rule = Rule::PeerDisklessSelfIsBehind;
    if (rule == Rule::SelfDiskless && is_behind_diskless(peer, self)) rule = Rule::SelfDisklessPeerIsBehind;
    return decision({SyncKind::NoDisk, SyncExtent::Nothing, rule});
  }
  Verdict verdict = decide_lineage(self, peer);
  const bool self_rolled_back = was_rolled_back(self, peer);
  const bool peer_rolled_back = was_rolled_back(peer, self);
  if (self_rolled_back && peer_rolled_back) return decision(refuse(Rule::BothRolledBack));
  if (self_rolled_back) {
    if (!is_up_to_date(peer) || peer.current.is_zero()) return decision(refuse(Rule::SelfRolledBack));
    verdict = target(SyncExtent::Full, Rule::SelfRolledBack);
  } else if (peer_rolled_back) {
    if (!is_up_to_date(self) || self.current.is_zero()) return decision(refuse(Rule::PeerRolledBack));
    verdict = source(SyncExtent::Full, Rule::PeerRolledBack);
  }
  if (verdict.kind == SyncKind::SplitBrain || verdict.kind == SyncKind::Unrelated) {
    verdict = settle_unused(self, peer, verdict);
  }
  if (verdict.kind == SyncKind::SplitBrain) verdict = settle_split_brain(self, peer, verdict);
  if (verdict.kind == SyncKind::Unrelated && self.discard_my_data != peer.discard_my_data) {
    verdict = self.discard_my_data ? target(SyncExtent::Full, Rule::UnrelatedSelfGivesWay)
                                   : source(SyncExtent::Full, Rule::UnrelatedPeerGivesWay);
  }

  const bool copies = verdict.kind == SyncKind::Source || verdict.kind == SyncKind::Target;
  const bool self_copies = verdict.kind == SyncKind::Source;
  if (copies && is_another_disk(self_copies ? peer : self, self_copies ? self : peer) &&
      !LOCKSTEP_MUTANT("replaced-disk-needs-only-bits")) {
    verdict.extent = SyncExtent::Full;
  }
  const bool goes_together = copies || verdict.kind == SyncKind::None || verdict.kind == SyncKind::Refuse;
  if (goes_together && !is_primary(self) && !is_primary(peer)) {
    constexpr auto kNothing = SyncExtent::Nothing;
    if (self.sees_primary || peer.sees_primary) {
      const bool is_behind = copies && self.current != peer.current;
      const Rule rule = !is_behind                         ? Rule::PrimaryDecides
                        : verdict.kind == SyncKind::Target ? Rule::PrimaryDecidesSelfIsBehind
                                                           : Rule::PrimaryDecidesPeerIsBehind;
      return {SyncKind::Wait, kNothing, rule};
    }
    const bool gives = copies && !is_inconsistent(verdict.kind == SyncKind::Source ? self : peer);
    const bool waits_for_source = gives ? (verdict.kind == SyncKind::Target ? self : peer).is_target
                                        : verdict.kind != SyncKind::None && (self.is_target || peer.is_target);
    if (waits_for_source) {
      return {SyncKind::Wait, kNothing, Rule::TargetOfAnother};
    }
  }
  const bool follows_two = LOCKSTEP_MUTANT("two-primaries-followed");
  if (copies) {
    const StateReport& from = verdict.kind == SyncKind::Source ? self : peer;
    const StateReport& to = verdict.kind == SyncKind::Source ? peer : self;
    if (is_inconsistent(from) && !LOCKSTEP_MUTANT("inconsistent-may-be-source")) {
      return decision(refuse(is_inconsistent(to) ? Rule::BothInconsistent : Rule::InconsistentWouldBeSource));
    }
    if (is_primary(to)) return decision(refuse(Rule::PrimaryWouldBeTarget));
    if (is_primary(from) && to.sees_primary && !follows_two) return decision(follows_another(self));
    if (may_be_stale(from, to, verdict.rule)) {
      return decision(refuse(verdict.kind == SyncKind::Source ? Rule::SelfMayBeStale : Rule::PeerMayBeStale));
    }
    if (to.prepares_resync) {
      const Rule rule = verdict.kind == SyncKind::Target ? Rule::SelfPrepares : Rule::PeerPrepares;
      return {SyncKind::Prepare, SyncExtent::Nothing, rule};
    }
  }
  if (verdict.kind == SyncKind::None && is_primary(self) && is_primary(peer))
    return decision(refuse(Rule::BothPrimary));
  if (verdict.kind == SyncKind::None && (is_primary(self) ? peer : self).sees_primary && !follows_two) {
    return decision(follows_another(self));
  }
  return decision(verdict);
}

std::string_view to_string(Rule rule) {
  switch (rule) {
    case Rule::BothDiskless:
      return "both-diskless";
    case Rule::SelfDiskless:
      return "self-diskless";
    case Rule::PeerDiskless:
      return "peer-diskless";
    case Rule::SelfDisklessPeerIsBehind:
      return "self-diskless-peer-is-behind";
    case Rule::PeerDisklessSelfIsBehind:
      return "peer-diskless-self-is-behind";
    case Rule::SelfServedByPeer:
      return "self-served-by-peer";
    case Rule::PeerServedBySelf:
      return "peer-served-by-self";
    case Rule::ServedDataElsewhere:
      return "served-data-elsewhere";
    case Rule::BothInconsistent:
      return "both-inconsistent";
    case Rule::BothJustCreated:
      return "both-just-created";
    case Rule::SelfJustCreated:
      return "self-just-created";
    case Rule::PeerJustCreated:
      return "peer-just-created";
    case Rule::EqualClean:
      return "equal-clean";
    case Rule::EqualSelfInconsistent:
      return "equal-self-inconsistent";
    case Rule::EqualPeerInconsistent:
      return "equal-peer-inconsistent";
    case Rule::EqualSelfCrashed:
      return "equal-self-crashed";
    case Rule::EqualPeerCrashed:
      return "equal-peer-crashed";
    case Rule::EqualSelfCrashedAhead:
      return "equal-self-crashed-ahead";
    case Rule::EqualPeerCrashedAhead:
      return "equal-peer-crashed-ahead";
    case Rule::EqualSelfCrashedAlone:
      return "equal-self-crashed-alone";
    case Rule::EqualPeerCrashedAlone:
      return "equal-peer-crashed-alone";
    case Rule::EqualSelfReceivedMore:
      return "equal-self-received-more";
    case Rule::EqualPeerReceivedMore:
      return "equal-peer-received-more";
    case Rule::EqualSelfMayLack:
      return "equal-self-may-lack";
    case Rule::EqualPeerMayLack:
      return "equal-peer-may-lack";
    case Rule::EqualSelfHasBits:
      return "equal-self-has-bits";
    case Rule::EqualPeerHasBits:
      return "equal-peer-has-bits";
    case Rule::EqualSelfPrimary:
      return "equal-self-primary";
    case Rule::EqualPeerPrimary:
      return "equal-peer-primary";
    case Rule::EqualSelfFresher:
      return "equal-self-fresher";
    case Rule::EqualPeerFresher:
      return "equal-peer-fresher";
    case Rule::EqualSelfFirst:
      return "equal-self-first";
    case Rule::EqualPeerFirst:
      return "equal-peer-first";
    case Rule::PeerIsBehind:
      return "peer-is-behind";
    case Rule::SelfIsBehind:
      return "self-is-behind";
    case Rule::PeerIsFarBehind:
      return "peer-is-far-behind";
    case Rule::SelfIsFarBehind:
      return "self-is-far-behind";
    case Rule::SelfIsPartial:
      return "self-is-partial";
    case Rule::PeerIsPartial:
      return "peer-is-partial";
    case Rule::SelfIsUnanswered:
      return "self-is-unanswered";
    case Rule::PeerIsUnanswered:
      return "peer-is-unanswered";
    case Rule::SplitBrain:
      return "split-brain";
    case Rule::SplitBrainSelfGivesWay:
      return "split-brain-self-gives-way";
    case Rule::SplitBrainPeerGivesWay:
      return "split-brain-peer-gives-way";
    case Rule::Unrelated:
      return "unrelated";
    case Rule::UnrelatedSelfGivesWay:
      return "unrelated-self-gives-way";
    case Rule::UnrelatedPeerGivesWay:
      return "unrelated-peer-gives-way";
    case Rule::PrimaryWouldBeTarget:
      return "primary-would-be-target";
    case Rule::InconsistentWouldBeSource:
      return "inconsistent-would-be-source";
    case Rule::BothPrimary:
      return "both-primary";
    case Rule::SelfRolledBack:
      return "self-rolled-back";
    case Rule::PeerRolledBack:
      return "peer-rolled-back";
    case Rule::BothRolledBack:
      return "both-rolled-back";
    case Rule::SelfMayBeStale:
      return "self-may-be-stale";
    case Rule::PeerMayBeStale:
      return "peer-may-be-stale";
    case Rule::PrimaryDecides:
      return "primary-decides";
    case Rule::PrimaryDecidesSelfIsBehind:
      return "primary-decides-self-is-behind";
    case Rule::PrimaryDecidesPeerIsBehind:
      return "primary-decides-peer-is-behind";
    case Rule::SelfPrepares:
      return "self-prepares";
    case Rule::PeerPrepares:
      return "peer-prepares";
    case Rule::TargetOfAnother:
      return "target-of-another";
    case Rule::SelfFollowsAnother:
      return "self-follows-another";
    case Rule::PeerFollowsAnother:
      return "peer-follows-another";
  }
  return "unknown";
}

}  // namespace lockstep::repl
