#include "tools/outcome_answers.h"

#include <array>
#include <string_view>

namespace lockstep::tools {
namespace {

using repl::ControlExit;
using repl::OrderKind;
using repl::Outcome;

// In a text, %r is the resource, %n this node, %p the peer, %g this node's generation, %d its disk state and %w what
// that means, %v the verb.
struct Row {
  Outcome outcome;
  ControlExit exit;
  std::string_view text;
};

constexpr std::array kRows{
    Row{Outcome::NotUpToDate, ControlExit::Refused,
        "%v refused: the disk of %n is %d, so its data %w; bring up a peer that is UpToDate, or, to accept the "
        "loss of what is newer, type 'lockstep promote %r --force-data-loss %g'"},
    Row{Outcome::PeerAbsent, ControlExit::Refused,
        "%v refused: %p is not connected and may be Primary; connect it, or, when it is powered off or cut off, type "
        "'lockstep promote %r --peer-fenced'"},
    Row{Outcome::PeerIsPrimary, ControlExit::Refused,
        "%v refused: %p is Primary; type 'lockstep switchover %r --to %n', or 'lockstep demote %r' on %p first"},
    Row{Outcome::PeerSaidNo, ControlExit::Refused,
        "%v refused: %p is being promoted at the same time; look at 'lockstep status %r' and try again"},
    Row{Outcome::PeerLost, ControlExit::Failed,
        "%v failed: %p went away before the end; look at 'lockstep status %r' and try again"},
    Row{Outcome::WrongGeneration, ControlExit::Refused,
        "%v refused: the generation that was typed is not the current one of %n, which is %g"},
    Row{Outcome::NoDisk, ControlExit::Failed,
        "%v failed: the local disk or metadata of %n has failed; replace it, and look at the daemon's log"},
    Row{Outcome::DiskBusy, ControlExit::Failed,
        "%v failed: the disk of %n that was given up still has requests under way; wait for them and try again"},
    Row{Outcome::ClientsAttached, ControlExit::Refused,
        "%v refused: NBD clients are attached to the export; detach them ('lockstep-detach %r'), or end their sessions "
        "with 'lockstep demote %r --force'"},
    Row{Outcome::NotPrimary, ControlExit::Refused, "%v refused: %n is not Primary, and no connected peer is"},
    Row{Outcome::NotConnected, ControlExit::Refused,
        "%v refused: %p is not connected; type 'lockstep connect %r %p', or see why with 'lockstep explain %r'"},
    Row{Outcome::NotSyncing, ControlExit::Refused, "%v refused: no resync runs with %p"},
    Row{Outcome::IsPrimary, ControlExit::Refused,
        "%v refused: %n is Primary, and its data is in use; type 'lockstep demote %r' first"},
    Row{Outcome::LastUpToDate, ControlExit::Refused,
        "%v refused: the disk of %n is the last UpToDate copy that is known, or serves the clients of a Primary "
        "without one; connect a peer that is UpToDate, or attach the Primary's disk, first"},
    Row{Outcome::Busy, ControlExit::Failed, "%v failed: another order is being carried out; wait for it and try again"},
    Row{Outcome::Stopping, ControlExit::Failed, "%v failed: the daemon of %n is stopping"},
    Row{Outcome::ConnectedPeer, ControlExit::Refused,
        "%v refused: %p is connected and may hold newer data; type 'lockstep disconnect %r %p' first"},
    Row{Outcome::NotSplitBrain, ControlExit::Refused,
        "%v refused: there is no split brain with %p to give way in; see 'lockstep explain %r'"},
    Row{Outcome::ResyncRuns, ControlExit::Refused,
        "%v refused: a resync with %p is not over; type 'lockstep wait %r --for synced' first"},
    Row{Outcome::ResizeOnPrimary, ControlExit::Refused, "%v refused: %p is Primary; type it there"},
    Row{Outcome::SmallerSize, ControlExit::Refused,
        "%v refused: %r is larger than that, and a device never shrinks: its clients would lose what is there"},
    Row{Outcome::NeedsEveryPeer, ControlExit::Refused,
        "%v refused: %p is not connected and UpToDate, and all nodes grow together; bring it up, and see 'lockstep "
        "status %r'"},
    Row{Outcome::NoRoom, ControlExit::Failed,
        "%v failed: %p has no room for that size, or is busy; the log of its daemon says more; nothing has changed"},
    Row{Outcome::PeerIsLastUpToDate, ControlExit::Refused,
        "%v refused: %p has the last UpToDate copy, for the disk of %n is %d, or serves the clients of a Primary "
        "without a disk; wait until both are UpToDate, and until 'lockstep status %r' shows no node that is served by "
        "a peer"},
    Row{Outcome::ArbiterDenied, ControlExit::Refused,
        "%v refused: the arbiter does not count %n as in sync, so its data may be old; see 'lockstep explain %r'"},
    Row{Outcome::ArbiterUnclear, ControlExit::Refused,
        "%v refused: the arbiter gave no answer (see the daemon's log); try again, or, when each absent peer is "
        "powered "
        "off or cut off, type 'lockstep promote %r --peer-fenced'"},
    Row{Outcome::NotSuspended, ControlExit::Done, "%n is not suspended: nothing to do"},
    Row{Outcome::ResumeAlone, ControlExit::Refused,
        "%v refused: %n waits for a lost peer, which may be promoted in its place; bring it back, or, when it is "
        "powered "
        "off or cut off, type 'lockstep resume %r --alone'"},
    Row{Outcome::NotEstablished, ControlExit::Refused,
        "%v refused: both copies must be UpToDate and Established with %p; see 'lockstep status %r', and wait with "
        "'lockstep wait %r --for synced'"},
    Row{Outcome::NoSource, ControlExit::Refused,
        "%v refused: no node is Primary, so nothing says whose copy counts; promote the node whose data is good first"},
    Row{Outcome::RunOnPrimary, ControlExit::Refused,
        "%v refused: another node is Primary, and only it knows which writes both have; run it there"},
    Row{Outcome::VerifyRuns, ControlExit::Failed, "%v failed: a verify with %p runs already; see 'lockstep status %r'"},
    Row{Outcome::Restored, ControlExit::Failed,
        "%v failed: %p did not take over; %n is Primary again, and nothing was changed"},
};

std::string_view verb_of(OrderKind order) {
  switch (order) {
    case OrderKind::Promote:
      return "promote";
    case OrderKind::Demote:
      return "demote";
    case OrderKind::Connect:
      return "connect";
    case OrderKind::Disconnect:
      return "disconnect";
    case OrderKind::Switchover:
      return "switchover";
    case OrderKind::Resync:
      return "resync";
    case OrderKind::PauseResync:
      return "pause-resync";
    case OrderKind::ResumeResync:
      return "resume-resync";
    case OrderKind::Invalidate:
      return "invalidate";
    case OrderKind::InvalidatePeer:
      return "invalidate-peer";
    case OrderKind::Resize:
      return "resize";
    case OrderKind::SetProtocol:
      return "reload";
    case OrderKind::Verify:
      return "verify";
    case OrderKind::Attach:
      return "attach";
    case OrderKind::Detach:
      return "detach";
    case OrderKind::Shutdown:
      return "down";
    case OrderKind::Suspend:
      return "suspend";
    case OrderKind::Resume:
      return "resume";
    case OrderKind::AbandonHeld:
      return "demote";
    case OrderKind::Outdate:
      return "outdate";
  }
  return "order";
}

std::string_view text_of_done(OrderKind order) {
  switch (order) {
    case OrderKind::Promote:
      return "%n is Primary of %r, and the export is open";
    case OrderKind::Demote:
      return "%n is Secondary of %r";
    case OrderKind::Attach:
      return "the disk of %n is attached to %r";
    case OrderKind::Detach:
      return "the disk of %n is detached from %r";
    case OrderKind::Switchover:
      return "the switchover of %r is done";
    case OrderKind::Invalidate:
      return "the data of %n is forgotten, and is copied in full from %p";
    case OrderKind::Resize:
      return "%r has grown on every node; clients see it when they connect anew; set 'size' in the configuration";
    case OrderKind::InvalidatePeer:
      return "the data of %p is forgotten, and is copied in full from %n";
    case OrderKind::Suspend:
      return "%r is suspended on %n: nothing is answered until 'lockstep resume %r'";
    case OrderKind::Resume:
      return "%r is served again by %n";
    case OrderKind::Outdate:
      return "the data of %r on %n is Outdated now";
    default:
      return "";
  }
}

std::string_view text_of_already_so(OrderKind order) {
  switch (order) {
    case OrderKind::Promote:
      return "%n is Primary of %r already";
    case OrderKind::Demote:
      return "%n is Secondary of %r already";
    case OrderKind::Switchover:
      return "that node is Primary of %r already";
    case OrderKind::Resize:
      return "%r has that size already";
    default:
      return "nothing to do: it is so already";
  }
}

std::string filled(std::string_view text, OrderKind order, const OutcomeContext& context) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 1 == text.size()) {
      result += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'r':
        result += context.resource;
        break;
      case 'n':
        result += context.node;
        break;
      case 'p':
        result += context.peer.empty() ? "the peer" : context.peer;
        break;
      case 'g':
        result += context.generation;
        break;
      case 'd':
        result += context.disk_state;
        break;
      case 'w':
        result += context.disk_state == "Inconsistent" ? "is not whole" : "may be old";
        break;
      case 'v':
        result += verb_of(order);
        break;
      default:
        result += text[i];
        break;
    }
  }
  return result;
}

}  // namespace

OutcomeAnswer answer_for(OrderKind order, Outcome outcome, const OutcomeContext& context) {
  if (outcome == Outcome::Done) return {ControlExit::Done, filled(text_of_done(order), order, context)};
  if (outcome == Outcome::AlreadySo) return {ControlExit::Done, filled(text_of_already_so(order), order, context)};
  if (order == OrderKind::Switchover && outcome == Outcome::PeerAbsent) {
    constexpr std::string_view kText =
        "%v refused: %r waits for %p, which is not connected; connect it, or, when it is powered off or cut off, type "
        "'lockstep resume %r --alone' first";
    return {ControlExit::Refused, filled(kText, order, context)};
  }
  for (const Row& row : kRows) {
    if (row.outcome == outcome) return {row.exit, filled(row.text, order, context)};
  }
  return {ControlExit::Failed, filled("%v failed on %n", order, context)};
}

}  // namespace lockstep::tools
