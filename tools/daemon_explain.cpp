// `lockstep explain`: the state in words, and what would change it.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "io/base/units.h"
#include "tools/audit_file.h"
#include "tools/audit_record.h"
#include "tools/daemon_status.h"
#include "tools/outcome_answers.h"
#include "tools/render.h"

namespace lockstep::tools {
namespace {

using repl::PeerIndex;
using repl::PeerStatus;
using repl::Rule;

std::string_view words_of(Rule rule) {
  switch (rule) {
    case Rule::BothDiskless:
      return "neither side has a usable disk";
    case Rule::SelfDiskless:
      return "this node has no usable disk";
    case Rule::PeerDiskless:
      return "the peer has no usable disk";
    case Rule::SelfDisklessPeerIsBehind:
      return "this node has no usable disk, and the peer's lacks writes that this node has answered: the peer is "
             "Outdated until this disk is back";
    case Rule::PeerDisklessSelfIsBehind:
      return "the peer has no usable disk, and this one lacks writes that the peer has answered: it is Outdated until "
             "the peer's disk is back";
    case Rule::SelfServedByPeer:
      return "this node is Primary without a usable disk: its clients are served from the peer's";
    case Rule::PeerServedBySelf:
      return "the peer is Primary without a usable disk: its clients are served from this one";
    case Rule::ServedDataElsewhere:
      return "refused: a Primary without a usable disk is served only from the data that its clients have seen";
    case Rule::BothInconsistent:
      return "neither side has a complete copy, so none can be the source";
    case Rule::BothJustCreated:
      return "both disks were just created and are zero: nothing to copy";
    case Rule::SelfJustCreated:
      return "this disk was just created: it gets everything";
    case Rule::PeerJustCreated:
      return "the peer's disk was just created: it gets everything";
    case Rule::EqualClean:
      return "both hold the same generation and nothing is out of sync";
    case Rule::EqualSelfInconsistent:
      return "the same generation, and this disk's resync was not finished: it goes on";
    case Rule::EqualPeerInconsistent:
      return "the same generation, and the peer's resync was not finished: it goes on";
    case Rule::EqualSelfCrashed:
      return "the same generation; this node crashed as Primary and the peer lived on: the peer is the source";
    case Rule::EqualPeerCrashed:
      return "the same generation; the peer crashed as Primary and this node lived on: this node is the source";
    case Rule::EqualSelfCrashedAhead:
      return "the same generation; this node crashed as Primary under protocol A, or 'sync' let it answer ahead "
             "of peers, and only its disk has all that it answered: this node is the source";
    case Rule::EqualPeerCrashedAhead:
      return "the same generation; the peer crashed as Primary under protocol A, or 'sync' let it answer ahead "
             "of peers, and only its disk has all that it answered: the peer is the source";
    case Rule::EqualSelfCrashedAlone:
      return "the same generation; this node crashed as Primary and the peer restarted as well: this node is the "
             "source";
    case Rule::EqualPeerCrashedAlone:
      return "the same generation; the peer crashed as Primary and this node restarted as well: the peer is the source";
    case Rule::EqualSelfMayLack:
      return "the same generation; what the Primary answered has waited for the peer, and not for this node: what is "
             "out of sync is copied from the peer";
    case Rule::EqualPeerMayLack:
      return "the same generation; what the Primary answered has waited for this node, and not for the peer: what is "
             "out of sync is copied to the peer";
    case Rule::EqualSelfHasBits:
      return "the same generation, and blocks that only this side knows to be out of sync";
    case Rule::EqualPeerHasBits:
      return "the same generation, and blocks that only the peer knows to be out of sync";
    case Rule::EqualSelfPrimary:
      return "the same generation, blocks out of sync on both sides: this node is Primary and the source";
    case Rule::EqualPeerPrimary:
      return "the same generation, blocks out of sync on both sides: the peer is Primary and the source";
    case Rule::EqualSelfFresher:
      return "the same generation, blocks out of sync on both sides: this disk is UpToDate and the source";
    case Rule::EqualPeerFresher:
      return "the same generation, blocks out of sync on both sides: the peer's disk is UpToDate and the source";
    case Rule::EqualSelfReceivedMore:
      return "the same generation; this node holds more of what the last Primary sent: what is out of sync is copied "
             "to "
             "the peer";
    case Rule::EqualPeerReceivedMore:
      return "the same generation; the peer holds more of what the last Primary sent: what is out of sync is copied "
             "from it";
    case Rule::EqualSelfFirst:
      return "the same generation, blocks out of sync on both sides, no other difference: this node's name sorts first";
    case Rule::EqualPeerFirst:
      return "the same generation, blocks out of sync on both sides, no other difference: the peer's name sorts first";
    case Rule::PeerIsBehind:
      return "the peer holds an earlier generation, and the bitmap here knows what changed since";
    case Rule::SelfIsBehind:
      return "this node holds an earlier generation, and the peer's bitmap knows what changed since";
    case Rule::PeerIsFarBehind:
      return "the peer holds a generation of long ago: it gets everything";
    case Rule::SelfIsFarBehind:
      return "this node holds a generation of long ago: it gets everything";
    case Rule::SelfIsPartial:
      return "this node's resync from another node broke off, and the peer can complete it";
    case Rule::PeerIsPartial:
      return "the peer's resync from another node broke off, and this node can complete it";
    case Rule::SelfIsUnanswered:
      return "nothing was answered in this node's generation, and the peer goes on without it";
    case Rule::PeerIsUnanswered:
      return "nothing was answered in the peer's generation, and this node goes on without it";
    case Rule::SplitBrain:
      return "split brain: both sides wrote apart from each other";
    case Rule::SplitBrainSelfGivesWay:
      return "split brain, ended by the operator: this node's data gives way";
    case Rule::SplitBrainPeerGivesWay:
      return "split brain, ended by the operator: the peer's data gives way";
    case Rule::Unrelated:
      return "the two disks have no generation in common: they were never one";
    case Rule::UnrelatedSelfGivesWay:
      return "nothing in common, ended by the operator: this node's data gives way";
    case Rule::UnrelatedPeerGivesWay:
      return "nothing in common, ended by the operator: the peer's data gives way";
    case Rule::PrimaryWouldBeTarget:
      return "refused: the data of the Primary would be overwritten";
    case Rule::InconsistentWouldBeSource:
      return "refused: the side with the newer generation has no complete copy";
    case Rule::SelfRolledBack:
      return "this disk is an older copy of what the peer has met: it is not the newest, and gets everything once the "
             "peer is UpToDate";
    case Rule::PeerRolledBack:
      return "the peer's disk is an older copy of what this node has met: it gets everything once this disk is "
             "UpToDate";
    case Rule::BothRolledBack:
      return "both disks are older copies of what the other has met, so none can be the source";
    case Rule::SelfMayBeStale:
      return "refused: the peer's disk is new, the one before it may have held newer data, and this disk is not known "
             "to "
             "be the newest";
    case Rule::PeerMayBeStale:
      return "refused: this disk is new, the one before it may have held newer data, and the peer's is not known to be "
             "the newest";
    case Rule::BothPrimary:
      return "refused: both sides are Primary";
    case Rule::PrimaryDecides:
      return "both are Secondary, and one is connected to a Primary, which decides for both";
    case Rule::PrimaryDecidesSelfIsBehind:
      return "the peer is connected to a Primary, and this node lacks what was written since";
    case Rule::PrimaryDecidesPeerIsBehind:
      return "this node is connected to a Primary, and the peer lacks what was written since";
    case Rule::SelfPrepares:
      return "this node's handler before-resync-target runs before anything is copied to it";
    case Rule::PeerPrepares:
      return "the peer's handler before-resync-target runs before anything is copied to it";
    case Rule::TargetOfAnother:
      return "the target is being synced from another node";
    case Rule::SelfFollowsAnother:
      return "refused: the peer is Primary, and this node is connected to another Primary";
    case Rule::PeerFollowsAnother:
      return "refused: this node is Primary, and the peer is connected to another Primary";
  }
  return "";
}

std::string_view words_of(repl::SyncKind kind) {
  switch (kind) {
    case repl::SyncKind::None:
      return "no resync";
    case repl::SyncKind::Source:
      return "this node is the source";
    case repl::SyncKind::Target:
      return "this node is the target";
    case repl::SyncKind::SplitBrain:
      return "no replication: split brain";
    case repl::SyncKind::Unrelated:
      return "no replication: unrelated data";
    case repl::SyncKind::Refuse:
      return "no replication";
    case repl::SyncKind::Serve:
      return "reads and writes go to the disk of the one, nothing is copied";
    case repl::SyncKind::NoDisk:
      return "connected, and no replication";
    case repl::SyncKind::Wait:
      return "nothing is copied between the two";
    case repl::SyncKind::Prepare:
      return "nothing is copied yet, and no write is sent to the target";
  }
  return "";
}

std::string_view words_of(repl::SyncExtent extent) {
  switch (extent) {
    case repl::SyncExtent::Nothing:
      return "";
    case repl::SyncExtent::Bitmap:
      return " of the blocks that differ";
    case repl::SyncExtent::Full:
      return " of the whole device";
  }
  return "";
}

std::string report_line(std::string_view whose, const repl::StateReport& report) {
  std::string text = "    " + std::string(whose) + ": generation " + to_string(report.current);
  if (!report.bitmap_generation.is_zero()) text += ", bitmap since " + to_string(report.bitmap_generation);
  text += ", " + std::string(to_string(report.role)) + ", disk " + std::string(to_string(report.disk_state)) + ", " +
          format_size(report.out_of_sync_blocks * repl::kBlockBytes) + " out of sync";
  if (!report.served.is_zero()) text += ", serves generation " + to_string(report.served) + " from another disk";
  if (report.term != 0) text += ", in sync last with Primary " + std::to_string(report.term);
  if (report.crashed_primary) text += ", crashed as Primary";
  if (report.crashed_primary && report.ahead_term != 0) text += " " + std::to_string(report.ahead_term);
  if (report.answered_ahead) text += " ahead of this peer";
  if (report.discard_my_data) text += ", gives way";
  return text + "\n";
}

std::string advice_on_primary_target(const repl::Driver& driver, const PeerStatus& peer, const std::string& name) {
  const std::string& resource = driver.identity().resource_name;
  const std::string& self = driver.identity().node_name;
  // Where both are Primary the target is the one whose generation the other has left behind.
  const bool peer_is_source =
      peer.own_report.role == repl::Role::Primary &&
      (peer.peer_report.role != repl::Role::Primary || peer.peer_report.bitmap_generation == peer.own_report.current);
  const std::string& source = peer_is_source ? name : self;
  const std::string& target = peer_is_source ? self : name;
  return "    to have " + target + " take what " + source + " has, on " + target + ": 'lockstep demote " + resource +
         " --force'\n    to keep what " + target + " has, on " + source + ": 'lockstep down " + resource +
         "', then 'lockstep create " + resource + " --force', which forgets its copy, then 'lockstep up " + resource +
         "'\n";
}

// What would have two nodes replicate that the handshake's table keeps apart.
std::string advice_on_refusal(const repl::Driver& driver, const PeerStatus& peer, const std::string& name) {
  const std::string& resource = driver.identity().resource_name;
  const std::string force = "'lockstep promote " + resource + " --force-data-loss GENERATION'";
  switch (peer.decision.rule) {
    case Rule::SelfRolledBack:
      return "    it goes on when " + name + " is UpToDate; if its data is what counts, on " + name + ": " + force +
             "\n";
    case Rule::PeerRolledBack:
      return "    it goes on when this disk is UpToDate; if its data is what counts, here: " + force + "\n";
    case Rule::SelfMayBeStale:
      return "    if the old disk of " + name +
             " is lost, and what only it had may be given up, here: 'lockstep disconnect " + resource + "', then " +
             force + ", then 'lockstep connect " + resource + "'\n";
    case Rule::PeerMayBeStale:
      return "    if the disk before this one is lost, and what only it had may be given up, on " + name +
             ": 'lockstep disconnect " + resource + "', then " + force + ", then 'lockstep connect " + resource + "'\n";
    case Rule::BothRolledBack:
    case Rule::BothInconsistent:
      return "    to go on with what one of them has, on that node: " + force + "\n";
    case Rule::InconsistentWouldBeSource:
      return "    bring up a node that has a complete copy; to go on without what only the incomplete one has, on the "
             "other: " +
             force + "\n";
    case Rule::PrimaryWouldBeTarget:
      return advice_on_primary_target(driver, peer, name);
    case Rule::BothPrimary:
      return "    to end it: demote one of them\n";
    default:
      return "";
  }
}

std::string advice(const repl::Driver& driver, const PeerStatus& peer, const std::string& name) {
  const std::string& resource = driver.identity().resource_name;
  const bool gives_way = peer.decided && (peer.decision.kind == repl::SyncKind::SplitBrain ||
                                          peer.decision.kind == repl::SyncKind::Unrelated);
  if (gives_way) {
    const std::string& self = driver.identity().node_name;
    const auto giving_way = [&](const std::string& loser, const std::string& other, repl::Role role) {
      return "    to give up what only " + loser + " has, on " + loser + ": " +
             (role == repl::Role::Primary ? "'lockstep demote " + resource + " --force', then " : "") +
             "'lockstep resync " + resource + " " + other + " --discard-my-data GENERATION'\n";
    };
    return giving_way(self, name, driver.status().role) + giving_way(name, self, peer.peer_report.role) +
           "    GENERATION is that of the node where it is typed, as its 'lockstep status " + resource +
           "' prints it\n";
  }
  if (peer.decided && peer.decision.kind == repl::SyncKind::Refuse) {
    return advice_on_refusal(driver, peer, name);
  }
  if (peer.connection == repl::ConnectionState::StandAlone) {
    return "    to have it again: 'lockstep connect " + resource + " " + name + "'\n";
  }
  return "";
}

// Who is away, what it lacks, and what its return will bring.
std::string absence_text(const DaemonView& view, PeerIndex index) {
  const PeerStatus peer = view.driver.peer_status(index);
  const std::string& name = view.driver.links()[index]->peer_name();
  const std::string lacks = format_size(peer.out_of_sync_blocks * repl::kBlockBytes);
  std::string text;
  const bool is_refused = handshake_is_refused(view.driver, index);
  const bool is_apart = peer.connection == repl::ConnectionState::StandAlone || is_refused;  // it may be there
  if (!is_apart && peer.absent_since_us != 0 && view.now_us >= peer.absent_since_us) {
    text += "    " + name + " has been absent for " + format_seconds((view.now_us - peer.absent_since_us) / 1'000'000) +
            ", since " + wall_time_of(peer.absent_since_us, view.now_us) + "\n";
  }
  if (peer.out_of_sync_blocks != 0 && !is_disk(view.driver.status().disk_state)) {
    text += "    " + lacks + " may differ between this node's disk and that of " + name + "\n";
  } else if (peer.out_of_sync_blocks != 0) {
    text += "    this node has " + lacks + (view.driver.status().role == repl::Role::Primary ? " written" : "") +
            " that " + name + " lacks\n";
  }
  const auto expected = view.driver.expected_decision(index);
  if (!expected || is_refused) return text;
  const std::string rule = " (rule " + std::string(to_string(expected->rule)) + ")\n";
  if (expected->kind == repl::SyncKind::Source) {
    const bool full = expected->extent == repl::SyncExtent::Full;
    return text + "    when it returns, " + (full ? "the whole device" : lacks) + " will be copied from here" + rule;
  }
  if (expected->kind == repl::SyncKind::None && view.driver.status().role == repl::Role::Primary) {
    return text + "    when it returns, nothing has to be copied, as long as nothing is written" + rule;
  }
  if (expected->kind == repl::SyncKind::None) {
    return text +
           "    when it returns, what it has written meanwhile will be copied to here (rule self-is-behind); if that "
           "is nothing, nothing is" +
           rule;
  }
  return text + "    when it returns: " + std::string(words_of(expected->rule)) + rule;
}

std::string peer_text(const DaemonView& view, PeerIndex index) {
  const repl::PeerLink& link = *view.driver.links()[index];
  const PeerStatus peer = view.driver.peer_status(index);
  std::string text = "  " + link.peer_name() + ": " + std::string(to_string(peer.connection)) + ", " +
                     std::string(to_string(peer.replication)) + ", role " + std::string(to_string(peer.role)) +
                     ", disk " + std::string(to_string(peer.disk_state)) + ", " +
                     format_size(peer.out_of_sync_blocks * repl::kBlockBytes) + " out of sync\n";
  if (!link.problem().empty()) text += "    no link: " + link.problem() + "\n";
  if (peer.connection != repl::ConnectionState::Connected) text += absence_text(view, index);
  if (peer.resync_read_failed) {
    text +=
        "    the resync is stopped: this disk could not be read (see the log); to try again: 'lockstep resume-resync " +
        view.driver.identity().resource_name + " " + link.peer_name() + "'\n";
  }
  const std::string resume = "'lockstep resume-resync " + view.driver.identity().resource_name + " ";
  if (peer.resync_paused_here) {
    text +=
        "    the resync is paused by an operator of this node; to have it go on: " + resume + link.peer_name() + "'\n";
  }
  if (peer.resync_paused_there) {
    text += "    the resync is paused by an operator of " + link.peer_name() + "; to have it go on, there: " + resume +
            view.driver.identity().node_name + "'\n";
  }
  if (peer.resync_held) {
    text +=
        "    the resync is held: the handler before-resync-target has failed (see the log); to run it again: "
        "'lockstep resume-resync " +
        view.driver.identity().resource_name + " " + link.peer_name() + "'\n";
  }
  if (peer.decided) {
    text += "    last handshake: rule " + std::string(to_string(peer.decision.rule)) + ": " +
            std::string(words_of(peer.decision.rule)) +
            "\n    it follows: " + std::string(words_of(peer.decision.kind)) +
            std::string(words_of(peer.decision.extent)) + "\n";
    text += report_line("this node was", peer.own_report);
    text += report_line(link.peer_name() + " was", peer.peer_report);
  }
  return text + advice(view.driver, peer, link.peer_name());
}

// Why nothing is answered, and what would end it.
std::string suspension_text(const repl::Driver& driver, const repl::ReplicaStatus& status) {
  const std::string& resource = driver.identity().resource_name;
  std::string text = "  client I/O is suspended: nothing is answered, and nothing fails\n";
  if (status.suspension == repl::Suspension::Operator) {
    return text + "    an operator said so; to end it: 'lockstep resume " + resource + "'\n";
  }
  for (PeerIndex index = 0; index < driver.links().size(); ++index) {
    const PeerStatus peer = driver.peer_status(index);
    if (!peer.awaited) continue;
    const std::string& name = driver.links()[index]->peer_name();
    text += "    " + name + " was lost, and may be promoted with what it holds; ";
    text += peer.connection == repl::ConnectionState::Connected ? "it is back: I/O goes on when its resync is over\n"
                                                                : "I/O goes on when it is back and in sync\n";
  }
  return text + "    if it is powered off or cut off: 'lockstep resume " + resource + " --alone'\n";
}

// A Primary that does not serve its clients from its own disk.
std::string text_without_disk(const std::string& resource, const repl::ReplicaStatus& status) {
  if (status.suspension == repl::Suspension::NoData) {
    return "  client I/O is suspended (no-data): this node has no usable disk, and no peer that can serve is "
           "connected\n"
           "    it goes on when one is; to give up, so that requests fail: 'lockstep demote " +
           resource + " --force'\n";
  }
  if (status.data_lost) {
    return "  client I/O fails: this node has no usable disk, and the data that its clients saw cannot be had any "
           "more\n"
           "    to end it: 'lockstep demote " +
           resource + " --force', and promote the node that has the newest data\n";
  }
  if (status.served_by_peer)
    return "  client I/O is served from a peer's disk; degraded: there is one copy, over there\n";
  return "  client I/O fails: the last disk that was up to date has failed\n    to end it: 'lockstep demote " +
         resource + " --force', then 'lockstep attach " + resource + "'\n";
}

}  // namespace

std::string wall_time_of(uint64_t then_us, uint64_t now_us) {
  const uint64_t ago_us = now_us - std::min(then_us, now_us);
  return format_stamp(next_audit_stamp(0) - ago_us).substr(0, 19) + "Z";
}

nlohmann::json explanation_data(const DaemonView& view) {
  nlohmann::json peers = nlohmann::json::array();
  for (PeerIndex index = 0; index < view.driver.links().size(); ++index) {
    const PeerStatus peer = view.driver.peer_status(index);
    const repl::PeerLink& link = *view.driver.links()[index];
    nlohmann::json one = {{"node", link.peer_name()},
                          {"lacks-bytes", peer.out_of_sync_blocks * repl::kBlockBytes},
                          {"no-link", link.problem()}};
    if (peer.decided) {
      one["rule"] = to_string(peer.decision.rule);
      one["rule-words"] = words_of(peer.decision.rule);
    }
    if (peer.connection != repl::ConnectionState::Connected && peer.absent_since_us != 0) {
      one["absent-since"] = wall_time_of(peer.absent_since_us, view.now_us);
      one["absent-seconds"] = (view.now_us - std::min(view.now_us, peer.absent_since_us)) / 1'000'000;
    }
    if (const auto expected = view.driver.expected_decision(index)) {
      one["expected-rule"] = to_string(expected->rule);
      one["expected-source"] = expected->kind == repl::SyncKind::Source;
    }
    peers.push_back(std::move(one));
  }
  return {{"message", explanation_of(view)}, {"peers", std::move(peers)}};
}

std::string explanation_of(const DaemonView& view) {
  const repl::ReplicaStatus status = view.driver.status();
  const repl::LinkIdentity& identity = view.driver.identity();
  std::string text = identity.resource_name + " on " + identity.node_name + ": " + std::string(to_string(status.role)) +
                     ", disk " + std::string(to_string(status.disk_state)) + ", generation " +
                     to_string(status.generation) + "\n";
  if (status.role == repl::Role::Primary) {
    const bool waits_for_data = status.suspension == repl::Suspension::NoData;
    if (status.suspension != repl::Suspension::No && !waits_for_data) {
      text += suspension_text(view.driver, status);
    } else if (!serves_locally(status)) {
      text += text_without_disk(identity.resource_name, status);
    } else {
      text += status.degraded
                  ? "  client I/O is served; degraded: a peer does not get the writes, and what it misses is marked\n"
                  : "  client I/O is served; every peer gets the writes\n";
    }
  } else {
    text += "  client I/O is refused: " + refusal_of(view.driver) + "\n";
    const bool known = status.promotable_peer < view.driver.links().size();
    const OutcomeContext context{identity.resource_name, identity.node_name,
                                 known ? view.driver.links()[status.promotable_peer]->peer_name() : "",
                                 to_string(status.generation), std::string(to_string(status.disk_state))};
    text += status.promotable == repl::Outcome::Done
                ? "  it can be promoted: 'lockstep promote " + identity.resource_name + "'\n"
                : "  " + answer_for(repl::OrderKind::Promote, status.promotable, context).message + "\n";
  }
  if (!is_disk(status.disk_state)) {
    text += "  the disk is away; to give it back, or a new one after 'lockstep create': 'lockstep attach " +
            identity.resource_name + "'\n";
  }
  if (view.driver.metadata_failed()) text += "  writing the metadata has failed: this node's disk counts as Failed\n";
  for (PeerIndex index = 0; index < view.driver.links().size(); ++index) text += peer_text(view, index);
  return text;
}

}  // namespace lockstep::tools
