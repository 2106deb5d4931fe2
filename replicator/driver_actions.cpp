// What goes out: the core's actions, and the one rule about when.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "io/log_about.h"
#include "replicator/driver.h"
#include "replicator/driver_parts.h"
#include "replicator/note_event.h"

namespace lockstep::repl {

PersistId Driver::awaited_persist(const Action& action) {
  return std::visit(
      [](const auto& kind) -> PersistId {
        if constexpr (requires { kind.after_persist; }) {
          return kind.after_persist;
        } else {
          return 0;
        }
      },
      action);
}

void Driver::carry_out(const Action& action) {
  const auto* send = std::get_if<Send>(&action);
  const bool behind_another = send != nullptr && held_sends_[send->peer] > 0;
  if (awaited_persist(action) > durable_ || behind_another) {
    hold(action);
    return;
  }
  std::visit([this](const auto& kind) { execute(kind); }, action);
}

// ---- waiting for a persist ----

void Driver::hold(const Action& action) {
  HeldAction held{action, {}, 0, {}, {}};
  if (const auto* send = std::get_if<Send>(&action)) {
    if (const auto* runs = std::get_if<BitmapRuns>(&send->message))
      held.runs.assign(runs->runs.begin(), runs->runs.end());
    if (const auto* digests = std::get_if<RangeDigests>(&send->message))
      held.digests.assign(digests->digests.begin(), digests->digests.end());
    if (payload_bytes_of(send->message) > 0) {
      const Payload payload = payload_of(*send);
      held.payload = payload.buffer;
      held.payload_checksum = payload.checksum;
    }
    ++held_sends_[send->peer];
  }
  held_.push_back(std::move(held));
  if (metadata_failed_) fail_held();
}

void Driver::release_held() {
  if (held_.empty()) return;
  held_sends_.fill(0);
  size_t kept = 0;
  for (HeldAction& held : held_) {
    auto* send = std::get_if<Send>(&held.action);
    if (awaited_persist(held.action) > durable_ || (send != nullptr && held_sends_[send->peer] > 0)) {
      if (send != nullptr) ++held_sends_[send->peer];
      HeldAction& place = held_[kept++];
      if (&place != &held) place = std::move(held);
    } else if (send != nullptr) {
      if (auto* runs = std::get_if<BitmapRuns>(&send->message)) runs->runs = held.runs;
      if (auto* digests = std::get_if<RangeDigests>(&send->message)) digests->digests = held.digests;
      links_[send->peer]->send(send->incarnation, send->message, held.payload, held.payload_checksum);
    } else {
      std::visit([this](const auto& kind) { execute(kind); }, held.action);
    }
  }
  held_.resize(kept);
}

// Nothing becomes durable any more. Clients are told; a link that lacks one message must not get those behind it.
void Driver::fail_held() {
  for (const HeldAction& held : held_) {
    if (const auto* reply = std::get_if<Reply>(&held.action)) {
      notify(Finished{reply->slot, EIO});
    } else if (const auto* answered = std::get_if<OrderAnswered>(&held.action)) {
      notify(Answered{answered->ticket, {Outcome::NoDisk, answered->peer}});
    } else if (const auto* read = std::get_if<SubmitRead>(&held.action)) {
      notify(FailedIo{read->slot});
    } else if (const auto* write = std::get_if<SubmitWrite>(&held.action)) {
      notify(FailedIo{write->slot});
    } else if (const auto* zeroes = std::get_if<SubmitZeroes>(&held.action)) {
      notify(FailedIo{zeroes->slot});
    } else if (const auto* flush = std::get_if<SubmitFlush>(&held.action)) {
      notify(FailedIo{flush->slot});
    }
  }
  held_.clear();
  held_sends_.fill(0);
}

// ---- local disk ----

void Driver::execute(const SubmitRead& action) {
  if (action.slot.kind != SlotKind::Client) return reads_of(action.slot.kind).submit(action);
  const io::BufferRef& into = clients_[action.slot.slot].request->buffer;
  LOCKSTEP_CHECK(into && into.size_bytes() >= action.range.length_bytes);
  disk().read(action.slot, into.bytes().first(action.range.length_bytes), action.range.offset_bytes);
}

void Driver::start_resync_read(const SubmitRead& action, const io::BufferRef& into) {
  if (action.slot.kind == SlotKind::Apply) {
    applies_[action.slot.slot].payload = into;
    applies_[action.slot.slot].compares = true;
  } else {
    resync_in_[action.slot.slot] = {into, action.digests};
  }
  disk().read(action.slot, into.bytes(), action.range.offset_bytes);
}

void Driver::execute(const StoreRead& action) {
  const io::BufferRef& into = clients_[action.slot].request->buffer;
  LOCKSTEP_CHECK(into && into.size_bytes() >= action.offset_bytes + action.length_bytes);
  LOCKSTEP_CHECK(finished_read_ && finished_read_.size_bytes() >= action.length_bytes);
  std::memcpy(into.data() + action.offset_bytes, finished_read_.data(), action.length_bytes);
}

void Driver::execute(const SubmitWrite& action) {
  const bool from_client = action.slot.kind == SlotKind::Client;
  LOCKSTEP_CHECK(from_client || action.slot.kind == SlotKind::Apply);
  if (from_client) clients_[action.slot.slot].disk_began_us = loop_.now_us();
  const io::BufferRef& from = from_client ? clients_[action.slot.slot].payload : applies_[action.slot.slot].payload;
  LOCKSTEP_CHECK(from && from.size_bytes() >= action.range.length_bytes);
  disk().write(action.slot, from.bytes().first(action.range.length_bytes), action.range.offset_bytes, action.fua);
}

void Driver::execute(const SubmitZeroes& action) {
  disk().zero(action.slot, action.range, action.fua, action.may_deallocate);
}

void Driver::execute(const SubmitFlush& action) {
  flush_began_us_ = loop_.now_us();
  disk().flush(action.slot);
}

void Driver::execute(const ReleaseDisk&) {
  releasing_disk_ = true;
  disk().stop_preparing();
  for (BufferedReads* const reads : {&resync_reads_, &serve_reads_}) {
    for (const SlotRef& slot : reads->give_up_waiting()) notify(FailedIo{slot});
  }
}

// At a turn's end, when nothing calls into the disk or the metadata.
void Driver::release_disk_when_quiet() {
  if (!releasing_disk_ || disk().in_flight() > 0 || !metadata().idle()) return;
  releasing_disk_ = false;
  disk_.reset();
  metadata_.reset();
  step(DiskReleased{});
}

Status Driver::attach(std::unique_ptr<io::File> disk, std::unique_ptr<MetadataStore> metadata) {
  LOCKSTEP_CHECK(replica_.may_attach() == Outcome::Done && disk_ == nullptr && metadata_ == nullptr);
  if (metadata->peer_names() != peer_names_ || metadata->activity_log_slot_count() != activity_log_slots_) {
    return Error{ErrorKind::Invalid, 0,
                 "the metadata was created for another order of nodes or another activity-log-extents than the daemon "
                 "started with: restart the daemon"};
  }
  if (metadata->size_bytes() != replica_.size_bytes()) {
    return Error{ErrorKind::Invalid, 0,
                 "the metadata is of a device of " + std::to_string(metadata->size_bytes()) +
                     " bytes, and the size is " + std::to_string(replica_.size_bytes()) +
                     ": if this is the disk that was detached, restart the daemon; a new one: correct 'size' in the "
                     "configuration and create this node again"};
  }
  if (disk->offset_alignment_bytes() > block_bytes_) {
    return Error{ErrorKind::Invalid, 0,
                 "the disk " + disk->path() +
                     " cannot be read, or has larger blocks than clients were told: replace it, or restart the daemon"};
  }
  if (Status status = metadata->load_bitmaps([this](PeerIndex peer, uint32_t page, std::span<const uint64_t> words) {
        replica_.load_bitmap_page(peer, page, words);
      });
      !status) {
    return status;
  }
  disk_ = std::make_unique<LocalDisk>(loop_, std::move(disk), disk_slots(), static_cast<LocalDiskOwner&>(*this));
  metadata_ = std::move(metadata);
  metadata_->set_owner(*this);
  metadata_failed_ = false;
  actions_.clear();
  durable_ = replica_.attach(durable_state(), loop_.now_us(), actions_);
  for (const Action& action : actions_) carry_out(action);
  stepped_since_turn_end_ = true;
  return {};
}

// ---- links ----

Driver::Payload Driver::payload_of(const Send& send) {
  const uint64_t length = payload_bytes_of(send.message);
  if (send.payload.kind == SlotKind::Client) {
    ClientSlot& client = clients_[send.payload.slot];
    LOCKSTEP_CHECK(client.payload && client.payload.size_bytes() >= length);
    if (!std::exchange(client.checksum_known, true)) {
      client.payload_checksum = crc32c({client.payload.data(), length});
    }
    return {client.payload, client.payload_checksum};
  }
  LOCKSTEP_CHECK(send.payload.kind == SlotKind::Resync || send.payload.kind == SlotKind::Serve);
  LOCKSTEP_CHECK(finished_read_ && finished_read_.size_bytes() >= length);
  return {finished_read_, crc32c({finished_read_.data(), length})};
}

void Driver::execute(const Send& action) {
  if (payload_bytes_of(action.message) == 0) {
    links_[action.peer]->send(action.incarnation, action.message, {}, 0);
    return;
  }
  if (const auto* write = std::get_if<Write>(&action.message)) {
    latencies_.peers[action.peer].write_sent(write->sequence, loop_.now_us());
  }
  const Payload payload = payload_of(action);
  links_[action.peer]->send(action.incarnation, action.message, payload.buffer, payload.checksum);
}

void Driver::execute(const CloseLink& action) {
  links_[action.peer]->close(action.incarnation);
}

void Driver::execute(const AskArbiter& action) {
  LOCKSTEP_CHECK(options_.arbiter != nullptr);
  ArbiterRequest request;
  request.question = action.question;
  for (PeerIndex peer = 0; peer < links_.size(); ++peer) {
    if ((action.peers & mask_of(peer)) != 0) request.peers.push_back(links_[peer]->peer_name());
    if ((action.behind & mask_of(peer)) != 0) request.behind.push_back(links_[peer]->peer_name());
  }
  const ReplicaStatus status = replica_.status();
  request.role = status.role;
  request.disk_state = status.disk_state;
  request.generations = replica_.superblock();
  request.generation = action.generation;
  options_.arbiter->ask(std::move(request), [this, ticket = action.ticket](ArbiterVerdict verdict) {
    step(ArbiterAnswered{ticket, verdict});
  });
}

// ---- telling others ----

void Driver::notify(Notice notice) {
  notices_.push_back(std::move(notice));
  if (!notice_run_->listed()) loop_.defer(*notice_run_);
}

void Driver::deliver_notices() noexcept {
  std::swap(notices_, delivering_);
  for (const Notice& notice : delivering_) {
    std::visit([this](const auto& kind) { deliver(kind); }, notice);
  }
  delivering_.clear();
}

void Driver::deliver(const Finished& finished) {
  ClientSlot& client = clients_[finished.slot];
  io::BlockRequest& request = *client.request;
  client.done_bytes += client.piece_bytes;
  if (finished.error_errno == 0 && client.done_bytes < request.length_bytes) {
    give_piece(finished.slot);
    return;
  }
  latencies_.of(request.operation).record(loop_.now_us() - client.began_us);
  client = ClientSlot{};
  const bool was_full = free_clients_.empty();
  free_clients_.push_back(finished.slot);
  if (was_full) admission_.notify_all();
  request.error_errno = finished.error_errno;
  request.owner->completed(request);
}

void Driver::deliver(const FailedIo& failed) {
  step(LocalIoCompleted{failed.slot, EIO, false});
  if (failed.slot.kind == SlotKind::Apply) end_apply(failed.slot.slot);
}

void Driver::deliver(const Answered& answered) {
  const auto found = orders_.find(answered.ticket);
  LOCKSTEP_CHECK(found != orders_.end());
  const std::function<void(OrderAnswer)> tell = std::move(found->second);
  orders_.erase(found);
  tell(answered.answer);
}

bool Driver::is_repeated(const Note& note) {
  LastHandshake& last = last_handshakes_[note.peer];
  const bool same = last.rule == note.text && last.blocks == note.number;
  last = {note.text, note.number};
  return same;
}

void Driver::execute(const Note& note) {
  notify(note);
  const std::string& resource = options_.identity.resource_name;
  const std::string peer = note.peer < links_.size() ? links_[note.peer]->peer_name() : std::string("-");
  const NoteEvent event = event_of(note.kind);
  const io::LogAbout about(event.name, event.is_about_peer ? peer : std::string_view());
  switch (note.kind) {
    case NoteKind::PeerDropped:
      return spdlog::warn("{}: {} does not replicate any more: {}", resource, peer, note.text);
    case NoteKind::GenerationMade:
      return spdlog::info("{}: new generation {} {}", resource, to_string(replica_.status().generation), note.text);
    case NoteKind::HandshakeDecided:
      // A refused link is tried again and again: the log hears of it once.
      return spdlog::log(is_repeated(note) ? spdlog::level::debug : spdlog::level::info,
                         "{}: handshake with {}: {} ({} blocks out of sync)", resource, peer, note.text, note.number);
    case NoteKind::ResyncStarted:
      return spdlog::info("{}: resync with {} started: {} blocks", resource, peer, note.number);
    case NoteKind::ResyncFinished:
      return spdlog::info("{}: resync with {} finished", resource, peer);
    case NoteKind::DiskFailed:
      return spdlog::error("{}: the local disk {} has failed {}", resource, disk_path_, note.text);
    case NoteKind::DiskDetached:
      return spdlog::warn("{}: the local disk {} was detached", resource, disk_path_);
    case NoteKind::DiskAttached:
      return spdlog::info("{}: the local disk is attached, {}", resource, to_string(replica_.status().disk_state));
    case NoteKind::ErrorPassedOn:
      return spdlog::error("{}: an I/O error of {}, the last copy that is up to date: the client gets the error",
                           resource, disk_path_);
    case NoteKind::ServedByPeer:
      return spdlog::warn("{}: clients are served from the disk of {}", resource, peer);
    case NoteKind::ServesPeer:
      return spdlog::warn("{}: the clients of {} are served from this node's disk", resource, peer);
    case NoteKind::DataUnreachable:
      return spdlog::error("{}: this node has no disk, and {}, whose disk it used, is away: requests wait", resource,
                           peer);
    case NoteKind::DataLost:
      return spdlog::error(
          "{}: what clients saw cannot be had from {} any more: requests fail until this node is demoted", resource,
          peer);
    case NoteKind::ResyncStopped:
      return spdlog::error("{}: the resync with {} stopped: {} cannot be read at offset {}", resource, peer, disk_path_,
                           note.number);
    case NoteKind::SplitBrain:
      return spdlog::error("{}: no replication with {}, whose data and ours do not go together ({})", resource, peer,
                           note.text);
    case NoteKind::Promoted:
      return spdlog::info("{}: this node is Primary", resource);
    case NoteKind::Demoted:
      return spdlog::info("{}: this node is Secondary", resource);
    case NoteKind::Outdated:
      return spdlog::warn("{}: this node's data is Outdated: {} goes on without it", resource, peer);
    case NoteKind::Suspended:
      return spdlog::warn("{}: suspended: nothing is answered", resource);
    case NoteKind::Resumed:
      return spdlog::info("{}: the suspension is over", resource);
    case NoteKind::Thawed:
      return spdlog::warn("{}: nothing ran here for {} ms: the peers may have gone on without this node", resource,
                          note.number);
    case NoteKind::ArbiterUnclear:
      return spdlog::error("{}: the arbiter gave no answer: suspended until it does, or until a peer is back",
                           resource);
    case NoteKind::Replaced:
      return spdlog::error("{}: this node steps down: {}", resource, note.text);
    case NoteKind::CrashRecovered:
      return spdlog::warn("{}: recovered from a crash: {} blocks may differ from {}'s", resource, note.number, peer);
    case NoteKind::Resized:
      return spdlog::info("{}: the size is {} bytes now", resource, note.number);
    case NoteKind::Invalidated:
      return spdlog::warn("{}: this node's data was invalidated: {} is the source of a full resync", resource, peer);
    case NoteKind::VerifyStarted:
      return spdlog::info("{}: verify with {} started {}", resource, peer, note.text);
    case NoteKind::VerifyDiffers:
      return spdlog::warn("{}: {} differs within 256 KiB from offset {}: blocks of the mask {:x}", resource, peer,
                          note.number * kBlockBytes, note.mask);
    case NoteKind::VerifyEnded:
      return spdlog::log(note.number == 0 ? spdlog::level::info : spdlog::level::warn,
                         "{}: verify with {} ended, {}: {} blocks differ", resource, peer, note.text, note.number);
    case NoteKind::RuleBroken:
      return spdlog::error("{}: {} broke a rule of the protocol: {}", resource, peer, note.text);
  }
}

}  // namespace lockstep::repl
