// The events that fields of the log name (docs/systemd.md): one for each kind of note.
#pragma once

#include <string_view>

#include "replicator/core/action.h"

namespace lockstep::repl {

struct NoteEvent {
  std::string_view name;  // "resync-started"
  bool is_about_peer;     // else the note's peer says nothing
};

NoteEvent event_of(NoteKind kind);

}  // namespace lockstep::repl
