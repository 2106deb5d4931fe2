#include "tests/sim/node.h"

#include <algorithm>

#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

Node::Node(World& world, int id, const ReplicaOptions& options)
    : world_(world),
      id_(id),
      options_(options),
      disk_(options.size_bytes),
      actions_(Replica::actions_capacity(options)) {
  options_.node_order = static_cast<uint8_t>(id);
  durable_.activity_log.assign(options.activity_log_slots, kNoExtent);
  const Replica fresh(options_);
  durable_.bitmap_pages.assign(fresh.bitmap_pages(), std::vector<uint64_t>(kWordsPerBitmapPage, 0));
}

bool Node::is_frozen() const {
  return alive() && frozen_until_us_ > world_.now_us;
}

void Node::boot() {
  LOCKSTEP_CHECK(!alive());
  ++boots_;
  replica_ = std::make_unique<Replica>(options_);
  persisted_ = 0;
  requests_.assign(options_.client_slots, {});
  apply_values_.assign(options_.apply_slots, {});
  apply_used_.assign(options_.apply_slots, false);
  resync_values_.assign(options_.resync_slots, {});
  for (uint32_t page = 0; page < durable_.bitmap_pages.size(); ++page) {
    replica_->load_bitmap_page(0, page, durable_.bitmap_pages[page]);
  }
  DurableState state;
  state.superblock = durable_.superblock;
  state.activity_log = durable_.activity_log;
  world_.trace("node %d boots", id_);
  replica_->start(state, {world_.random.next(), world_.random.next()}, world_.now_us, actions_);
  execute();
  const uint64_t boot = boots_;
  world_.every(20'000, [this, boot] {
    if (boots_ != boot || !alive()) return false;
    if (!is_frozen()) feed(Ticked{});
    return true;
  });
}

void Node::crash(bool power_lost) {
  LOCKSTEP_CHECK(alive());
  world_.trace("node %d crashes%s", id_, power_lost ? ", power lost" : "");
  world_.before_crash(id_);
  for (const DiskWrite& write : disk_writes_) disk_.tear(write.range, write.values, world_.random);
  disk_writes_.clear();
  if (persisting_ && !persists_.empty() && world_.random.chance(0.5)) write_durably(persists_.front(), true);
  if (power_lost) {
    disk_.lose_power(world_.random);
    ++power_losses_;
  }
  for (Request& request : requests_) {
    if (request.used && request.write != 0) world_.ledger.give_up(request.write);
  }
  replica_.reset();
  held_.clear();
  persists_.clear();
  persisting_ = false;
  wants_link_ = export_open_ = false;
  turn_end_scheduled_ = false;
  application_in_flight_ = 0;
  frozen_until_us_ = 0;
  fail_next_ = false;
  world_.network.node_gone(id_, power_lost && world_.random.chance(0.5));
  world_.node_crashed(id_, power_lost);
}

void Node::feed(EventBody body) {
  Event event;
  event.now_us = world_.now_us;
  event.body = std::move(body);
  replica_->step(event, actions_);
  execute();
  schedule_turn_end();
}

void Node::schedule_turn_end() {
  if (turn_end_scheduled_) return;
  turn_end_scheduled_ = true;
  const uint64_t boot = boots_;
  world_.at(world_.now_us + world_.random.below(20), [this, boot] {
    if (boots_ != boot || !alive()) return;
    turn_end_scheduled_ = false;
    Event event;
    event.now_us = world_.now_us;
    event.body = TurnEnded{};
    replica_->step(event, actions_);
    const bool more = !actions_.empty();
    execute();
    if (more) schedule_turn_end();
  });
}

void Node::execute() {
  // Steps may be nested through replies to the application: take what is there first.
  std::vector<Action> list(actions_.begin(), actions_.end());
  actions_.clear();
  for (const Action& action : list) {
    if (must_wait(action)) {
      held_.push_back({action, payload_of_send(action)});
    } else {
      perform(action, payload_of_send(action));
    }
  }
}

