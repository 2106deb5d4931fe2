// Shared by the two files that know the bodies of messages: how a body is read, the parts that messages of both have,
// and what data_messages.cpp gives to message_codec.cpp.
#pragma once

#include <array>
#include <cstdint>

#include "io/base/bytes.h"
#include "replicator/peer_protocol.h"

namespace lockstep::repl {

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

struct DecodingContext {
  uint64_t device_bytes = 0;
  uint32_t payload_bytes = 0;
  BodyStorage* storage = nullptr;
};

inline void write_generation(LittleWriter& writer, const Generation& generation) {
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

inline void write_position(LittleWriter& writer, const StreamPosition& position) {
  writer.u64(position.stream);
  writer.u64(position.through);
  writer.u32(position.term);
}
inline StreamPosition read_position(BodyReader& reader) {
  const uint64_t stream = reader.u64();
  const Sequence through = reader.u64();
  return {stream, through, reader.u32()};
}

// The bodies of data_messages.cpp. encode gives the frame's kind; decode leaves a reader that is broken, not ok(), or
// not at its end when the body does not have the message's form.
FrameKind encode(const Write& write, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext& context, Write& write);
FrameKind encode(const WriteZeroes& zeroes, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext& context, WriteZeroes& zeroes);
FrameKind encode(const StreamRules& rules, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, StreamRules& rules);
FrameKind encode(const RangeDigests& message, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext& context, RangeDigests& message);
FrameKind encode(const RangeCompared& message, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, RangeCompared& message);
FrameKind encode(const VerifyRequest& message, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, VerifyRequest& message);
FrameKind encode(const VerifyProgress& message, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, VerifyProgress& message);
FrameKind encode(const ResyncPaused& message, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, ResyncPaused& message);
FrameKind encode(const VerifyEnded& message, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, VerifyEnded& message);
FrameKind encode(const Barrier& barrier, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, Barrier& barrier);
FrameKind encode(const Acknowledged& acknowledged, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, Acknowledged& acknowledged);
FrameKind encode(const ResyncStart& start, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, ResyncStart& start);
FrameKind encode(const BitmapRuns& message, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext& context, BitmapRuns& message);
FrameKind encode(const BitmapWanted&, LittleWriter&);
void decode(BodyReader&, const DecodingContext&, BitmapWanted&);
FrameKind encode(const ResyncProgress& progress, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, ResyncProgress& progress);
FrameKind encode(const ResyncDone& done, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, ResyncDone& done);
FrameKind encode(const StableThrough& stable, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, StableThrough& stable);
FrameKind encode(const ReadRequest& request, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext& context, ReadRequest& request);
FrameKind encode(const ReadReply& reply, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext& context, ReadReply& reply);
FrameKind encode(const PauseWrites& pause, LittleWriter& writer);
void decode(BodyReader& reader, const DecodingContext&, PauseWrites& pause);
FrameKind encode(const WritesPaused&, LittleWriter&);
void decode(BodyReader&, const DecodingContext&, WritesPaused&);

}  // namespace lockstep::repl
