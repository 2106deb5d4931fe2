// Bodies of messages: see docs/protocol.md. One encoder and one decoder for each message, side by side: here what nodes
// say of themselves and ask of each other; data_messages.cpp has those that move data.
#include <array>
#include <string>
#include <type_traits>
#include <utility>

#include "io/base/bytes.h"
#include "io/base/check.h"
#include "replicator/frame_writing.h"
#include "replicator/message_parts.h"
#include "replicator/peer_protocol.h"

namespace lockstep::repl {
namespace {

// The states' numbers on the wire, which never change whatever becomes of the enumerations.
template <typename Enum, size_t Count>
uint8_t wire_number(const std::array<Enum, Count>& numbers, Enum value) {
  for (size_t i = 0; i < Count; ++i) {
    if (numbers[i] == value) return static_cast<uint8_t>(i + 1);
  }
  LOCKSTEP_CHECK(false && "an enumerator without a number on the wire");
  return 0;
}

constexpr std::array kWaitedFor{WaitedFor::Unknown, WaitedFor::No, WaitedFor::Yes};
constexpr std::array kRoles{Role::Unknown, Role::Secondary, Role::Primary};
constexpr std::array kDiskStates{DiskState::Diskless,     DiskState::Attaching, DiskState::Failed,
                                 DiskState::Inconsistent, DiskState::Outdated,  DiskState::Consistent,
                                 DiskState::UpToDate,     DiskState::DUnknown};
constexpr std::array kGoodbyeReasons{GoodbyeReason::Stopping, GoodbyeReason::Disconnecting, GoodbyeReason::Dropped,
                                     GoodbyeReason::Restarting, GoodbyeReason::Refused};

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

FrameKind encode(const GenerationStored& stored, LittleWriter& writer) {
  write_generation(writer, stored.current);
  return FrameKind::GenerationStored;
}
void decode(BodyReader& reader, const DecodingContext&, GenerationStored& stored) {
  stored.current = reader.generation();
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
