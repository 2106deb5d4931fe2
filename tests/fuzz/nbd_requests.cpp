// Requests in transmission: decoded, validated, and answered. The first bytes choose the form and the export's limits.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "io/base/check.h"
#include "nbd-server/reply_chunks.h"
#include "nbd-server/request_validation.h"
#include "nbd-server/wire.h"

namespace lockstep::nbd {
namespace {

using Decision = RequestVerdict::Decision;

void answer(ReplyForm form, const Request& request, const RequestVerdict& verdict) {
  ReplyHead head;
  encode_reply(form, request, verdict.error, verdict.reason, head);
  const auto reply = head.span();
  if (form == ReplyForm::Simple) {
    LOCKSTEP_CHECK(decode_simple_reply(reply) == (SimpleReply{verdict.error, request.cookie}));
    return;
  }
  const auto chunk = form == ReplyForm::Extended ? decode_extended_chunk(reply) : decode_compact_chunk(reply);
  LOCKSTEP_CHECK(chunk && chunk->cookie == request.cookie && chunk->flags == kChunkDone);
  LOCKSTEP_CHECK((chunk->type == ChunkType::None) == (verdict.error == WireError::None));
}

void answer_read(ReplyForm form, const Request& request, std::span<const uint8_t> bytes) {
  if (bytes.empty()) return;
  static std::vector<uint8_t> device(128 * 1024);  // zeroes, whenever it is not in use
  const auto data =
      std::span(device).first(static_cast<size_t>(std::min<uint64_t>(request.length_bytes, device.size())));
  // The input's bytes, with zeroes between them.
  for (size_t i = 0; i < bytes.size() && i * 4096 < data.size(); ++i) data[i * 4096] = bytes[i];
  ReplyHead head;
  if (form == ReplyForm::Simple) return encode_read_head(form, request, head);
  const ReadChunks split = split_read(data, request.offset_bytes, (request.flags & command_flag::kDf) != 0);
  size_t position = 0;
  LOCKSTEP_CHECK(split.count > 0);
  for (size_t i = 0; i < split.count; ++i) {
    LOCKSTEP_CHECK(split.chunks[i].offset_bytes == position && split.chunks[i].length_bytes > 0);
    position += split.chunks[i].length_bytes;
    encode_read_chunk(form, request, split.chunks[i], i + 1 == split.count, head);
  }
  LOCKSTEP_CHECK(position == data.size());
  for (size_t i = 0; i * 4096 < data.size(); ++i) data[i * 4096] = 0;
}

void run(std::span<const uint8_t> input) {
  if (input.size() < 4) return;
  const auto form = static_cast<ReplyForm>(input[0] % 3);
  ExportLimits limits;
  limits.minimum_block_bytes = 1U << (input[1] % 13);
  limits.size_bytes = uint64_t{limits.minimum_block_bytes} << (input[2] % 32);
  limits.read_only = (input[3] & 1) != 0;
  limits.block_status = (input[3] & 2) != 0 && form != ReplyForm::Simple;
  std::span<const uint8_t> left = input.subspan(4);
  const size_t header_bytes = form == ReplyForm::Extended ? kExtendedRequestBytes : kRequestBytes;
  while (left.size() >= header_bytes) {
    const auto request = form == ReplyForm::Extended ? decode_extended_request(left) : decode_compact_request(left);
    if (!request) return;
    left = left.subspan(header_bytes);
    const RequestVerdict verdict = validate_request(*request, limits, form);
    switch (verdict.decision) {
      case Decision::EndSession:
      case Decision::Disconnect:
        return;
      case Decision::Fail:
        LOCKSTEP_CHECK(verdict.error != WireError::None && verdict.payload_bytes <= kMaximumDrainBytes);
        answer(form, *request, verdict);
        break;
      case Decision::Succeed:
        answer(form, *request, verdict);
        break;
      case Decision::Submit: {
        const auto command = static_cast<Command>(request->command);
        if (command == Command::BlockStatus) {
          LOCKSTEP_CHECK(limits.block_status);
          if (verdict.payload_bytes > 0) break;
        }
        LOCKSTEP_CHECK(request->offset_bytes <= limits.size_bytes &&
                       request->length_bytes <= limits.size_bytes - request->offset_bytes);
        LOCKSTEP_CHECK((request->offset_bytes | request->length_bytes) % limits.minimum_block_bytes == 0);
        if (command == Command::Write) LOCKSTEP_CHECK(verdict.payload_bytes == request->length_bytes);
        if (command == Command::Read) answer_read(form, *request, left);
        break;
      }
    }
    left = left.subspan(static_cast<size_t>(std::min<uint64_t>(left.size(), verdict.payload_bytes)));
  }
}

}  // namespace
}  // namespace lockstep::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::nbd::run({data, size});
  return 0;
}
