#include "tests/unit/core/pair.h"

#include <algorithm>
#include <utility>

namespace lockstep::repl {

OrderGiven promote_fenced() {
  OrderGiven order;
  order.kind = OrderKind::Promote;
  order.peer_fenced = true;
  return order;
}

ReplicaOptions test_options(uint8_t node_order) {
  ReplicaOptions options;
  options.size_bytes = kTestDeviceBytes;
  options.peer_count = 1;
  options.node_order = node_order;
  options.client_slots = 16;
  options.apply_slots = 32;
  options.resync_slots = 2;
  options.transfer_log_entries = 64;
  options.activity_log_slots = 18;
  return options;
}

Side::Side(Wires& wires, int number, const ReplicaOptions& options)
    : activity_log(options.activity_log_slots, kNoExtent),
      bitmap(divide_up(kTestBlocks, kBlocksPerBitmapPage) * kWordsPerBitmapPage, 0),
      second_bitmap(bitmap),
      disk(kTestBlocks, 0),
      stable_disk(kTestBlocks, 0),
      wires_(wires),
      number_(number),
      options_(options),
      actions_(Replica::actions_capacity(options)),
      apply_values_(options.apply_slots),
      resync_values_(options.resync_slots),
      serve_values_(kServedReads) {}

DurableState Side::durable_state() {
  for (PeerIndex peer = 0; peer < options_.peer_count; ++peer) {
    const std::span words(peer == 0 ? bitmap : second_bitmap);
    for (uint32_t page = 0; page < replica_->bitmap_pages(); ++page) {
      replica_->load_bitmap_page(peer, page, words.subspan(page * kWordsPerBitmapPage, kWordsPerBitmapPage));
    }
  }
  DurableState durable;
  durable.superblock = superblock;
  durable.activity_log = activity_log;
  durable.activity_log_valid = activity_log_valid;
  return durable;
}

void Side::attach() {
  LOCKSTEP_CHECK(replica_->may_attach() == Outcome::Done);
  disk_released = persist_failed_ = false;
  persisted_ = replica_->attach(durable_state(), wires_.now_us, actions_);
  execute();
}

void Side::start() {
  LOCKSTEP_CHECK(!alive());
  options_.size_bytes = size_bytes;
  replica_ = std::make_unique<Replica>(options_);
  persisted_ = 0;
  disk_released = releases_disk_ = persist_failed_ = false;
  const DurableState durable = durable_state();
  replica_->start(durable, {++wires_.starts, static_cast<uint64_t>(number_)}, wires_.now_us, actions_);
  execute();
}

void Side::crash(bool power_lost) {
  replica_.reset();
  actions_.clear();
  held_.clear();
  persists_.clear();
  writes_.clear();
  reads_.clear();
  preparing_ = 0;
  holds_preparations = false;
  flush_under_way_ = false;
  apply_slots_in_use.clear();
  replies.clear();
  export_open = wants_link = false;
  wants_links = {};
  holds_persists = holds_writes = holds_flushes = holds_reads = false;
  if (power_lost) disk = stable_disk;
  wires_.side_is_gone(number_);
}

uint64_t Side::count_seen(const std::string& what) const {
  return static_cast<uint64_t>(std::count(seen.begin(), seen.end(), what));
}

size_t Side::place_of(const std::string& what) const {
  return static_cast<size_t>(std::find(seen.begin(), seen.end(), what) - seen.begin());
}

void Side::feed(EventBody body) {
  replica_->step(Event{wires_.now_us, std::move(body)}, actions_);
  execute();
}

void Side::request(uint32_t slot, ClientOperation operation, const ByteRange& range, uint32_t value, bool fua) {
  client_values_[slot] = value;
  replies.erase(slot);
  feed(ClientRequestArrived{slot, operation, range, fua, false});
}

uint64_t Side::order(OrderGiven order) {
  order.ticket = ++tickets_;
  feed(order);
  return tickets_;
}

uint64_t Side::order(OrderKind kind) {
  OrderGiven given;
  given.kind = kind;
  return order(given);
}

bool Side::answered(uint64_t ticket, Outcome outcome) const {
  const auto found = answers.find(ticket);
  return found != answers.end() && found->second.outcome == outcome;
}

void Side::execute() {
  const std::vector<Action> list(actions_.begin(), actions_.end());
  actions_.clear();
  for (const Action& action : list) {
    const auto* send = std::get_if<Send>(&action);
    TestFrame frame = send != nullptr ? frame_of(*send) : TestFrame{};
    if (must_wait(action) && persist_failed_) {
      fail(action);
    } else if (must_wait(action)) {
      held_.push_back({action, std::move(frame)});
    } else {
      perform(action, std::move(frame));
    }
  }
}

bool Side::must_wait(const Action& action) const {
  const PersistId after = std::visit(
      [](const auto& one) -> PersistId {
        if constexpr (requires { one.after_persist; }) {
          return one.after_persist;
        } else {
          return 0;
        }
      },
      action);
  if (after > persisted_) return true;
  const auto* send = std::get_if<Send>(&action);
  return send != nullptr && std::any_of(held_.begin(), held_.end(), [send](const Held& held) {
           const auto* earlier = std::get_if<Send>(&held.action);
           return earlier != nullptr && earlier->peer == send->peer;
         });
}

TestFrame Side::frame_of(const Send& send) const {
  TestFrame frame;
  frame.message = send.message;
  if (const auto* runs = std::get_if<BitmapRuns>(&send.message))
    frame.runs.assign(runs->runs.begin(), runs->runs.end());
  if (const auto* digests = std::get_if<RangeDigests>(&send.message)) {
    frame.digests.assign(digests->digests.begin(), digests->digests.end());
  }
  if (const auto* write = std::get_if<Write>(&send.message)) {
    frame.values =
        send.payload.kind == SlotKind::Resync
            ? resync_values_[send.payload.slot]
            : std::vector<uint32_t>(write->range.length_bytes / kBlockBytes, client_values_.at(send.payload.slot));
  }
  if (send.payload.kind == SlotKind::Serve) frame.values = serve_values_[send.payload.slot];
  return frame;
}

void Side::perform(const Action& action, TestFrame frame) {
  if (const auto* read = std::get_if<SubmitRead>(&action)) {
    if (read->digests) seen.push_back(read->slot.kind == SlotKind::Apply ? "compare" : "read digests");
    reads_.push_back({read->slot, read->range, {}, false, read->digests});
  } else if (const auto* write = std::get_if<SubmitWrite>(&action)) {
    seen.push_back(write->fua ? "write fua" : "write");
    writes_.push_back(
        {write->slot, write->range,
         write->slot.kind == SlotKind::Client
             ? std::vector<uint32_t>(write->range.length_bytes / kBlockBytes, client_values_.at(write->slot.slot))
             : apply_values_[write->slot.slot],
         write->fua, false});
  } else if (const auto* zeroes = std::get_if<SubmitZeroes>(&action)) {
    seen.push_back("zeroes");
    writes_.push_back({zeroes->slot, zeroes->range, std::vector<uint32_t>(zeroes->range.length_bytes / kBlockBytes, 0),
                       zeroes->fua, false});
  } else if (std::holds_alternative<SubmitFlush>(action)) {
    LOCKSTEP_CHECK(!flush_under_way_);
    seen.push_back("fdatasync");
    flush_under_way_ = true;
    flush_snapshot_ = disk;
  } else if (const auto* send = std::get_if<Send>(&action)) {
    if (std::holds_alternative<Barrier>(send->message)) seen.push_back("send barrier");
    if (std::holds_alternative<Acknowledged>(send->message)) seen.push_back("send acknowledgement");
    wires_.carry(number_, *send, std::move(frame));
  } else if (std::holds_alternative<ReleaseDisk>(action)) {
    releases_disk_ = true;
  } else if (const auto* store = std::get_if<StoreRead>(&action)) {
    auto& into = read_values[store->slot];
    into.resize(store->offset_bytes / kBlockBytes);
    into.insert(into.end(), arrived_values_.begin(), arrived_values_.end());
  } else if (const auto* release = std::get_if<ReleaseApply>(&action)) {
    LOCKSTEP_CHECK(apply_slots_in_use.erase(release->slot) == 1);
  } else if (const auto* reply = std::get_if<Reply>(&action)) {
    seen.push_back("reply " + std::to_string(reply->error_errno));
    LOCKSTEP_CHECK(replies.emplace(reply->slot, reply->error_errno).second);
  } else if (const auto* close = std::get_if<CloseLink>(&action)) {
    wires_.close(number_, close->peer, close->incarnation);
  } else if (const auto* connect = std::get_if<Connect>(&action)) {
    wants_links[connect->peer] = true;
    wants_link = wants_links[0];
  } else if (const auto* stop = std::get_if<StopConnecting>(&action)) {
    wants_links[stop->peer] = false;
    wants_link = wants_links[0];
  } else if (std::holds_alternative<OpenExport>(action)) {
    seen.push_back("open export");
    export_open = true;
  } else if (std::holds_alternative<CloseExport>(action)) {
    export_open = false;
  } else if (const auto* answer = std::get_if<OrderAnswered>(&action)) {
    LOCKSTEP_CHECK(answers.emplace(answer->ticket, *answer).second);
  } else if (const auto* prepare = std::get_if<PrepareDisk>(&action)) {
    seen.push_back("prepare disk");
    preparing_ = prepare->size_bytes;
  } else if (const auto* ask = std::get_if<AskArbiter>(&action)) {
    asked.push_back(*ask);
  } else if (std::holds_alternative<PrepareResync>(action)) {
    ++preparations_asked;
  } else if (const auto* note = std::get_if<Note>(&action)) {
    notes.push_back(*note);
  } else {
    persists_.push_back(action);
  }
}

void Side::persist(const Action& action) {
  if (const auto* image = std::get_if<PersistSuperblock>(&action)) {
    seen.push_back("persist superblock");
    superblock = image->image;
  } else if (const auto* log = std::get_if<PersistActivityLog>(&action)) {
    seen.push_back("persist activity log");
    for (size_t i = 0; i < log->update_count; ++i) activity_log[log->updates[i].slot] = log->updates[i].extent;
  } else if (const auto* pages = std::get_if<PersistBitmapPages>(&action)) {
    seen.push_back("persist bitmap");
    for (uint32_t page = pages->first_page; page < pages->first_page + pages->page_count; ++page) {
      const auto words = replica_->bitmap_words(pages->peer, page);
      auto& stored = pages->peer == 0 ? bitmap : second_bitmap;
      std::copy(words.begin(), words.end(), stored.begin() + std::ptrdiff_t{page} * kWordsPerBitmapPage);
    }
  } else if (const auto* grown = std::get_if<PersistSize>(&action)) {
    seen.push_back("persist size");
    superblock = grown->image;
    size_bytes = grown->size_bytes;
    for (auto* words : {&bitmap, &second_bitmap}) {
      words->resize(size_t{replica_->bitmap_pages()} * kWordsPerBitmapPage, 0);
    }
    disk.resize(size_bytes / kBlockBytes, 0);
    stable_disk.resize(size_bytes / kBlockBytes, 0);
    if (flush_under_way_) flush_snapshot_.resize(size_bytes / kBlockBytes, 0);
  } else {
    LOCKSTEP_CHECK(std::holds_alternative<PersistActivityLogEmpty>(action));
    seen.push_back("persist empty activity log");
    std::fill(activity_log.begin(), activity_log.end(), kNoExtent);
    activity_log_valid = true;
  }
}

bool Side::complete_one_persist() {
  if (!alive() || persists_.empty()) return false;
  const Action action = std::move(persists_.front());
  persists_.pop_front();
  if (const int error = std::exchange(next_persist_errno, 0); error != 0) {
    // As the rule of action.h says: what waits for it fails.
    persists_.clear();
    std::deque<Held> failed;
    failed.swap(held_);
    persist_failed_ = true;
    for (const Held& held : failed) fail(held.action);
    feed(PersistCompleted{persisted_ + 1, error});
    return true;
  }
  persist(action);
  ++persisted_;
  release_held();
  feed(PersistCompleted{persisted_, 0});
  return true;
}

void Side::fail(const Action& action) {
  if (const auto* reply = std::get_if<Reply>(&action)) perform(Reply{reply->slot, EIO, 0}, {});
  if (const auto* answer = std::get_if<OrderAnswered>(&action))
    perform(OrderAnswered{answer->ticket, Outcome::NoDisk}, {});
  if (std::holds_alternative<ReleaseDisk>(action)) perform(action, {});
}

void Side::release_held() {
  std::deque<Held> waiting;
  waiting.swap(held_);
  for (Held& held : waiting) {
    if (must_wait(held.action)) {
      held_.push_back(std::move(held));
    } else {
      perform(held.action, std::move(held.frame));
    }
  }
}

bool Side::complete_one_write() {
  if (!alive() || writes_.empty()) return false;
  const LocalIo io = std::move(writes_.front());
  writes_.pop_front();
  const int error = std::exchange(next_io_errno, 0);
  const bool durable = io.fua || writes_through;
  if (error == 0) {
    const uint64_t first = io.range.offset_bytes / kBlockBytes;
    for (size_t i = 0; i < io.values.size(); ++i) {
      disk[first + i] = io.values[i];
      if (durable) stable_disk[first + i] = io.values[i];
      if (durable && flush_under_way_) flush_snapshot_[first + i] = io.values[i];
    }
  }
  feed(LocalIoCompleted{io.slot, error, false, {}, writes_through});
  return true;
}

void Side::postpone_one_write() {
  writes_.push_back(std::move(writes_.front()));
  writes_.pop_front();
}

bool Side::complete_io() {
  bool moved = false;
  while (!holds_writes && complete_one_write()) moved = true;
  if (!holds_flushes && flush_under_way_) {
    flush_under_way_ = false;
    const int error = std::exchange(next_flush_errno, 0);
    if (error == 0) stable_disk = flush_snapshot_;
    feed(LocalIoCompleted{{SlotKind::Flush, 0}, error, false, {}, false});
    moved = true;
  }
  while (!holds_reads && !reads_.empty()) {
    const LocalIo io = std::move(reads_.front());
    reads_.pop_front();
    const auto first = disk.begin() + static_cast<std::ptrdiff_t>(io.range.offset_bytes / kBlockBytes);
    const std::vector<uint32_t> values(first, first + static_cast<std::ptrdiff_t>(io.range.length_bytes / kBlockBytes));
    const bool zeroes = std::all_of(values.begin(), values.end(), [](uint32_t value) { return value == 0; });
    if (io.slot.kind == SlotKind::Resync) resync_values_[io.slot.slot] = values;
    if (io.slot.kind == SlotKind::Serve) serve_values_[io.slot.slot] = values;
    if (io.slot.kind == SlotKind::Client) read_values[io.slot.slot] = values;
    int error = std::exchange(next_io_errno, 0);
    for (const uint64_t block : bad_blocks) {
      if (io.range.overlaps(blocks(block))) error = EIO;
    }
    std::vector<BlockDigest> digests;
    for (size_t i = 0; io.digests && i < values.size(); ++i) digests.push_back({values[i], 1});
    feed(LocalIoCompleted{io.slot, error, zeroes, digests, false});
    moved = true;
  }
  return moved;
}

bool Side::turn() {
  if (!alive()) return false;
  bool moved = complete_io();
  while (!holds_persists && complete_one_persist()) moved = true;
  if (releases_disk_ && writes_.empty() && reads_.empty() && !flush_under_way_ && persists_.empty()) {
    releases_disk_ = false;
    disk_released = true;
    feed(DiskReleased{});
    moved = true;
  }
  if (preparing_ != 0 && !holds_preparations) {
    moved = true;
    feed(DiskPrepared{std::exchange(preparing_, 0), std::exchange(next_preparation_errno, 0)});
  }
  replica_->step(Event{wires_.now_us, TurnEnded{}}, actions_);
  moved = moved || !actions_.empty();
  execute();
  return moved;
}

void Side::receive(Incarnation incarnation, const TestFrame& frame, PeerIndex from) {
  MessageArrived event;
  event.peer = from;
  event.incarnation = incarnation;
  event.message = frame.message;
  arrived_values_ = frame.values;
  if (auto* runs = std::get_if<BitmapRuns>(&event.message)) runs->runs = frame.runs;
  if (auto* digests = std::get_if<RangeDigests>(&event.message)) digests->digests = frame.digests;
  if (is_stream_frame(frame.message)) {
    while (apply_slots_in_use.count(event.apply_slot) != 0) ++event.apply_slot;
    LOCKSTEP_CHECK(event.apply_slot < options_.apply_slots);
    apply_slots_in_use.insert(event.apply_slot);
    apply_values_[event.apply_slot] = frame.values;
  }
  feed(event);
}

Pair::Pair(const ReplicaOptions& first, const ReplicaOptions& second) : alpha(*this, 0, first), beta(*this, 1, second) {
  alpha.start();
  beta.start();
}

bool Pair::deliver_one(Side& side) {
  auto& frames = side.number_ == 0 ? to_alpha : to_beta;
  if (number_of_frozen() == side.number_) return false;
  if (frames.empty() || (side.number_ == 0 ? holds_to_alpha : holds_to_beta) || !side.alive()) return false;
  if (frames_left == 0) return false;
  --frames_left;
  const TestFrame frame = std::move(frames.front());
  frames.pop_front();
  side.receive(incarnation_, frame);
  return true;
}

void Pair::run() {
  if (const Incarnation lost = alpha_frozen ? 0 : std::exchange(unnoticed_, 0); lost != 0 && alpha.alive()) {
    alpha.feed(LinkLost{0, lost});
  }
  bool moved = true;
  while (moved) {
    moved = false;
    while (deliver_one(alpha) || deliver_one(beta)) moved = true;
    moved = (!alpha_frozen && alpha.turn()) || moved;
    moved = beta.turn() || moved;
    // A link that was closed is gone once what was sent before has arrived.
    if (closing_ && (to_alpha.empty() || alpha_frozen) && to_beta.empty()) {
      lose_link();
      moved = true;
    }
  }
}

void Pair::carry(int from, const Send& send, TestFrame frame) {
  if (incarnation_ != send.incarnation || closing_) return;
  (from == 0 ? to_beta : to_alpha).push_back(std::move(frame));
}

void Pair::close(int number, PeerIndex, Incarnation incarnation) {
  if (incarnation != incarnation_ || incarnation == 0) return;
  closing_ = true;
  (number == 0 ? to_alpha : to_beta).clear();  // it does not read any more
}

void Pair::lose_link() {
  const Incarnation lost = std::exchange(incarnation_, 0);
  closing_ = false;
  to_alpha.clear();
  to_beta.clear();
  if (lost == 0) return;
  if (alpha_frozen) {
    unnoticed_ = lost;
  } else if (alpha.alive()) {
    alpha.feed(LinkLost{0, lost});
  }
  if (beta.alive()) beta.feed(LinkLost{0, lost});
}

void Pair::connect() {
  if (alpha_frozen) return;
  for (int attempt = 0; attempt < 3 && incarnation_ == 0; ++attempt) {
    if (!alpha.alive() || !beta.alive() || !alpha.wants_link || !beta.wants_link) return;
    incarnation_ = ++incarnations_;
    alpha.feed(LinkEstablished{0, incarnation_});
    beta.feed(LinkEstablished{0, incarnation_});
    run();
  }
}

void Pair::pass(uint64_t time_us) {
  const uint64_t end_us = now_us + time_us;
  while (now_us < end_us) {
    now_us = std::min(now_us + 50'000, end_us);
    if (alpha.alive() && !alpha_frozen) alpha.feed(Ticked{});
    if (beta.alive()) beta.feed(Ticked{});
    run();
  }
}

void Pair::make_mirrored() {
  run();
  connect();
  alpha.order(OrderKind::Promote);
  run();
  LOCKSTEP_CHECK(alpha.is_primary() && alpha.is_up_to_date() && beta.is_up_to_date());
  LOCKSTEP_CHECK(alpha.peer().replication == ReplicationState::Established);
}

}  // namespace lockstep::repl
