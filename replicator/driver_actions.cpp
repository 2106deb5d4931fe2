// What goes out: the core's actions, and the one rule about when.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "io/base/check.h"
#include "io/base/crc32c.h"
#include "replicator/driver.h"
#include "replicator/driver_parts.h"

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
    if (std::holds_alternative<Write>(send->message)) {
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
  if (action.slot.kind != SlotKind::Client) {
    if (!waiting_resync_reads_.empty() || !start_resync_read(action)) {
      waiting_resync_reads_.push_back(action);
      if (!std::exchange(waiting_for_memory_, true)) loop_.spawn(wait_for_memory());
    }
    return;
  }
  const io::BufferRef& into = clients_[action.slot.slot].request->buffer;
  LOCKSTEP_CHECK(into && into.size_bytes() >= action.range.length_bytes);
  disk_.read(action.slot, into.bytes().first(action.range.length_bytes), action.range.offset_bytes);
}

bool Driver::start_resync_read(const SubmitRead& action) {
  io::BufferRef buffer = resync_buffers_.allocate(action.range.length_bytes);
  if (!buffer) return false;
  disk_.read(action.slot, buffer.bytes(), action.range.offset_bytes);
  if (action.slot.kind == SlotKind::Apply) {
    applies_[action.slot.slot].payload = std::move(buffer);
    applies_[action.slot.slot].compares = true;
  } else {
    resync_reads_[action.slot.slot] = {std::move(buffer), action.digests};
  }
  return true;
}

void Driver::retry_resync_reads() {
  size_t started = 0;
  while (started < waiting_resync_reads_.size() && start_resync_read(waiting_resync_reads_[started])) ++started;
  waiting_resync_reads_.erase(waiting_resync_reads_.begin(),
                              waiting_resync_reads_.begin() + static_cast<std::ptrdiff_t>(started));
}

io::Task<void> Driver::wait_for_memory() {
  while (!waiting_resync_reads_.empty() && !loop_.stopping()) {
    co_await resync_buffers_.freed().wait();
    retry_resync_reads();
  }
  waiting_for_memory_ = false;
}

void Driver::execute(const SubmitWrite& action) {
  const bool from_client = action.slot.kind == SlotKind::Client;
  LOCKSTEP_CHECK(from_client || action.slot.kind == SlotKind::Apply);
  const io::BufferRef& from = from_client ? clients_[action.slot.slot].payload : applies_[action.slot.slot].payload;
  LOCKSTEP_CHECK(from && from.size_bytes() >= action.range.length_bytes);
  disk_.write(action.slot, from.bytes().first(action.range.length_bytes), action.range.offset_bytes, action.fua);
}

void Driver::execute(const SubmitZeroes& action) {
  disk_.zero(action.slot, action.range, action.fua, action.may_deallocate);
}

void Driver::execute(const SubmitFlush& action) {
  disk_.flush(action.slot);
}

// ---- links ----

Driver::Payload Driver::payload_of(const Send& send) {
  const uint64_t length = std::get<Write>(send.message).range.length_bytes;
  if (send.payload.kind == SlotKind::Client) {
    ClientSlot& client = clients_[send.payload.slot];
    LOCKSTEP_CHECK(client.payload && client.payload.size_bytes() >= length);
    if (!std::exchange(client.checksum_known, true)) {
      client.payload_checksum = crc32c({client.payload.data(), length});
    }
    return {client.payload, client.payload_checksum};
  }
  LOCKSTEP_CHECK(send.payload.kind == SlotKind::Resync);
  LOCKSTEP_CHECK(finished_read_ && finished_read_.size_bytes() >= length);
  return {finished_read_, crc32c({finished_read_.data(), length})};
}

void Driver::execute(const Send& action) {
  if (!std::holds_alternative<Write>(action.message)) {
    links_[action.peer]->send(action.incarnation, action.message, {}, 0);
    return;
  }
  const Payload payload = payload_of(action);
  links_[action.peer]->send(action.incarnation, action.message, payload.buffer, payload.checksum);
}

void Driver::execute(const CloseLink& action) {
  links_[action.peer]->close(action.incarnation);
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
  const std::string& resource = options_.identity.resource_name;
  const std::string peer = note.peer < links_.size() ? links_[note.peer]->peer_name() : std::string("-");
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
      return spdlog::error("{}: the local disk {} has failed {}", resource, disk_.path(), note.text);
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
    case NoteKind::Replaced:
      return spdlog::error("{}: this node steps down: {}", resource, note.text);
    case NoteKind::CrashRecovered:
      return spdlog::warn("{}: recovered from a crash: {} blocks may differ from {}'s", resource, note.number, peer);
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