std::vector<Value> Node::payload_of_send(const Action& action) const {
  const auto* send = std::get_if<Send>(&action);
  if (send == nullptr || !std::holds_alternative<Write>(send->message)) return {};
  return payload_of(send->payload);
}

bool Node::must_wait(const Action& action) const {
  const PersistId after = std::visit(
      [](const auto& one) -> PersistId {
        if constexpr (requires { one.after_persist; }) return one.after_persist;
        return 0;
      },
      action);
  if (after > persisted_) return true;
  // Order on the link is kept: a Send behind one that waits waits as well.
  return std::holds_alternative<Send>(action) && std::any_of(held_.begin(), held_.end(), [](const Held& other) {
           return std::holds_alternative<Send>(other.action);
         });
}

void Node::release_held() {
  std::deque<Held> waiting;
  waiting.swap(held_);
  for (Held& held : waiting) {
    if (must_wait(held.action)) {
      held_.push_back(std::move(held));
    } else {
      perform(held.action, std::move(held.payload));
    }
  }
}

std::vector<Value> Node::payload_of(const SlotRef& slot) const {
  switch (slot.kind) {
    case SlotKind::Client:
      return {world_.ledger.value_of(requests_[slot.slot].write)};
    case SlotKind::Apply:
      return apply_values_[slot.slot];
    case SlotKind::Resync:
      return resync_values_[slot.slot];
    case SlotKind::Flush:
      break;
  }
  return {};
}

void Node::perform(const Action& action, std::vector<Value> payload) {
  std::visit(
      [this, &action, &payload](const auto& one) {
        using A = std::decay_t<decltype(one)>;
        if constexpr (std::is_same_v<A, SubmitRead>) {
          submit_read(one.slot, one.range);
        } else if constexpr (std::is_same_v<A, SubmitWrite>) {
          submit_write(one.slot, one.range, payload_of(one.slot), one.fua);
        } else if constexpr (std::is_same_v<A, SubmitZeroes>) {
          submit_write(one.slot, one.range, {0}, one.fua);
        } else if constexpr (std::is_same_v<A, SubmitFlush>) {
          submit_flush(one.slot);
        } else if constexpr (std::is_same_v<A, Send>) {
          Frame frame;
          frame.message = one.message;
          if (const auto* runs = std::get_if<BitmapRuns>(&one.message)) {
            frame.runs.assign(runs->runs.begin(), runs->runs.end());
          }
          frame.values = std::move(payload);
          world_.sent(id_, one.message);
          world_.network.send(id_, one.incarnation, std::move(frame));
        } else if constexpr (std::is_same_v<A, PersistSuperblock> || std::is_same_v<A, PersistActivityLog> ||
                             std::is_same_v<A, PersistBitmapPages> || std::is_same_v<A, PersistActivityLogEmpty>) {
          queue_persist(action);
        } else if constexpr (std::is_same_v<A, ReleaseApply>) {
          apply_used_[one.slot] = false;
        } else if constexpr (std::is_same_v<A, Reply>) {
          replied(one.slot, one.error_errno);
        } else if constexpr (std::is_same_v<A, CloseLink>) {
          world_.trace("node %d closes its link, reason %d", id_, static_cast<int>(one.reason));
          world_.network.close(id_, one.incarnation);
        } else if constexpr (std::is_same_v<A, Connect>) {
          wants_link_ = true;
        } else if constexpr (std::is_same_v<A, StopConnecting>) {
          wants_link_ = false;
        } else if constexpr (std::is_same_v<A, OpenExport>) {
          export_open_ = true;
          world_.export_opened(id_);
        } else if constexpr (std::is_same_v<A, CloseExport>) {
          export_open_ = false;
        } else if constexpr (std::is_same_v<A, OrderAnswered>) {
          world_.order_answered(id_, one.ticket, one.outcome);
        } else if constexpr (std::is_same_v<A, Note>) {
          world_.trace("node %d notes %d: %s (%llu)", id_, static_cast<int>(one.kind), one.text,
                       static_cast<unsigned long long>(one.number));
          world_.noted(id_, one);
        }
      },
      action);
}

