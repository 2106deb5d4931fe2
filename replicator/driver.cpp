// What comes in: events for the core. driver_actions.cpp holds what goes out.
#include "replicator/driver.h"

#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/base/check.h"
#include "replicator/block_digest.h"
#include "replicator/driver_parts.h"

namespace lockstep::repl {
namespace {

constexpr uint64_t kTickMs = 20;

ReplicaOptions replica_options(const DriverOptions& options, const MetadataStore& metadata) {
  ReplicaOptions replica;
  replica.size_bytes = options.identity.size_bytes;
  replica.peer_count = static_cast<uint8_t>(metadata.peer_names().size());
  const auto& names = metadata.peer_names();
  const auto order_of = [&](const std::string& node) {
    return static_cast<uint8_t>(
        std::count_if(names.begin(), names.end(), [&](const std::string& name) { return name < node; }) +
        (options.identity.node_name < node ? 1 : 0));
  };
  replica.node_order = order_of(options.identity.node_name);
  for (size_t peer = 0; peer < names.size(); ++peer) replica.peer_orders[peer] = order_of(names[peer]);
  replica.protocol = options.protocol;
  replica.sync = options.sync;
  for (size_t place = 0; place < options.peers.size() && place < names.size(); ++place) {
    const auto found = std::find(names.begin(), names.end(), options.peers[place].name);
    replica.sync_order[place] = static_cast<PeerIndex>(found - names.begin());
    if (found != names.end()) replica.peer_protocols[replica.sync_order[place]] = options.peers[place].protocol;
  }
  replica.on_peer_loss = options.on_peer_loss;
  replica.peer_timeout_us = options.peer_timeout_ms * 1000;
  replica.resync_pace = options.resync_pace;
  replica.prepares_resyncs = options.prepares_resyncs;
  replica.client_slots = options.client_slots;
  replica.apply_slots = options.apply_slots;
  replica.resync_slots = options.resync_slots;
  replica.activity_log_slots = metadata.activity_log_slot_count();
  return replica;
}

bool only_zeroes(std::span<const uint8_t> bytes) {
  return bytes.empty() || (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

ClientOperation operation_of(io::BlockOperation operation) {
  switch (operation) {
    case io::BlockOperation::Read:
      return ClientOperation::Read;
    case io::BlockOperation::Write:
      return ClientOperation::Write;
    case io::BlockOperation::Flush:
      return ClientOperation::Flush;
    case io::BlockOperation::Trim:
      return ClientOperation::Trim;
    case io::BlockOperation::WriteZeroes:
      return ClientOperation::WriteZeroes;
  }
  LOCKSTEP_CHECK(false && "an operation of BlockRequest");
  return ClientOperation::Read;
}

}  // namespace

Driver::Driver(io::Loop& loop, DriverOptions options, std::unique_ptr<io::File> disk,
               std::unique_ptr<MetadataStore> metadata, DriverOwner& owner)
    : loop_(loop),
      options_(std::move(options)),
      owner_(owner),
      peer_names_(metadata->peer_names()),
      activity_log_slots_(metadata->activity_log_slot_count()),
      block_bytes_(std::max(512U, disk->offset_alignment_bytes())),
      disk_path_(disk->path()),
      metadata_(std::move(metadata)),
      disk_(std::make_unique<LocalDisk>(loop_, std::move(disk), disk_slots(), static_cast<LocalDiskOwner&>(*this))),
      replica_(replica_options(options_, *metadata_)),
      actions_(Replica::actions_capacity(replica_options(options_, *metadata_))),
      resync_reads_(loop, options_.resync_slots, ReplicaOptions{}.resync_chunk_bytes,
                    [this](const SubmitRead& read, const io::BufferRef& into) { start_resync_read(read, into); }),
      serve_reads_(loop, kServedReads, kServedReadBytes,
                   [this](const SubmitRead& read, const io::BufferRef& into) {
                     serve_in_[read.slot.slot] = into;
                     this->disk().read(read.slot, into.bytes(), read.range.offset_bytes);
                   }),
      ticker_(loop, [this] { step(Ticked{}); }),
      clients_(options_.client_slots),
      admission_(loop),
      applies_(options_.apply_slots),
      write_admission_(loop),
      resync_in_(options_.resync_slots),
      serve_in_(kServedReads),
      notice_run_(std::make_unique<NoticeRun>(*this)) {
  for (uint32_t slot = options_.client_slots; slot > 0; --slot) free_clients_.push_back(slot - 1);
  for (PeerIndex peer = 0; peer < metadata_->peer_names().size(); ++peer) {
    const std::string& name = metadata_->peer_names()[peer];
    const auto found = std::find_if(options_.peers.begin(), options_.peers.end(),
                                    [&](const auto& candidate) { return candidate.name == name; });
    LOCKSTEP_CHECK(found != options_.peers.end());  // MetadataStore::open compared the names
    links_.push_back(std::make_unique<PeerLink>(loop, static_cast<LinkOwner&>(*this), options_.identity, peer, name,
                                                found->address, options_.link));
  }
  metadata_->set_owner(*this);
  loop_.add_turn_observer(*this);
}

Driver::~Driver() {
  ticker_.cancel();
  loop_.remove_turn_observer(*this);
}

Status Driver::start() {
  if (Status status = metadata_->load_bitmaps([this](PeerIndex peer, uint32_t page, std::span<const uint64_t> words) {
        replica_.load_bitmap_page(peer, page, words);
      });
      !status) {
    return status;
  }
  Generation seed;
  static_assert(sizeof(seed) == 16);
  if (::getrandom(&seed, sizeof(seed), 0) != static_cast<ssize_t>(sizeof(seed))) {
    return system_error("cannot get random bytes from the system", errno);
  }
  actions_.clear();
  replica_.start(durable_state(), seed, loop_.now_us(), actions_);
  for (const Action& action : actions_) carry_out(action);
  ticker_.start_periodic_ms(kTickMs);
  stepped_since_turn_end_ = true;
  return {};
}

DurableState Driver::durable_state() {
  DurableState durable;
  durable.superblock = metadata().superblock();
  durable.activity_log = metadata().activity_log();
  durable.activity_log_valid = metadata().activity_log_valid();
  if (!durable.activity_log_valid) {
    spdlog::error("{}: the activity log in {} is damaged: every block counts as out of sync",
                  options_.identity.resource_name, metadata().path());
  }
  if (metadata().damaged_pages() > 0) {
    spdlog::error("{}: {} pages of the bitmap in {} are damaged: their blocks count as out of sync, {} each",
                  options_.identity.resource_name, metadata().damaged_pages(), metadata().path(),
                  format_size(kBlocksPerBitmapPage * kBlockBytes));
  }
  return durable;
}

void Driver::step(EventBody body) {
  LOCKSTEP_CHECK(!stepping_);
  stepping_ = true;
  actions_.clear();
  replica_.step(Event{loop_.now_us(), std::move(body)}, actions_);
  for (const Action& action : actions_) carry_out(action);
  stepping_ = false;
  stepped_since_turn_end_ = true;
}

void Driver::turn_ended() noexcept {
  tell_export_clients();
  // Sending makes the turn go on, and end again: the core is told once for what was new.
  if (!std::exchange(stepped_since_turn_end_, false)) return;
  step(TurnEnded{});
  stepped_since_turn_end_ = false;
  loop_.requests_in_hand(static_cast<uint32_t>(clients_.size() - free_clients_.size()) + apply_count_);
  release_disk_when_quiet();
  for (const auto& link : links_) link->flush();
  if (replica_.state_version() != told_version_) {
    told_version_ = replica_.state_version();
    owner_.state_changed();
  }
}

// ---- links ----

void Driver::link_established(PeerIndex peer, Incarnation incarnation) noexcept {
  step(LinkEstablished{peer, incarnation});
  owner_.link_came_up(peer);
}

void Driver::link_lost(PeerIndex peer, Incarnation incarnation) noexcept {
  latencies_.peers[peer].link_lost();
  step(LinkLost{peer, incarnation});
}

void Driver::message_arrived(PeerIndex peer, Incarnation incarnation, const Message& message,
                             io::BufferRef payload) noexcept {
  MessageArrived event{peer, incarnation, message, 0};
  if (is_stream_frame(message)) {
    LOCKSTEP_CHECK(can_take_write());
    event.apply_slot = (apply_first_ + apply_count_++) % options_.apply_slots;
    applies_[event.apply_slot] = {std::move(payload), false, false};
  } else if (std::holds_alternative<ReadReply>(message)) {
    finished_read_ = std::move(payload);
  } else if (const auto* acknowledged = std::get_if<Acknowledged>(&message)) {
    latencies_.peers[peer].acknowledged(acknowledged->written_through, loop_.now_us());
  }
  step(std::move(event));
  finished_read_.reset();
}

void Driver::end_apply(uint32_t slot) {
  applies_[slot] = {{}, true, false};
  const bool was_full = !can_take_write();
  while (apply_count_ > 0 && applies_[apply_first_].ended) {
    applies_[apply_first_].ended = false;
    apply_first_ = (apply_first_ + 1) % options_.apply_slots;
    --apply_count_;
  }
  if (was_full && can_take_write()) write_admission_.notify_all();
}

// ---- metadata ----

void Driver::persisted(PersistId id, int error_errno) noexcept {
  if (error_errno == 0) {
    durable_ = id;
    follow_size();
    release_held();
  } else {
    metadata_failed_ = true;
    fail_held();
  }
  step(PersistCompleted{id, error_errno});
}

// What peers are told and clients may use is what is durable.
void Driver::follow_size() {
  options_.identity.size_bytes = metadata().size_bytes();
  options_.identity.prepared_size_bytes = metadata().superblock().prepared_size_bytes;
}

// A failure is told to the log here, and to the replica by its number.
io::Task<void> Driver::prepare_disk(uint64_t size_bytes) {
  Status status = Error{ErrorKind::Closed, EIO, "the disk is away"};
  if (disk_ && metadata_ && !releasing_disk_) {
    status = metadata().prepare_size(size_bytes);
    if (status.ok()) status = co_await disk().prepare_size(loop_, options_.identity.size_bytes, size_bytes);
  }
  int error_errno = 0;
  if (!status) {
    error_errno = status.error().system_errno != 0 ? status.error().system_errno : ENOSPC;
    spdlog::error("{}: cannot grow to {} bytes: {}", options_.identity.resource_name, size_bytes,
                  status.error().message);
  }
  step(DiskPrepared{size_bytes, error_errno});
}

std::span<const uint64_t> Driver::bitmap_words(PeerIndex peer, uint32_t page) {
  return replica_.bitmap_words(peer, page);
}

// ---- local disk ----

void Driver::local_io_ended(SlotRef slot, int error_errno, bool all_stable) noexcept {
  LocalIoCompleted event;
  event.slot = slot;
  event.error_errno = error_errno;
  event.all_stable = all_stable;
  time_local_io(slot);
  if (slot.kind == SlotKind::Resync || slot.kind == SlotKind::Serve) {
    // Taken out of its slot, where this step may start the next read already.
    if (slot.kind == SlotKind::Serve) {
      finished_read_ = std::move(serve_in_[slot.slot]);
    } else {
      ResyncRead read = std::exchange(resync_in_[slot.slot], {});
      finished_read_ = std::move(read.into);
      if (error_errno == 0 && read.digests) {
        event.digests = digests_of(finished_read_.bytes());
      } else {
        event.all_zeroes = error_errno == 0 && only_zeroes(finished_read_.bytes());
      }
    }
  } else if (slot.kind == SlotKind::Apply && applies_[slot.slot].compares) {
    if (error_errno == 0) event.digests = digests_of(applies_[slot.slot].payload.bytes());
  }
  step(event);
  finished_read_.reset();
  if (slot.kind == SlotKind::Apply) end_apply(slot.slot);
}

void Driver::time_local_io(const SlotRef& slot) {
  if (slot.kind == SlotKind::Flush) {
    latencies_.local_flush.record(loop_.now_us() - flush_began_us_);
  } else if (slot.kind == SlotKind::Client && clients_[slot.slot].disk_began_us != 0) {
    latencies_.local_write.record(loop_.now_us() - std::exchange(clients_[slot.slot].disk_began_us, 0));
  }
}

std::span<const BlockDigest> Driver::digests_of(std::span<const uint8_t> bytes) {
  const size_t count = bytes.size() / kBlockBytes;
  LOCKSTEP_CHECK(bytes.size() % kBlockBytes == 0 && count <= digests_.size());
  for (size_t i = 0; i < count; ++i) {
    const auto block = bytes.subspan(i * kBlockBytes, kBlockBytes);
    digests_[i] = only_zeroes(block) ? digest_of_zeroes() : digest_of(block);
  }
  return std::span<const BlockDigest>(digests_).first(count);
}

// ---- clients ----

io::BlockGeometry Driver::geometry() const {
  io::BlockGeometry geometry;
  geometry.size_bytes = options_.identity.size_bytes;
  geometry.minimum_block_bytes = block_bytes_;
  geometry.preferred_block_bytes = std::max(4096U, block_bytes_);
  return geometry;
}

bool Driver::submit(io::BlockRequest& request) {
  if (free_clients_.empty()) return false;
  const uint32_t slot = free_clients_.back();
  free_clients_.pop_back();
  ClientSlot& client = clients_[slot];
  client = ClientSlot{};
  client.request = &request;
  client.payload = request.buffer;
  client.began_us = loop_.now_us();
  give_piece(slot);
  return true;
}

void Driver::give_piece(uint32_t slot) {
  ClientSlot& client = clients_[slot];
  const io::BlockRequest& request = *client.request;
  client.piece_bytes = std::min(request.length_bytes - client.done_bytes, kMaximumRequestBytes);
  ClientRequestArrived event;
  event.slot = slot;
  event.operation = operation_of(request.operation);
  if (request.operation != io::BlockOperation::Flush) {
    event.range = {request.offset_bytes + client.done_bytes, client.piece_bytes};
  }
  event.fua = request.fua;
  event.no_hole = request.no_hole;
  step(event);
}

void Driver::tell_export_clients() {
  const uint32_t count = owner_.export_clients();
  if (std::exchange(told_export_clients_, count) != count) step(ExportClientsChanged{count});
}

// ---- orders ----

void Driver::give_order(OrderGiven order, std::function<void(OrderAnswer)> answered) {
  tell_export_clients();
  order.ticket = next_ticket_++;
  orders_[order.ticket] = std::move(answered);
  step(order);
}

std::optional<OrderAnswer> Driver::rehearse(OrderGiven order, bool clients_end) const {
  order.ticket = next_ticket_;  // of no other order
  const auto answered = replica_.rehearse(order, loop_.now_us(), clients_end ? 0 : owner_.export_clients());
  if (!answered) return std::nullopt;
  return OrderAnswer{answered->outcome, answered->peer};
}

void Driver::send_audit_frame(PeerIndex peer, const AuditFrame& frame) {
  links_[peer]->send(frame);
  links_[peer]->flush();
}

io::Task<void> Driver::quiet() {
  const auto busy = [this] {
    return (metadata_ && !metadata_->idle()) || (disk_ && disk_->in_flight() > 0) || !notices_.empty() ||
           std::any_of(links_.begin(), links_.end(), [](const auto& link) { return link->is_established(); });
  };
  while (busy()) {
    const bool goes_on = co_await loop_.sleep_ms(5);
    if (!goes_on) break;
  }
}

}  // namespace lockstep::repl
