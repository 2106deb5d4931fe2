#include "tests/sim/node.h"

#include <algorithm>
#include <cerrno>

#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

namespace {
bool is_copy(const Message& message) {
  const auto* write = std::get_if<Write>(&message);
  const auto* zeroes = std::get_if<WriteZeroes>(&message);
  return (write != nullptr && write->resync) || (zeroes != nullptr && zeroes->resync);
}
}  // namespace

Node::Node(World& world, int id, const ReplicaOptions& options)
    : world_(world),
      id_(id),
      options_(options),
      disk_(world.layout.unit_count()),
      actions_(Replica::actions_capacity(options)),
      wants_link_(options.peer_count, false) {
  options_.node_order = static_cast<uint8_t>(id);
  for (PeerIndex peer = 0; peer < options.peer_count; ++peer) {
    options_.peer_orders[peer] = static_cast<uint8_t>(peer_id(peer));
  }
  durable_.size_bytes = world.growth.first_size_bytes();
  durable_.superblock.life.birth = static_cast<uint64_t>(id) + 1;
  durable_.activity_log.assign(options.activity_log_slots, kNoExtent);
  const uint64_t pages = divide_up(divide_up(options.size_bytes, kBlockBytes), kBlocksPerBitmapPage);
  durable_.bitmaps.assign(options.peer_count,
                          {std::max<uint64_t>(1, pages), std::vector<uint64_t>(kWordsPerBitmapPage, 0)});
}

bool Node::is_frozen() const {
  return alive() && frozen_until_us_ > world_.now_us;
}

std::array<std::optional<Protocol>, kMaximumPeers> Node::peer_protocols() const {
  std::array<std::optional<Protocol>, kMaximumPeers> protocols{};
  for (PeerIndex peer = 0; peer < options_.peer_count; ++peer) {
    protocols[peer] = world_.node_protocols[static_cast<size_t>(peer_id(peer))];
  }
  return protocols;
}

void Node::boot() {
  LOCKSTEP_CHECK(!alive());
  ++boots_;
  met_disk_fault_ = false;
  options_.size_bytes = durable_.size_bytes;
  options_.protocol = world_.protocol;
  options_.peer_protocols = peer_protocols();
  replica_ = std::make_unique<Replica>(options_);
  persisted_ = 0;
  requests_.assign(options_.client_slots, {});
  applies_.assign(options_.apply_slots, {});
  resync_values_.assign(options_.resync_slots, {});
  serve_values_.assign(kServedReads, {});
  io_in_flight_ = 0;
  releasing_disk_ = disk_released_ = false;
  const DurableState state = load_durable();
  world_.trace("node %d boots", id_);
  replica_->start(state, {world_.random.next(), world_.random.next()}, world_.now_us + clock_ahead_us_, actions_);
  execute();
  world_.checker.node_started(id_);
  world_.every(20'000, [this, boot = boots_] {
    if (boots_ != boot || !alive()) return false;
    if (!is_frozen()) feed(Ticked{});
    return true;
  });
}

DurableState Node::load_durable() {
  const uint64_t pages = divide_up(replica_->size_bytes() / kBlockBytes, kBlocksPerBitmapPage);
  for (PeerIndex peer = 0; peer < options_.peer_count; ++peer) {
    for (uint32_t page = 0; page < pages; ++page) {
      replica_->load_bitmap_page(peer, page, durable_.bitmaps[peer][page]);
    }
  }
  DurableState state;
  state.superblock = durable_.superblock;
  state.activity_log = durable_.activity_log;
  return state;
}

void Node::attach_disk() {
  LOCKSTEP_CHECK(may_attach() && disk_released_);
  world_.trace("node %d attaches its disk", id_);
  disk_fault_ = DiskFault::None;
  flush_failed_ = false;
  persist_failed_ = persisting_ = disk_released_ = false;
  persisted_ = replica_->attach(load_durable(), world_.now_us + clock_ahead_us_, actions_);
  execute();
  schedule_turn_end();
}