uint64_t Node::disk_latency_us() {
  return world_.random.between(30, world_.random.chance(0.03) ? 8000 : 300);
}

void Node::submit_write(const SlotRef& slot, const ByteRange& range, std::vector<Value> values, bool fua) {
  for (const DiskWrite& other : disk_writes_) {
    if (other.range.overlaps(range)) world_.fail("two overlapping writes are on their way to one disk");
  }
  const uint64_t id = ++disk_operations_;
  disk_writes_.push_back({id, range, std::move(values)});
  const uint64_t boot = boots_;
  world_.at(world_.now_us + disk_latency_us(), [this, boot, id, slot, fua] {
    if (boots_ != boot || !alive()) return;
    const auto found =
        std::find_if(disk_writes_.begin(), disk_writes_.end(), [id](const DiskWrite& write) { return write.id == id; });
    const DiskWrite write = std::move(*found);
    disk_writes_.erase(found);
    world_.trace("node %d: %s slot %u wrote blocks %llu to %llu, value %u", id_,
                 slot.kind == SlotKind::Apply ? "apply" : "client", slot.slot,
                 static_cast<unsigned long long>(write.range.offset_bytes / kBlockBytes),
                 static_cast<unsigned long long>((write.range.end_bytes() - 1) / kBlockBytes), write.values[0]);
    int error = 0;
    if (std::exchange(fail_next_, false)) {
      error = EIO;
      disk_.tear(write.range, write.values, world_.random);
    } else {
      disk_.write(write.range, write.values, fua);
    }
    world_.thawed(id_, [this, boot, slot, error] {
      if (boots_ != boot || !alive()) return;
      feed(LocalIoCompleted{slot, error, false});
    });
  });
}

void Node::submit_read(const SlotRef& slot, const ByteRange& range) {
  const uint64_t boot = boots_;
  world_.at(world_.now_us + disk_latency_us(), [this, boot, slot, range] {
    if (boots_ != boot || !alive()) return;
    std::vector<Value> values;
    bool all_zeroes = true;
    for (uint64_t unit = range.offset_bytes / kUnitBytes; unit < range.end_bytes() / kUnitBytes; ++unit) {
      values.push_back(disk_.read(unit));
      all_zeroes = all_zeroes && values.back() == 0;
    }
    const int error = std::exchange(fail_next_, false) ? EIO : 0;
    world_.thawed(id_, [this, boot, slot, values = std::move(values), all_zeroes, error]() mutable {
      if (boots_ != boot || !alive()) return;
      (slot.kind == SlotKind::Resync ? resync_values_[slot.slot] : requests_[slot.slot].seen) = std::move(values);
      feed(LocalIoCompleted{slot, error, all_zeroes});
    });
  });
}

void Node::submit_flush(const SlotRef& slot) {
  const uint64_t boot = boots_;
  const uint64_t began = disk_.begin_flush();
  world_.at(world_.now_us + disk_latency_us() * 2, [this, boot, slot, began] {
    if (boots_ != boot || !alive()) return;
    const int error = std::exchange(fail_next_, false) ? EIO : 0;
    if (error == 0) disk_.end_flush(began);
    world_.thawed(id_, [this, boot, slot, error] {
      if (boots_ == boot && alive()) feed(LocalIoCompleted{slot, error, false});
    });
  });
}

void Node::queue_persist(const Action& action) {
  persists_.push_back(action);
  start_persist();
}

void Node::start_persist() {
  if (persisting_ || persists_.empty()) return;
  persisting_ = true;
  const uint64_t boot = boots_;
  world_.at(world_.now_us + disk_latency_us(), [this, boot] {
    if (boots_ != boot || !alive()) return;
    world_.thawed(id_, [this, boot] {
      if (boots_ == boot && alive()) finish_persist();
    });
  });
}

void Node::finish_persist() {
  const Action persist = std::move(persists_.front());
  persists_.pop_front();
  persisting_ = false;
  write_durably(persist, false);
  ++persisted_;
  start_persist();
  release_held();
  feed(PersistCompleted{persisted_, 0});
}

