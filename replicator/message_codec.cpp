// Bodies of messages: see docs/protocol.md. One encoder and one decoder for each message, side by side.
#include <type_traits>
#include <utility>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "replicator/bitmap_runs.h"
#include "replicator/frame_writing.h"
#include "replicator/peer_protocol.h"

namespace lockstep::repl {
namespace {

constexpr uint8_t kResyncFlag = 1;
constexpr uint8_t kMayDeallocateFlag = 2;

// The states' numbers on the wire, which never change whatever becomes of the enumerations.
template <typename Enum, size_t Count>
uint8_t wire_number(const std::array<Enum, Count>& numbers, Enum value) {
  for (size_t i = 0; i < Count; ++i) {
    if (numbers[i] == value) return static_cast<uint8_t>(i + 1);
  }
  LOCKSTEP_CHECK(false && "an enumerator without a number on the wire");
  return 0;
}

class BodyReader : public LittleReader {
 public:
  using LittleReader::LittleReader;

  // Set by every rule that a body breaks beside being too short.
  bool broken = false;

  bool flag() {
    const uint8_t value = u8();
    broken = broken || value > 1;
    return value == 1;
  }
  template <typename Enum, size_t Count>
  Enum enumerator(const std::array<Enum, Count>& numbers) {
    const uint8_t number = u8();
    if (number == 0 || number > Count) {
      broken = true;
      return numbers[0];
    }
    return numbers[number - 1];
  }
  Generation generation() {
    const uint64_t high = u64();
    return {high, u64()};
  }
  uint8_t flags(uint8_t known) {
    const uint8_t value = u8();
    broken = broken || (value & ~known) != 0;
    return value;
  }
};

constexpr std::array kWaitedFor{WaitedFor::Unknown, WaitedFor::No, WaitedFor::Yes};
constexpr std::array kRoles{Role::Unknown, Role::Secondary, Role::Primary};
constexpr std::array kDiskStates{DiskState::Diskless,     DiskState::Attaching, DiskState::Failed,
                                 DiskState::Inconsistent, DiskState::Outdated,  DiskState::Consistent,
                                 DiskState::UpToDate,     DiskState::DUnknown};
constexpr std::array kGoodbyeReasons{GoodbyeReason::Stopping, GoodbyeReason::Disconnecting, GoodbyeReason::Dropped,
                                     GoodbyeReason::Restarting, GoodbyeReason::Refused};

void write_generation(LittleWriter& writer, const Generation& generation) {
  writer.u64(generation.high);
  writer.u64(generation.low);
}
template <size_t Count>
void write_generations(LittleWriter& writer, const std::array<Generation, Count>& generations) {
  for (const Generation& generation : generations) write_generation(writer, generation);
}
template <size_t Count>
void read_generations(BodyReader& reader, std::array<Generation, Count>& generations) {
  for (Generation& generation : generations) generation = reader.generation();
}

struct DecodingContext {
  uint64_t device_bytes = 0;
  uint32_t payload_bytes = 0;
  BodyStorage* storage = nullptr;
};

// A range that a device of that size can be asked for: not empty, in whole sectors, inside it.
bool good_range(const ByteRange& range, const DecodingContext& context) {
  return !range.empty() && range.offset_bytes % kSmallestRangeUnitBytes == 0 &&
         range.length_bytes % kSmallestRangeUnitBytes == 0 &&
         ByteRange::fits(range.offset_bytes, range.length_bytes, context.device_bytes);
}

void write_position(LittleWriter& writer, const StreamPosition& position) {
  writer.u64(position.stream);
  writer.u64(position.through);
  writer.u32(position.term);
}
StreamPosition read_position(BodyReader& reader) {
  const uint64_t stream = reader.u64();
  const Sequence through = reader.u64();
  return {stream, through, reader.u32()};
}

void write_life(LittleWriter& writer, const Life& life) {
  writer.u64(life.birth);
  writer.u64(life.age);
}
Life read_life(BodyReader& reader) {
  const uint64_t birth = reader.u64();
  return {birth, reader.u64()};
}

FrameKind encode(const StateReport& report, LittleWriter& writer) {
  write_generation(writer, report.current);
  write_generation(writer, report.bitmap_generation);
  write_generation(writer, report.previous_bitmap_generation);
  write_generations(writer, report.history);
  writer.u64(report.out_of_sync_blocks);
  writer.u8(wire_number(kRoles, report.role));
  writer.u8(wire_number(kDiskStates, report.disk_state));
  writer.u8(report.known_behind ? 1 : 0);
  writer.u8(report.crashed_primary ? 1 : 0);
  writer.u8(report.answered_ahead ? 1 : 0);
  writer.u8(report.discard_my_data ? 1 : 0);
  writer.u8(report.prepares_resync ? 1 : 0);
  writer.u8(report.node_order);
  write_generation(writer, report.served);
  write_generation(writer, report.served_previous);
  writer.u64(report.run);
  write_life(writer, report.life);
  write_life(writer, report.remembered);
  writer.u64(report.size_bytes);
  writer.u64(report.prepared_size_bytes);
  writer.u8(report.sees_primary ? 1 : 0);
  writer.u8(report.is_target ? 1 : 0);
  writer.u8(report.may_hold);
  write_generation(writer, report.sync_base);
  write_generation(writer, report.sync_toward);
  write_generation(writer, report.unanswered_since);
  write_generation(writer, report.undone);
  write_position(writer, report.position);
  write_position(writer, report.stable_position);
  writer.u8(wire_number(kWaitedFor, report.waited_for));
  writer.u32(report.term);
  writer.u32(report.ahead_term);
  return FrameKind::StateReport;
}
void decode(BodyReader& reader, const DecodingContext&, StateReport& report) {
  report.current = reader.generation();
  report.bitmap_generation = reader.generation();
  report.previous_bitmap_generation = reader.generation();
  read_generations(reader, report.history);
  report.out_of_sync_blocks = reader.u64();
  report.role = reader.enumerator(kRoles);
  report.disk_state = reader.enumerator(kDiskStates);
  report.known_behind = reader.flag();
  report.crashed_primary = reader.flag();
  report.answered_ahead = reader.flag();
  report.discard_my_data = reader.flag();
  report.prepares_resync = reader.flag();
  report.node_order = reader.u8();
  report.served = reader.generation();
  report.served_previous = reader.generation();
  report.run = reader.u64();
  report.life = read_life(reader);
  report.remembered = read_life(reader);
  report.size_bytes = reader.u64();
  report.prepared_size_bytes = reader.u64();
  report.sees_primary = reader.flag();
  report.is_target = reader.flag();
  report.may_hold = reader.u8();
  report.sync_base = reader.generation();
  report.sync_toward = reader.generation();
  report.unanswered_since = reader.generation();
  report.undone = reader.generation();
  report.position = read_position(reader);
  report.stable_position = read_position(reader);
  report.waited_for = reader.enumerator(kWaitedFor);
  report.term = reader.u32();
  report.ahead_term = reader.u32();
}

FrameKind encode(const StateChanged& changed, LittleWriter& writer) {
  writer.u8(wire_number(kRoles, changed.role));
  writer.u8(wire_number(kDiskStates, changed.disk_state));
  writer.u8(changed.known_behind ? 1 : 0);
  return FrameKind::StateChanged;
}
void decode(BodyReader& reader, const DecodingContext&, StateChanged& changed) {
  changed.role = reader.enumerator(kRoles);
  changed.disk_state = reader.enumerator(kDiskStates);
  changed.known_behind = reader.flag();
}

FrameKind encode(const GenerationChanged& changed, LittleWriter& writer) {
  write_generation(writer, changed.current);
  write_generations(writer, changed.history);
  writer.u8(changed.may_hold);
  return FrameKind::GenerationChanged;
}
void decode(BodyReader& reader, const DecodingContext&, GenerationChanged& changed) {
  changed.current = reader.generation();
  read_generations(reader, changed.history);
  changed.may_hold = reader.u8();
}

FrameKind encode(const Write& write, LittleWriter& writer) {
  writer.u64(write.sequence);
  writer.u64(write.range.offset_bytes);
  writer.u8(write.resync ? kResyncFlag : 0);
  return FrameKind::Write;  // the length is the payload's
}
void decode(BodyReader& reader, const DecodingContext& context, Write& write) {
  write.sequence = reader.u64();
  write.range = {reader.u64(), context.payload_bytes};
  write.resync = (reader.flags(kResyncFlag) & kResyncFlag) != 0;
  reader.broken = reader.broken || !good_range(write.range, context);
}

FrameKind encode(const WriteZeroes& zeroes, LittleWriter& writer) {
  writer.u64(zeroes.sequence);
  writer.u64(zeroes.range.offset_bytes);
  writer.u64(zeroes.range.length_bytes);
  writer.u8(static_cast<uint8_t>((zeroes.resync ? kResyncFlag : 0) | (zeroes.may_deallocate ? kMayDeallocateFlag : 0)));
  return FrameKind::WriteZeroes;
}
void decode(BodyReader& reader, const DecodingContext& context, WriteZeroes& zeroes) {
  zeroes.sequence = reader.u64();
  zeroes.range.offset_bytes = reader.u64();
  zeroes.range.length_bytes = reader.u64();
  const uint8_t flags = reader.flags(kResyncFlag | kMayDeallocateFlag);
  zeroes.resync = (flags & kResyncFlag) != 0;
  zeroes.may_deallocate = (flags & kMayDeallocateFlag) != 0;
  reader.broken = reader.broken || !good_range(zeroes.range, context);
}

FrameKind encode(const StreamRules& rules, LittleWriter& writer) {
  writer.u8(rules.ordered ? 1 : 0);
  writer.u8(rules.prompt ? 1 : 0);
  writer.u8(rules.waited_for ? 1 : 0);
  writer.u8(rules.recorded ? 1 : 0);
  writer.u32(rules.term);
  return FrameKind::StreamRules;
}
void decode(BodyReader& reader, const DecodingContext&, StreamRules& rules) {
  rules.ordered = reader.flag();
  rules.prompt = reader.flag();
  rules.waited_for = reader.flag();
  rules.recorded = reader.flag();
  rules.term = reader.u32();
}

FrameKind encode(const RangeDigests& message, LittleWriter& writer) {
  LOCKSTEP_CHECK(!message.digests.empty() && message.digests.size() <= kBlocksPerComparison &&
                 message.range.length_bytes == message.digests.size() * kBlockBytes);
  writer.u64(message.sequence);
  writer.u64(message.range.offset_bytes);
  writer.u8(message.resync ? kResyncFlag : 0);
  writer.u8(static_cast<uint8_t>(message.digests.size()));
  for (const BlockDigest& digest : message.digests) {
    writer.u64(digest.high);
    writer.u64(digest.low);
  }
  return FrameKind::RangeDigests;
}
void decode(BodyReader& reader, const DecodingContext& context, RangeDigests& message) {
  message.sequence = reader.u64();
  message.range.offset_bytes = reader.u64();
  message.resync = (reader.flags(kResyncFlag) & kResyncFlag) != 0;
  const uint8_t count = reader.u8();
  message.range.length_bytes = count * kBlockBytes;
  if (count > kBlocksPerComparison || message.range.offset_bytes % kBlockBytes != 0 ||
      !good_range(message.range, context)) {
    reader.broken = true;
    return;
  }
  for (uint8_t i = 0; i < count; ++i) {
    BlockDigest& digest = context.storage->digests[i];
    digest.high = reader.u64();
    digest.low = reader.u64();
  }
  message.digests = std::span<const BlockDigest>(context.storage->digests).first(count);
}

FrameKind encode(const RangeCompared& message, LittleWriter& writer) {
  writer.u64(message.sequence);
  writer.u64(message.differing);
  return FrameKind::RangeCompared;
}
void decode(BodyReader& reader, const DecodingContext&, RangeCompared& message) {
  message.sequence = reader.u64();
  message.differing = reader.u64();
}

FrameKind encode(const VerifyRequest& message, LittleWriter& writer) {
  writer.u8(message.repair ? 1 : 0);
  return FrameKind::VerifyRequest;
}
void decode(BodyReader& reader, const DecodingContext&, VerifyRequest& message) {
  message.repair = reader.flag();
}

FrameKind encode(const VerifyProgress& message, LittleWriter& writer) {
  writer.u8(message.repair ? 1 : 0);
  writer.u64(message.blocks_left);
  writer.u64(message.blocks_total);
  writer.u64(message.differing_blocks);
  return FrameKind::VerifyProgress;
}
void decode(BodyReader& reader, const DecodingContext&, VerifyProgress& message) {
  message.repair = reader.flag();
  message.blocks_left = reader.u64();
  message.blocks_total = reader.u64();
  message.differing_blocks = reader.u64();
}

FrameKind encode(const ResyncPaused& message, LittleWriter& writer) {
  writer.u8(message.paused ? 1 : 0);
  return FrameKind::ResyncPaused;
}
void decode(BodyReader& reader, const DecodingContext&, ResyncPaused& message) {
  message.paused = reader.flag();
}

FrameKind encode(const VerifyEnded& message, LittleWriter& writer) {
  writer.u8(message.complete ? 1 : 0);
  writer.u64(message.differing_blocks);
  writer.u64(message.left_blocks);
  return FrameKind::VerifyEnded;
}
void decode(BodyReader& reader, const DecodingContext&, VerifyEnded& message) {
  message.complete = reader.flag();
  message.differing_blocks = reader.u64();
  message.left_blocks = reader.u64();
}

FrameKind encode(const Barrier& barrier, LittleWriter& writer) {
  writer.u64(barrier.sequence);
  return FrameKind::Barrier;
}
void decode(BodyReader& reader, const DecodingContext&, Barrier& barrier) {
  barrier.sequence = reader.u64();
}

FrameKind encode(const Acknowledged& acknowledged, LittleWriter& writer) {
  LOCKSTEP_CHECK(acknowledged.besides_count <= kAcknowledgedBesides);
  writer.u64(acknowledged.received_through);
  writer.u64(acknowledged.written_through);
  writer.u64(acknowledged.flushed_through);
  writer.u8(acknowledged.besides_count);
  for (size_t i = 0; i < acknowledged.besides_count; ++i) writer.u64(acknowledged.besides[i]);
  return FrameKind::Acknowledged;
}
void decode(BodyReader& reader, const DecodingContext&, Acknowledged& acknowledged) {
  acknowledged.received_through = reader.u64();
  acknowledged.written_through = reader.u64();
  acknowledged.flushed_through = reader.u64();
  acknowledged.besides_count = reader.u8();
  if (acknowledged.besides_count > kAcknowledgedBesides) {
    acknowledged.besides_count = 0;
    reader.broken = true;
  }
  for (size_t i = 0; i < acknowledged.besides_count; ++i) acknowledged.besides[i] = reader.u64();
}

FrameKind encode(const ResyncStart& start, LittleWriter& writer) {
  write_generation(writer, start.sync_generation);
  write_generation(writer, start.toward);
  writer.u8(start.full ? 1 : 0);
  writer.u8(start.unused ? 1 : 0);
  return FrameKind::ResyncStart;
}
void decode(BodyReader& reader, const DecodingContext&, ResyncStart& start) {
  start.sync_generation = reader.generation();
  start.toward = reader.generation();
  start.full = reader.flag();
  start.unused = reader.flag();
}

FrameKind encode(const BitmapRuns& message, LittleWriter& writer) {
  LOCKSTEP_CHECK(message.runs.size() <= kRunsPerMessage);
  writer.u8(message.last ? 1 : 0);
  write_bitmap_runs(message.runs, writer);
  return FrameKind::BitmapRuns;
}
void decode(BodyReader& reader, const DecodingContext& context, BitmapRuns& message) {
  message.last = reader.flag();
  const uint64_t blocks = divide_up(context.device_bytes, kBlockBytes);
  const auto runs = read_bitmap_runs(reader, blocks, context.storage->runs);
  reader.broken = reader.broken || !runs;
  if (runs) message.runs = *runs;
}

FrameKind encode(const BitmapWanted&, LittleWriter&) {
  return FrameKind::BitmapWanted;
}
void decode(BodyReader&, const DecodingContext&, BitmapWanted&) {}

FrameKind encode(const ResyncProgress& progress, LittleWriter& writer) {
  writer.u64(progress.blocks_left);
  writer.u64(progress.blocks_total);
  return FrameKind::ResyncProgress;
}
void decode(BodyReader& reader, const DecodingContext&, ResyncProgress& progress) {
  progress.blocks_left = reader.u64();
  progress.blocks_total = reader.u64();
}

FrameKind encode(const ResyncDone& done, LittleWriter& writer) {
  write_generation(writer, done.current);
  write_generations(writer, done.history);
  writer.u8(done.may_hold);
  writer.u8(done.in_sync);
  writer.u8(done.crashed);
  writer.u8(done.answered_ahead);
  for (const uint32_t term : done.ahead_terms) writer.u32(term);
  writer.u32(done.term);
  write_position(writer, done.position);
  return FrameKind::ResyncDone;
}
void decode(BodyReader& reader, const DecodingContext&, ResyncDone& done) {
  done.current = reader.generation();
  read_generations(reader, done.history);
  done.may_hold = reader.u8();
  done.in_sync = reader.u8();
  done.crashed = reader.u8();
  done.answered_ahead = reader.u8();
  for (uint32_t& term : done.ahead_terms) term = reader.u32();
  done.term = reader.u32();
  done.position = read_position(reader);
}

FrameKind encode(const GenerationStored& stored, LittleWriter& writer) {
  write_generation(writer, stored.current);
  return FrameKind::GenerationStored;
}
void decode(BodyReader& reader, const DecodingContext&, GenerationStored& stored) {
  stored.current = reader.generation();
}

FrameKind encode(const StableThrough& stable, LittleWriter& writer) {
  writer.u64(stable.through);
  writer.u8(stable.missing);
  return FrameKind::StableThrough;
}
void decode(BodyReader& reader, const DecodingContext&, StableThrough& stable) {
  stable.through = reader.u64();
  stable.missing = reader.u8();
}

FrameKind encode(const PeersInSync& in_sync, LittleWriter& writer) {
  write_generation(writer, in_sync.current);
  writer.u8(in_sync.nodes);
  writer.u8(in_sync.ahead_of);
  return FrameKind::PeersInSync;
}
void decode(BodyReader& reader, const DecodingContext&, PeersInSync& in_sync) {
  in_sync.current = reader.generation();
  in_sync.nodes = reader.u8();
  in_sync.ahead_of = reader.u8();
}

FrameKind encode(const PromoteRequest& request, LittleWriter& writer) {
  writer.u64(request.ticket);
  write_generation(writer, request.first_generation);
  return FrameKind::PromoteRequest;
}
void decode(BodyReader& reader, const DecodingContext&, PromoteRequest& request) {
  request.ticket = reader.u64();
  request.first_generation = reader.generation();
}

FrameKind encode(const PromoteAnswer& answer, LittleWriter& writer) {
  writer.u64(answer.ticket);
  writer.u8(answer.granted ? 1 : 0);
  return FrameKind::PromoteAnswer;
}
void decode(BodyReader& reader, const DecodingContext&, PromoteAnswer& answer) {
  answer.ticket = reader.u64();
  answer.granted = reader.flag();
}

FrameKind encode(const TakeOver& take_over, LittleWriter& writer) {
  writer.u64(take_over.ticket);
  writer.u8(take_over.left);
  return FrameKind::TakeOver;
}
void decode(BodyReader& reader, const DecodingContext&, TakeOver& take_over) {
  take_over.ticket = reader.u64();
  take_over.left = reader.u8();
}

FrameKind encode(const TakeOverAnswer& answer, LittleWriter& writer) {
  writer.u64(answer.ticket);
  writer.u8(answer.promoted ? 1 : 0);
  return FrameKind::TakeOverAnswer;
}
void decode(BodyReader& reader, const DecodingContext&, TakeOverAnswer& answer) {
  answer.ticket = reader.u64();
  answer.promoted = reader.flag();
}

FrameKind encode(const SwitchoverRequest& request, LittleWriter& writer) {
  writer.u64(request.ticket);
  return FrameKind::SwitchoverRequest;
}
void decode(BodyReader& reader, const DecodingContext&, SwitchoverRequest& request) {
  request.ticket = reader.u64();
}

FrameKind encode(const SwitchoverAnswer& answer, LittleWriter& writer) {
  writer.u64(answer.ticket);
  writer.u8(answer.outcome);
  return FrameKind::SwitchoverAnswer;
}
void decode(BodyReader& reader, const DecodingContext&, SwitchoverAnswer& answer) {
  answer.ticket = reader.u64();
  answer.outcome = reader.u8();
}

FrameKind encode(const InvalidateWanted& wanted, LittleWriter& writer) {
  writer.u64(wanted.ticket);
  return FrameKind::InvalidateWanted;
}
void decode(BodyReader& reader, const DecodingContext&, InvalidateWanted& wanted) {
  wanted.ticket = reader.u64();
}

FrameKind encode(const InvalidateRequest& request, LittleWriter& writer) {
  writer.u64(request.ticket);
  writer.u8(request.was_wanted ? 1 : 0);
  return FrameKind::InvalidateRequest;
}
void decode(BodyReader& reader, const DecodingContext&, InvalidateRequest& request) {
  request.ticket = reader.u64();
  request.was_wanted = reader.flag();
}

FrameKind encode(const InvalidateAnswer& answer, LittleWriter& writer) {
  writer.u64(answer.ticket);
  writer.u8(answer.outcome);
  writer.u8(answer.was_wanted ? 1 : 0);
  return FrameKind::InvalidateAnswer;
}
void decode(BodyReader& reader, const DecodingContext&, InvalidateAnswer& answer) {
  answer.ticket = reader.u64();
  answer.outcome = reader.u8();
  answer.was_wanted = reader.flag();
}

FrameKind encode(const ServeRequest& request, LittleWriter& writer) {
  write_generation(writer, request.current);
  write_generation(writer, request.previous);
  return FrameKind::ServeRequest;
}
void decode(BodyReader& reader, const DecodingContext&, ServeRequest& request) {
  request.current = reader.generation();
  request.previous = reader.generation();
}

FrameKind encode(const ServeConfirmed& confirmed, LittleWriter& writer) {
  write_generation(writer, confirmed.current);
  return FrameKind::ServeConfirmed;
}
void decode(BodyReader& reader, const DecodingContext&, ServeConfirmed& confirmed) {
  confirmed.current = reader.generation();
}

FrameKind encode(const ReadRequest& request, LittleWriter& writer) {
  writer.u64(request.ticket);
  writer.u64(request.range.offset_bytes);
  writer.u64(request.range.length_bytes);
  return FrameKind::ReadRequest;
}
void decode(BodyReader& reader, const DecodingContext& context, ReadRequest& request) {
  request.ticket = reader.u64();
  request.range.offset_bytes = reader.u64();
  request.range.length_bytes = reader.u64();
  reader.broken = reader.broken || !good_range(request.range, context) || request.range.length_bytes > kServedReadBytes;
}

FrameKind encode(const ReadReply& reply, LittleWriter& writer) {
  writer.u64(reply.ticket);
  writer.u8(reply.failed ? 1 : 0);
  return FrameKind::ReadReply;  // the length is the payload's
}
void decode(BodyReader& reader, const DecodingContext& context, ReadReply& reply) {
  reply.ticket = reader.u64();
  reply.failed = reader.flag();
  reply.length_bytes = context.payload_bytes;
  reader.broken = reader.broken || reply.failed != (reply.length_bytes == 0) || reply.length_bytes > kServedReadBytes;
}

FrameKind encode(const PauseWrites& pause, LittleWriter& writer) {
  writer.u8(pause.over ? 1 : 0);
  return FrameKind::PauseWrites;
}
void decode(BodyReader& reader, const DecodingContext&, PauseWrites& pause) {
  pause.over = reader.flag();
}

FrameKind encode(const WritesPaused&, LittleWriter&) {
  return FrameKind::WritesPaused;
}
void decode(BodyReader&, const DecodingContext&, WritesPaused&) {}

FrameKind encode(const Lived& lived, LittleWriter& writer) {
  write_life(writer, lived.life);
  return FrameKind::Lived;
}
void decode(BodyReader& reader, const DecodingContext&, Lived& lived) {
  lived.life = read_life(reader);
}

FrameKind encode(const ResizePrepare& prepare, LittleWriter& writer) {
  writer.u64(prepare.ticket);
  writer.u64(prepare.size_bytes);
  return FrameKind::ResizePrepare;
}
void decode(BodyReader& reader, const DecodingContext&, ResizePrepare& prepare) {
  prepare.ticket = reader.u64();
  prepare.size_bytes = reader.u64();
}

FrameKind encode(const ResizePrepared& prepared, LittleWriter& writer) {
  writer.u64(prepared.ticket);
  writer.u8(prepared.ready ? 1 : 0);
  return FrameKind::ResizePrepared;
}
void decode(BodyReader& reader, const DecodingContext&, ResizePrepared& prepared) {
  prepared.ticket = reader.u64();
  prepared.ready = reader.flag();
}

FrameKind encode(const ResizeCommit& commit, LittleWriter& writer) {
  writer.u64(commit.size_bytes);
  return FrameKind::ResizeCommit;
}
void decode(BodyReader& reader, const DecodingContext&, ResizeCommit& commit) {
  commit.size_bytes = reader.u64();
}

FrameKind encode(const ResizeCommitted& committed, LittleWriter& writer) {
  writer.u64(committed.size_bytes);
  return FrameKind::ResizeCommitted;
}
void decode(BodyReader& reader, const DecodingContext&, ResizeCommitted& committed) {
  committed.size_bytes = reader.u64();
}

FrameKind encode(const Ping& ping, LittleWriter& writer) {
  writer.u64(ping.stamp_us);
  return FrameKind::Ping;
}
void decode(BodyReader& reader, const DecodingContext&, Ping& ping) {
  ping.stamp_us = reader.u64();
}

FrameKind encode(const Pong& pong, LittleWriter& writer) {
  writer.u64(pong.stamp_us);
  return FrameKind::Pong;
}
void decode(BodyReader& reader, const DecodingContext&, Pong& pong) {
  pong.stamp_us = reader.u64();
}

FrameKind encode(const Goodbye& goodbye, LittleWriter& writer) {
  writer.u8(wire_number(kGoodbyeReasons, goodbye.reason));
  writer.u8(goodbye.continues_alone ? 1 : 0);
  writer.u8(goodbye.outdated ? 1 : 0);
  return FrameKind::Goodbye;
}
void decode(BodyReader& reader, const DecodingContext&, Goodbye& goodbye) {
  goodbye.reason = reader.enumerator(kGoodbyeReasons);
  goodbye.continues_alone = reader.flag();
  goodbye.outdated = reader.flag();
}

template <typename M>
Result<Message> decode_as(const FrameHeader& header, std::span<const uint8_t> body, const DecodingContext& context) {
  BodyReader reader(body);
  M message;
  decode(reader, context, message);
  if (!reader.ok() || reader.left_bytes() != 0 || reader.broken) {
    return Error{ErrorKind::Corrupt, 0, "a " + std::string(to_string(header.kind)) + " frame breaks its form"};
  }
  return Message(message);
}

}  // namespace

uint32_t payload_bytes_of(const Message& message) {
  if (const auto* write = std::get_if<Write>(&message)) return static_cast<uint32_t>(write->range.length_bytes);
  if (const auto* reply = std::get_if<ReadReply>(&message)) return reply->length_bytes;
  return 0;
}

size_t encode_message(const Message& message, uint64_t link_incarnation, uint64_t number,
                      const PayloadDescription& payload, std::span<uint8_t> to) {
  FrameHeader header;
  header.link_incarnation = link_incarnation;
  header.number = number;
  header.payload_bytes = payload.length_bytes;
  header.payload_checksum = payload.checksum;
  LOCKSTEP_CHECK(payload.length_bytes == payload_bytes_of(message) && payload.length_bytes <= kMaximumPayloadBytes);
  LittleWriter writer(to.subspan(kFrameHeaderBytes));
  header.kind = std::visit([&](const auto& body) { return encode(body, writer); }, message);
  LOCKSTEP_CHECK(writer.ok());
  return finish_frame(header, to, writer.position_bytes());
}

Result<Message> decode_message(const FrameHeader& header, std::span<const uint8_t> body, uint64_t device_bytes,
                               BodyStorage& storage) {
  const DecodingContext context{device_bytes, header.payload_bytes, &storage};
  switch (header.kind) {
    case FrameKind::StateReport:
      return decode_as<StateReport>(header, body, context);
    case FrameKind::StateChanged:
      return decode_as<StateChanged>(header, body, context);
    case FrameKind::GenerationChanged:
      return decode_as<GenerationChanged>(header, body, context);
    case FrameKind::Write:
      return decode_as<Write>(header, body, context);
    case FrameKind::WriteZeroes:
      return decode_as<WriteZeroes>(header, body, context);
    case FrameKind::Barrier:
      return decode_as<Barrier>(header, body, context);
    case FrameKind::Acknowledged:
      return decode_as<Acknowledged>(header, body, context);
    case FrameKind::ResyncStart:
      return decode_as<ResyncStart>(header, body, context);
    case FrameKind::BitmapRuns:
      return decode_as<BitmapRuns>(header, body, context);
    case FrameKind::BitmapWanted:
      return decode_as<BitmapWanted>(header, body, context);
    case FrameKind::ResyncProgress:
      return decode_as<ResyncProgress>(header, body, context);
    case FrameKind::ResyncDone:
      return decode_as<ResyncDone>(header, body, context);
    case FrameKind::GenerationStored:
      return decode_as<GenerationStored>(header, body, context);
    case FrameKind::PromoteRequest:
      return decode_as<PromoteRequest>(header, body, context);
    case FrameKind::PromoteAnswer:
      return decode_as<PromoteAnswer>(header, body, context);
    case FrameKind::TakeOver:
      return decode_as<TakeOver>(header, body, context);
    case FrameKind::TakeOverAnswer:
      return decode_as<TakeOverAnswer>(header, body, context);
    case FrameKind::SwitchoverRequest:
      return decode_as<SwitchoverRequest>(header, body, context);
    case FrameKind::SwitchoverAnswer:
      return decode_as<SwitchoverAnswer>(header, body, context);
    case FrameKind::ResizePrepare:
      return decode_as<ResizePrepare>(header, body, context);
    case FrameKind::ResizePrepared:
      return decode_as<ResizePrepared>(header, body, context);
    case FrameKind::ResizeCommit:
      return decode_as<ResizeCommit>(header, body, context);
    case FrameKind::ResizeCommitted:
      return decode_as<ResizeCommitted>(header, body, context);
    case FrameKind::Lived:
      return decode_as<Lived>(header, body, context);
    case FrameKind::InvalidateWanted:
      return decode_as<InvalidateWanted>(header, body, context);
    case FrameKind::InvalidateRequest:
      return decode_as<InvalidateRequest>(header, body, context);
    case FrameKind::InvalidateAnswer:
      return decode_as<InvalidateAnswer>(header, body, context);
    case FrameKind::Ping:
      return decode_as<Ping>(header, body, context);
    case FrameKind::Pong:
      return decode_as<Pong>(header, body, context);
    case FrameKind::Goodbye:
      return decode_as<Goodbye>(header, body, context);
    case FrameKind::StreamRules:
      return decode_as<StreamRules>(header, body, context);
    case FrameKind::RangeDigests:
      return decode_as<RangeDigests>(header, body, context);
    case FrameKind::RangeCompared:
      return decode_as<RangeCompared>(header, body, context);
    case FrameKind::VerifyRequest:
      return decode_as<VerifyRequest>(header, body, context);
    case FrameKind::VerifyProgress:
      return decode_as<VerifyProgress>(header, body, context);
    case FrameKind::ResyncPaused:
      return decode_as<ResyncPaused>(header, body, context);
    case FrameKind::VerifyEnded:
      return decode_as<VerifyEnded>(header, body, context);
    case FrameKind::ServeRequest:
      return decode_as<ServeRequest>(header, body, context);
    case FrameKind::ServeConfirmed:
      return decode_as<ServeConfirmed>(header, body, context);
    case FrameKind::ReadRequest:
      return decode_as<ReadRequest>(header, body, context);
    case FrameKind::ReadReply:
      return decode_as<ReadReply>(header, body, context);
    case FrameKind::PauseWrites:
      return decode_as<PauseWrites>(header, body, context);
    case FrameKind::WritesPaused:
      return decode_as<WritesPaused>(header, body, context);
    case FrameKind::StableThrough:
      return decode_as<StableThrough>(header, body, context);
    case FrameKind::PeersInSync:
      return decode_as<PeersInSync>(header, body, context);
    case FrameKind::Hello:
    case FrameKind::Refusal:
    case FrameKind::AuditWanted:  // not the replica's: see audit_frame.h
    case FrameKind::AuditLine:
      break;
  }
  return Error{ErrorKind::Corrupt, 0, "a frame of a kind that has no place here"};
}

}  // namespace lockstep::repl
