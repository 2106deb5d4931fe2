// The daemon's states and notes, as handlers are told of them.
#include <cstring>
#include <string>
#include <utility>

#include "tools/daemon.h"
#include "tools/handler_environment.h"

namespace lockstep::tools {

using repl::Note;
using repl::NoteKind;
using repl::PeerIndex;

WatchedState Daemon::watched_state() const {
  const repl::ReplicaStatus status = driver_->status();
  WatchedState state;
  state.role = status.role;
  state.disk_state = status.disk_state;
  state.suspension = status.suspension;
  for (PeerIndex index = 0; index < driver_->links().size(); ++index) {
    const repl::PeerStatus peer = driver_->peer_status(index);
    state.peers.push_back({peer.connection, peer.replication, peer.role, peer.disk_state});
  }
  return state;
}

void Daemon::watch_states() {
  const uint64_t now_us = loop_->now_us();
  for (const Happening& happening : state_watch_->update(watched_state(), now_us)) run_handler(happening, "");
  const std::optional<uint64_t> due_us = state_watch_->due_us();
  if (due_us) {
    watch_timer_->start_once_us(*due_us > now_us ? *due_us - now_us : 0);
  } else {
    watch_timer_->cancel();
  }
}

void Daemon::noted(const Note& note) {
  if (!handlers_) return;
  watch_states();
  switch (note.kind) {
    case NoteKind::SplitBrain:
      if (std::strcmp(note.text, "split-brain") == 0) run_handler({HandlerEvent::SplitBrain, note.peer}, note.text);
      break;
    case NoteKind::DiskFailed:
      run_handler({HandlerEvent::LocalIoError, {}}, note.text);
      break;
    case NoteKind::ErrorPassedOn:
      run_handler({HandlerEvent::LocalIoError, {}}, "the last copy: the client got the error");
      break;
    case NoteKind::ResyncStopped:
      run_handler({HandlerEvent::LocalIoError, note.peer}, "a resync could not read the disk");
      break;
    default:
      break;
  }
}

void Daemon::prepare_resync(PeerIndex peer, std::function<void(bool)> ready) {
  watch_states();
  const bool needed = configuration_.handlers.resync_needs_handler;
  run_handler({HandlerEvent::BeforeResyncTarget, peer}, "",
              [needed, ready = std::move(ready)](bool well) { ready(well || !needed); });
}

void Daemon::run_handler(const Happening& happening, const std::string& reason, std::function<void(bool)> ended) {
  if (!handlers_->has(happening.event)) return;
  std::vector<std::string> peer_names;
  std::vector<uint64_t> out_of_sync_bytes;
  for (PeerIndex index = 0; index < driver_->links().size(); ++index) {
    peer_names.push_back(driver_->links()[index]->peer_name());
    out_of_sync_bytes.push_back(driver_->peer_status(index).out_of_sync_blocks * repl::kBlockBytes);
  }
  const repl::Generation generation = driver_->status().generation;
  const HandlerContext context{configuration_,
                               node_,
                               run_dir_,
                               peer_names,
                               state_watch_->now(),
                               state_watch_->before(),
                               generation,
                               std::move(out_of_sync_bytes)};
  handlers_->run(happening.event, happening.peer ? " (" + peer_names[*happening.peer] + ")" : "",
                 handler_environment(context, happening, reason), std::move(ended));
}

}  // namespace lockstep::tools