void Node::crash(bool power_lost) {
  LOCKSTEP_CHECK(alive());
  world_.trace("node %d crashes%s", id_, power_lost ? ", power lost" : "");
  world_.checker.before_crash();
  for (const DiskWrite& write : disk_writes_) {
    disk_.tear(world_.layout.units(write.range), write.values, world_.random);
  }
  disk_writes_.clear();
  if (persisting_ && !persists_.empty() && world_.random.chance(0.5)) write_durably(persists_.front(), true);
  if (power_lost) disk_.lose_power(world_.random);
  for (const Request& request : requests_) {
    if (request.used && request.write != 0) world_.ledger.give_up(request.write);
    if (request.used && request.operation == ClientOperation::Read) world_.ledger.end_read(request.issued);
  }
  replica_.reset();
  held_.clear();
  persists_.clear();
  persisting_ = persist_failed_ = false;
  std::fill(wants_link_.begin(), wants_link_.end(), false);
  export_open_ = false;
  turn_end_scheduled_ = false;
  application_in_flight_ = 0;
  frozen_until_us_ = slow_until_us_ = 0;
  disk_fault_ = DiskFault::None;
  flush_failed_ = false;
  world_.network.node_gone(id_, power_lost && world_.random.chance(0.5));
  world_.checker.node_crashed(id_, power_lost);
  world_.orders.node_crashed(id_);
}

void Node::break_disk(DiskFault fault, bool once) {
  world_.trace("node %d: its disk fails, kind %d%s", id_, static_cast<int>(fault), once ? ", once" : "");
  disk_fault_ = fault;
  disk_fault_once_ = once;
}

void Node::replace_disk() {
  LOCKSTEP_CHECK(!alive() || disk_released_);
  world_.trace("node %d gets an empty disk", id_);
  world_.arbiter.forget(id_);
  const Layout::Units all{0, world_.layout.unit_count()};
  disk_.write(all, std::vector<Value>{0}, true);
  durable_.size_bytes = world_.growth.largest_size_bytes();
  durable_.superblock = SuperblockImage{};
  once_known_.clear();
  durable_.superblock.life.birth = static_cast<uint64_t>(id_) + 1 + 16 * ++disks_replaced_;
  std::fill(durable_.activity_log.begin(), durable_.activity_log.end(), kNoExtent);
  for (auto& pages : durable_.bitmaps) {
    for (auto& page : pages) std::fill(page.begin(), page.end(), 0);
  }
}

void Node::take_snapshot() {
  snapshot_ = std::make_unique<Snapshot>(Snapshot{{}, durable_});
  for (size_t unit = 0; unit < world_.layout.unit_count(); ++unit) snapshot_->content.push_back(disk_.stable(unit));
}

void Node::roll_back() {
  LOCKSTEP_CHECK(!alive());
  world_.trace("node %d is rolled back to an older copy of its disk", id_);
  world_.arbiter.forget(id_);
  disk_.write({0, world_.layout.unit_count()}, snapshot_->content, true);
  durable_ = snapshot_->metadata;
}

void Node::step(EventBody body) {
  LOCKSTEP_CHECK(!executing_);  // a completion is scheduled, never fed from inside a step
  replica_->step(Event{world_.now_us + clock_ahead_us_, std::move(body)}, actions_);
}

void Node::feed(EventBody body) {
  step(std::move(body));
  execute();
  schedule_turn_end();
}

void Node::schedule_turn_end() {
  if (turn_end_scheduled_) return;
  turn_end_scheduled_ = true;
  world_.at(world_.now_us + world_.random.below(20), [this, boot = boots_] {
    if (boots_ != boot || !alive()) return;
    turn_end_scheduled_ = false;
    step(TurnEnded{});
    const bool more = !actions_.empty();
    execute();
    release_disk_when_quiet();
    if (more) schedule_turn_end();
  });
}

