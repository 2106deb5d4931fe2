// Bodies of the messages that move a disk's data or keep account of them: the stream, resyncs, comparisons, and reads
// that a peer serves. See docs/protocol.md.
#include <span>

#include "io/base/check.h"
#include "io/base/units.h"
#include "replicator/bitmap_runs.h"
#include "replicator/message_parts.h"

namespace lockstep::repl {
namespace {

constexpr uint8_t kResyncFlag = 1;
constexpr uint8_t kMayDeallocateFlag = 2;

// A range that a device of that size can be asked for: not empty, in whole sectors, inside it.
bool good_range(const ByteRange& range, const DecodingContext& context) {
  return !range.empty() && range.offset_bytes % kSmallestRangeUnitBytes == 0 &&
         range.length_bytes % kSmallestRangeUnitBytes == 0 &&
         ByteRange::fits(range.offset_bytes, range.length_bytes, context.device_bytes);
}

}  // namespace

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
  write_generation(writer, done.undone);
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
  done.undone = reader.generation();
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

}  // namespace lockstep::repl
