#include "replicator/note_event.h"

namespace lockstep::repl {

NoteEvent event_of(NoteKind kind) {
  switch (kind) {
    case NoteKind::PeerDropped:
      return {"peer-dropped", true};
    case NoteKind::GenerationMade:
      return {"generation-made", false};
    case NoteKind::HandshakeDecided:
      return {"handshake-decided", true};
    case NoteKind::ResyncStarted:
      return {"resync-started", true};
    case NoteKind::ResyncFinished:
      return {"resync-finished", true};
    case NoteKind::DiskFailed:
      return {"disk-failed", false};
    case NoteKind::SplitBrain:
      return {"split-brain", true};
    case NoteKind::Promoted:
      return {"promoted", false};
    case NoteKind::Demoted:
      return {"demoted", false};
    case NoteKind::Outdated:
      return {"outdated", true};
    case NoteKind::Suspended:
      return {"suspended", false};
    case NoteKind::Resumed:
      return {"resumed", false};
    case NoteKind::Thawed:
      return {"thawed", false};
    case NoteKind::ArbiterUnclear:
      return {"arbiter-unclear", false};
    case NoteKind::Replaced:
      return {"replaced", false};
    case NoteKind::CrashRecovered:
      return {"crash-recovered", true};
    case NoteKind::Resized:
      return {"resized", false};
    case NoteKind::Invalidated:
      return {"invalidated", true};
    case NoteKind::VerifyStarted:
      return {"verify-started", true};
    case NoteKind::VerifyDiffers:
      return {"verify-differs", true};
    case NoteKind::VerifyEnded:
      return {"verify-ended", true};
    case NoteKind::RuleBroken:
      return {"rule-broken", true};
    case NoteKind::DiskDetached:
      return {"disk-detached", false};
    case NoteKind::DiskAttached:
      return {"disk-attached", false};
    case NoteKind::ErrorPassedOn:
      return {"error-passed-on", false};
    case NoteKind::ServedByPeer:
      return {"served-by-peer", true};
    case NoteKind::ServesPeer:
      return {"serves-peer", true};
    case NoteKind::DataUnreachable:
      return {"data-unreachable", true};
    case NoteKind::DataLost:
      return {"data-lost", true};
    case NoteKind::ResyncStopped:
      return {"resync-stopped", true};
  }
  return {"", false};
}

}  // namespace lockstep::repl