void Node::execute() {
  executing_ = true;
  for (const Action& action : actions_) {
    if (!must_wait(action)) {
      perform(action, nullptr);
    } else if (persist_failed_) {
      fail(action);
    } else {
      if (const auto* reply = std::get_if<Reply>(&action)) {
        requests_[reply->slot].is_decided = true;
        requests_[reply->slot].kept_by = established_peers();
        requests_[reply->slot].was_served = is_served();
      }
      held_.push_back({action, frame_of_send(action)});
    }
  }
  actions_.clear();
  executing_ = false;
}

Frame Node::frame_of_send(const Action& action) const {
  Frame frame;
  const auto* send = std::get_if<Send>(&action);
  if (send == nullptr) return frame;
  frame.message = send->message;
  const auto* read = std::get_if<ReadReply>(&send->message);
  if (std::holds_alternative<Write>(send->message) || (read != nullptr && !read->failed)) {
    frame.values = payload_of(send->payload);
  }
  if (const auto* runs = std::get_if<BitmapRuns>(&send->message)) {
    frame.runs.assign(runs->runs.begin(), runs->runs.end());
  }
  if (const auto* digests = std::get_if<RangeDigests>(&send->message)) {
    frame.digests.assign(digests->digests.begin(), digests->digests.end());
  }
  return frame;
}

bool Node::must_wait(const Action& action) const {
  const PersistId after = std::visit(
      [](const auto& one) -> PersistId {
        if constexpr (requires { one.after_persist; }) return one.after_persist;
        return 0;
      },
      action);
  if (after > persisted_) return true;
  // Order on a link is kept: a Send behind one that waits waits as well.
  const auto* send = std::get_if<Send>(&action);
  return send != nullptr && std::any_of(held_.begin(), held_.end(), [send](const Held& other) {
           const auto* earlier = std::get_if<Send>(&other.action);
           return earlier != nullptr && earlier->peer == send->peer;
         });
}

void Node::release_held() {
  if (held_.empty()) return;
  std::deque<Held> waiting;
  waiting.swap(held_);
  for (Held& held : waiting) {
    if (must_wait(held.action)) {
      held_.push_back(std::move(held));
    } else {
      perform(held.action, &held.frame);
    }
  }
}

// What waits for a persist that failed, as action.h says.
void Node::fail(const Action& action) {
  std::visit(
      [this](const auto& one) {
        using A = std::decay_t<decltype(one)>;
        if constexpr (std::is_same_v<A, SubmitRead> || std::is_same_v<A, SubmitWrite> ||
                      std::is_same_v<A, SubmitZeroes> || std::is_same_v<A, SubmitFlush>) {
          begin_io();
          world_.at(world_.now_us, [this, boot = boots_, slot = one.slot] {
            world_.thawed(id_, boot, [this, slot] { end_io({slot, EIO, false, {}, false}); });
          });
        } else if constexpr (std::is_same_v<A, Reply>) {
          replied(one.slot, EIO);
        } else if constexpr (std::is_same_v<A, OrderAnswered>) {
          world_.orders.answered(id_, one.ticket, Outcome::NoDisk);
        }
      },
      action);
}

std::vector<Value> Node::payload_of(const SlotRef& slot) const {
  switch (slot.kind) {
    case SlotKind::Client:
      return {world_.ledger.value_of(requests_[slot.slot].write)};
    case SlotKind::Apply:
      return applies_[slot.slot].values;
    case SlotKind::Resync:
      return resync_values_[slot.slot];
    case SlotKind::Serve:
      return serve_values_[slot.slot];
    default:
      return {};
  }
}