// `partly`: a crash came in the middle. A superblock or a log record is there or is not; of several bitmap pages,
// some are.
void Node::write_durably(const Action& persist, bool partly) {
  if (const auto* superblock = std::get_if<PersistSuperblock>(&persist)) {
    durable_.superblock = superblock->image;
    world_.superblock_written(id_);
  } else if (const auto* log = std::get_if<PersistActivityLog>(&persist)) {
    for (size_t i = 0; i < log->update_count; ++i) durable_.activity_log[log->updates[i].slot] = log->updates[i].extent;
  } else if (std::holds_alternative<PersistActivityLogEmpty>(persist)) {
    std::fill(durable_.activity_log.begin(), durable_.activity_log.end(), kNoExtent);
  } else if (const auto* pages = std::get_if<PersistBitmapPages>(&persist)) {
    for (uint32_t page = pages->first_page; page < pages->first_page + pages->page_count; ++page) {
      if (partly && world_.random.chance(0.5)) continue;
      const auto words = replica_->bitmap_words(0, page);
      durable_.bitmap_pages[page].assign(words.begin(), words.end());
    }
  }
}

bool Node::can_receive(const Frame& frame) const {
  if (!std::holds_alternative<Write>(frame.message) && !std::holds_alternative<WriteZeroes>(frame.message)) return true;
  return std::find(apply_used_.begin(), apply_used_.end(), false) != apply_used_.end();
}

void Node::receive(Incarnation incarnation, const Frame& frame) {
  MessageArrived event;
  event.incarnation = incarnation;
  event.message = frame.message;
  if (auto* runs = std::get_if<BitmapRuns>(&event.message)) runs->runs = frame.runs;
  if (std::holds_alternative<Write>(frame.message) || std::holds_alternative<WriteZeroes>(frame.message)) {
    const auto free = std::find(apply_used_.begin(), apply_used_.end(), false);
    event.apply_slot = static_cast<uint32_t>(free - apply_used_.begin());
    *free = true;
    apply_values_[event.apply_slot] = frame.values;
  }
  feed(event);
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

bool Node::application_write(const ByteRange& range, ClientOperation operation, bool fua) {
  const int slot = take_slot();
  if (slot < 0) return false;
  Request& request = requests_[static_cast<size_t>(slot)];
  request.operation = operation;
  request.range = range;
  request.fua = fua;
  request.write = world_.ledger.issue(range, operation != ClientOperation::Write);
  feed(ClientRequestArrived{static_cast<uint32_t>(slot), operation, range, fua, false});
  return true;
}

bool Node::application_read(const ByteRange& range) {
  const int slot = take_slot();
  if (slot < 0) return false;
  Request& request = requests_[static_cast<size_t>(slot)];
  request.range = range;
  request.issued = world_.ledger.moment();
  feed(ClientRequestArrived{static_cast<uint32_t>(slot), ClientOperation::Read, range, false, false});
  return true;
}

bool Node::application_flush() {
  const int slot = take_slot();
  if (slot < 0) return false;
  Request& request = requests_[static_cast<size_t>(slot)];
  request.operation = ClientOperation::Flush;
  request.issued = world_.ledger.moment();
  feed(ClientRequestArrived{static_cast<uint32_t>(slot), ClientOperation::Flush, {}, false, false});
  return true;
}

void Node::replied(uint32_t slot, int error_errno) {
  Request request = std::move(requests_[slot]);
  requests_[slot] = Request{};
  --application_in_flight_;
  if (error_errno != 0) {
    if (request.write != 0) world_.ledger.give_up(request.write);
    world_.request_failed(id_, error_errno);
    return;
  }
  switch (request.operation) {
    case ClientOperation::Read:
      return world_.read_answered(id_, request.range, request.seen, request.issued);
    case ClientOperation::Flush:
      return world_.flush_answered(id_, request.issued);
    default:
      return world_.write_answered(id_, request.write, request.fua);
  }
}

void Node::order(OrderGiven given) {
  feed(given);
}

}  // namespace lockstep::sim