void Node::perform(const Action& action, Frame* held) {
  std::visit(
      [this, &action, held](const auto& one) {
        using A = std::decay_t<decltype(one)>;
        if constexpr (std::is_same_v<A, SubmitRead>) {
          submit_read(one.slot, one.range, one.digests);
        } else if constexpr (std::is_same_v<A, SubmitWrite>) {
          submit_write(one.slot, one.range, payload_of(one.slot), one.fua);
        } else if constexpr (std::is_same_v<A, SubmitZeroes>) {
          submit_write(one.slot, one.range, {0}, one.fua);
        } else if constexpr (std::is_same_v<A, SubmitFlush>) {
          submit_flush(one.slot);
        } else if constexpr (std::is_same_v<A, ReleaseDisk>) {
          releasing_disk_ = true;
        } else if constexpr (std::is_same_v<A, StoreRead>) {
          store_read(one);
        } else if constexpr (std::is_same_v<A, Send>) {
          Frame frame = held != nullptr ? std::move(*held) : frame_of_send(action);
          world_.checker.stream_order.sent(id_, peer_id(one.peer), one.incarnation, one.message,
                                           frame.values.empty() ? 0 : frame.values[0]);
          world_.network.send(id_, peer_id(one.peer), one.incarnation, std::move(frame));
        } else if constexpr (std::is_same_v<A, PersistSuperblock> || std::is_same_v<A, PersistActivityLog> ||
                             std::is_same_v<A, PersistBitmapPages> || std::is_same_v<A, PersistActivityLogEmpty> ||
                             std::is_same_v<A, PersistSize>) {
          queue_persist(action);
        } else if constexpr (std::is_same_v<A, PrepareDisk>) {
          prepare_disk(one.size_bytes);
        } else if constexpr (std::is_same_v<A, ReleaseApply>) {
          applies_[one.slot].used = false;
        } else if constexpr (std::is_same_v<A, Reply>) {
          replied(one.slot, one.error_errno);
        } else if constexpr (std::is_same_v<A, CloseLink>) {
          world_.trace("node %d closes its link to %d, reason %d", id_, peer_id(one.peer),
                       static_cast<int>(one.reason));
          world_.network.close(id_, peer_id(one.peer), one.incarnation);
        } else if constexpr (std::is_same_v<A, Connect>) {
          wants_link_[one.peer] = true;
        } else if constexpr (std::is_same_v<A, StopConnecting>) {
          wants_link_[one.peer] = false;
        } else if constexpr (std::is_same_v<A, OpenExport>) {
          export_open_ = true;
          world_.checker.export_opened(id_);
        } else if constexpr (std::is_same_v<A, CloseExport>) {
          export_open_ = false;
        } else if constexpr (std::is_same_v<A, AskArbiter>) {
          world_.arbiter.ask(id_, one);
        } else if constexpr (std::is_same_v<A, PrepareResync>) {
          run_handler(one.peer);
        } else if constexpr (std::is_same_v<A, OrderAnswered>) {
          world_.orders.answered(id_, one.ticket, one.outcome);
        } else if constexpr (std::is_same_v<A, Note>) {
          world_.trace("node %d notes %d of peer %d: %s (%llu)", id_, static_cast<int>(one.kind), peer_id(one.peer),
                       one.text, static_cast<unsigned long long>(one.number));
          world_.checker.noted(id_, one);
        }
      },
      action);
}

// It takes its time, and sometimes fails.
void Node::run_handler(PeerIndex peer) {
  const bool ready = world_.random.chance(0.8);
  const uint64_t end_us = world_.now_us + world_.random.between(100, 400'000);
  handlers_end_us_ = std::max(handlers_end_us_, end_us);
  world_.at(end_us, [this, boot = boots_, peer, ready] {
    world_.thawed(id_, boot, [this, peer, ready] {
      world_.trace("node %d: its handler before the resync from %d %s", id_, peer_id(peer), ready ? "ends" : "fails");
      feed(ResyncPrepared{peer, ready});
    });
  });
}

bool Node::can_receive(const Frame& frame) const {
  return !is_stream_frame(frame.message) ||
         std::any_of(applies_.begin(), applies_.end(), [](const ApplyPayload& apply) { return !apply.used; });
}

void Node::receive(int from, Incarnation incarnation, const Frame& frame) {
  MessageArrived event;
  event.peer = peer_index(from);
  event.incarnation = incarnation;
  event.message = frame.message;
  if (auto* runs = std::get_if<BitmapRuns>(&event.message)) runs->runs = frame.runs;
  if (auto* digests = std::get_if<RangeDigests>(&event.message)) digests->digests = frame.digests;
  if (is_stream_frame(frame.message)) {
    const auto free =
        std::find_if(applies_.begin(), applies_.end(), [](const ApplyPayload& apply) { return !apply.used; });
    event.apply_slot = static_cast<uint32_t>(free - applies_.begin());
    *free = ApplyPayload{true, is_copy(frame.message), frame.values};
  }
  arrived_values_ = &frame.values;
  feed(std::move(event));
  arrived_values_ = nullptr;
}

// A long read comes in pieces, in order.
void Node::store_read(const StoreRead& action) {
  Request& request = requests_[action.slot];
  LOCKSTEP_CHECK(arrived_values_ != nullptr);
  if (action.offset_bytes == 0) request.seen.clear();
  request.seen.insert(request.seen.end(), arrived_values_->begin(), arrived_values_->end());
}

int Node::take_slot() {
  const auto free =
      std::find_if(requests_.begin(), requests_.end(), [](const Request& request) { return !request.used; });
  if (free == requests_.end()) return -1;
  *free = Request{};
  free->used = true;
  ++application_in_flight_;
  return static_cast<int>(free - requests_.begin());
}

void Node::application_write(const ByteRange& range, ClientOperation operation, bool fua) {
  const int slot = take_slot();
  if (slot < 0) return;
  Request& request = requests_[static_cast<size_t>(slot)];
  request.operation = operation;
  request.range = range;
  request.fua = fua;
  request.write = world_.ledger.issue(world_.layout.units(range), operation != ClientOperation::Write);
  feed(ClientRequestArrived{static_cast<uint32_t>(slot), operation, range, fua, false});
}

void Node::application_read(const ByteRange& range) {
  const int slot = take_slot();
  if (slot < 0) return;
  Request& request = requests_[static_cast<size_t>(slot)];
  request.range = range;
  request.issued = world_.ledger.begin_read();
  feed(ClientRequestArrived{static_cast<uint32_t>(slot), ClientOperation::Read, range, false, false});
}

void Node::application_flush() {
  const int slot = take_slot();
  if (slot < 0) return;
  Request& request = requests_[static_cast<size_t>(slot)];
  request.operation = ClientOperation::Flush;
  request.issued = world_.ledger.moment();
  feed(ClientRequestArrived{static_cast<uint32_t>(slot), ClientOperation::Flush, {}, false, false});
}

uint8_t Node::established_peers() const {
  uint8_t mask = 0;
  for (PeerIndex peer = 0; peer < options_.peer_count; ++peer) {
    if (replica_->peer_status(peer).replication == ReplicationState::Established) mask |= mask_of(peer);
  }
  return mask;
}

void Node::replied(uint32_t slot, int error_errno) {
  const Request request = std::exchange(requests_[slot], Request{});
  --application_in_flight_;
  if (request.operation == ClientOperation::Read) world_.ledger.end_read(request.issued);
  if (error_errno != 0) {
    if (request.write != 0) world_.ledger.give_up(request.write);
    world_.checker.request_failed(id_, error_errno);
    return;
  }
  // One that was decided before only waited for a record; and what was read from a disk just before it was lost is as
  // good as it was.
  const Suspension suspension = replica_->status().suspension;
  const bool was_read = request.operation == ClientOperation::Read && suspension == Suspension::NoData;
  if (suspension != Suspension::No && !request.is_decided && !was_read) {
    return world_.fail("node " + std::to_string(id_) + " answered while it is suspended");
  }
  const bool had_disk = request.is_decided && !request.was_served && is_served();
  switch (request.operation) {
    case ClientOperation::Read:
      return world_.checker.read_answered(request.range, request.seen, request.issued);
    case ClientOperation::Flush:
      return world_.checker.flush_answered(id_, request.issued, had_disk);
    default:
      return world_.checker.write_answered(id_, request.write, request.fua,
                                           request.is_decided ? request.kept_by : uint8_t{0}, had_disk);
  }
}

}  // namespace lockstep::sim
