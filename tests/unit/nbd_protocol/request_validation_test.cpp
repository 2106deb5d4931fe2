#include "nbd-server/request_validation.h"

#include <catch2/catch.hpp>
#include <random>

namespace lockstep::nbd {
namespace {

using Decision = RequestVerdict::Decision;

constexpr uint64_t kMi = 1024 * 1024;

ExportLimits limits() {
  ExportLimits limits;
  limits.size_bytes = 100 * kMi;
  limits.minimum_block_bytes = 512;
  limits.maximum_payload_bytes = 32 * kMi;
  return limits;
}

Request request(Command command, uint64_t offset_bytes, uint64_t length_bytes, uint16_t flags = 0) {
  return {flags, static_cast<uint16_t>(command), 1, offset_bytes, length_bytes};
}

struct Row {
  const char* name;
  Request request;
  Decision decision;
  WireError error;
  ReplyForm form = ReplyForm::Structured;
  bool read_only = false;
  bool block_status = false;
};

}  // namespace

TEST_CASE("what is accepted and what is refused, and how") {
  const auto row = GENERATE(values<Row>({
      {"read", request(Command::Read, 512, 4096), Decision::Submit, WireError::None},
      {"read of the last block", request(Command::Read, 100 * kMi - 512, 512), Decision::Submit, WireError::None},
      {"read with FUA", request(Command::Read, 0, 512, command_flag::kFua), Decision::Submit, WireError::None},
      {"read with DF", request(Command::Read, 0, 512, command_flag::kDf), Decision::Submit, WireError::None},
      {"read with DF that was not offered", request(Command::Read, 0, 512, command_flag::kDf), Decision::Fail,
       WireError::Einval, ReplyForm::Simple},
      {"read past the end", request(Command::Read, 100 * kMi - 512, 1024), Decision::Fail, WireError::Einval},
      {"read at 2^64 - 512", request(Command::Read, UINT64_MAX - 511, 512), Decision::Fail, WireError::Einval},
      {"read of 32 MiB", request(Command::Read, 0, 32 * kMi), Decision::Submit, WireError::None},
      {"read of more, in chunks", request(Command::Read, 0, 33 * kMi), Decision::Fail, WireError::Eoverflow},
      {"read of more, simple", request(Command::Read, 0, 33 * kMi), Decision::Fail, WireError::Einval,
       ReplyForm::Simple},
      {"read misaligned in offset", request(Command::Read, 1, 512), Decision::Fail, WireError::Einval},
      {"read misaligned in length", request(Command::Read, 0, 513), Decision::Fail, WireError::Einval},
      {"read of nothing", request(Command::Read, 0, 0), Decision::Succeed, WireError::None},
      {"read of nothing past the end", request(Command::Read, 200 * kMi, 0), Decision::Fail, WireError::Einval},
      {"read on a read-only export", request(Command::Read, 0, 512), Decision::Submit, WireError::None,
       ReplyForm::Simple, true},
      {"write", request(Command::Write, 0, 4096), Decision::Submit, WireError::None},
      {"write with FUA", request(Command::Write, 0, 4096, command_flag::kFua), Decision::Submit, WireError::None},
      {"write with NO_HOLE", request(Command::Write, 0, 4096, command_flag::kNoHole), Decision::Fail,
       WireError::Einval},
      {"write with PAYLOAD_LEN in the compact form", request(Command::Write, 0, 4096, command_flag::kPayloadLength),
       Decision::Fail, WireError::Einval},
      {"write past the end", request(Command::Write, 100 * kMi, 512), Decision::Fail, WireError::Enospc},
      {"write that is misaligned", request(Command::Write, 0, 100), Decision::Fail, WireError::Einval},
      {"write of 33 MiB", request(Command::Write, 0, 33 * kMi), Decision::Fail, WireError::Einval},
      {"write of 65 MiB", request(Command::Write, 0, 65 * kMi), Decision::Disconnect, WireError::None},
      {"write of nothing", request(Command::Write, 0, 0), Decision::Succeed, WireError::None},
      {"write on a read-only export", request(Command::Write, 0, 512), Decision::Fail, WireError::Eperm,
       ReplyForm::Structured, true},
      {"flush", request(Command::Flush, 0, 0), Decision::Submit, WireError::None},
      {"flush with FUA", request(Command::Flush, 0, 0, command_flag::kFua), Decision::Submit, WireError::None},
      {"flush with a range", request(Command::Flush, 0, 512), Decision::Fail, WireError::Einval},
      {"flush on a read-only export", request(Command::Flush, 0, 0), Decision::Submit, WireError::None,
       ReplyForm::Structured, true},
      {"trim", request(Command::Trim, 0, 64 * kMi, command_flag::kFua), Decision::Submit, WireError::None},
      {"trim past the end", request(Command::Trim, 99 * kMi, 2 * kMi), Decision::Fail, WireError::Einval},
      {"trim on a read-only export", request(Command::Trim, 0, 512), Decision::Fail, WireError::Eperm,
       ReplyForm::Structured, true},
      {"zeroes over all", request(Command::WriteZeroes, 0, 100 * kMi, command_flag::kNoHole), Decision::Submit,
       WireError::None},
      {"zeroes past the end", request(Command::WriteZeroes, 99 * kMi, 2 * kMi), Decision::Fail, WireError::Enospc},
      {"zeroes, fast", request(Command::WriteZeroes, 0, 512, command_flag::kFastZero), Decision::Submit,
       WireError::None},
      {"cache", request(Command::Cache, 0, 64 * kMi), Decision::Succeed, WireError::None},
      {"cache past the end", request(Command::Cache, 100 * kMi, 512), Decision::Fail, WireError::Einval},
      {"cache with a flag", request(Command::Cache, 0, 512, command_flag::kNoHole), Decision::Fail, WireError::Einval},
      {"cache with FUA on a read-only export", request(Command::Cache, 0, 512, command_flag::kFua), Decision::Succeed,
       WireError::None, ReplyForm::Structured, true},
      {"block status", request(Command::BlockStatus, 0, 512), Decision::Submit, WireError::None, ReplyForm::Structured,
       false, true},
      {"block status, one extent", request(Command::BlockStatus, 0, 512, command_flag::kReqOne), Decision::Submit,
       WireError::None, ReplyForm::Structured, false, true},
      {"block status with DF", request(Command::BlockStatus, 0, 512, command_flag::kDf), Decision::Fail,
       WireError::Einval, ReplyForm::Structured, false, true},
      {"block status of nothing", request(Command::BlockStatus, 0, 0), Decision::Fail, WireError::Einval,
       ReplyForm::Structured, false, true},
      {"block status past the end", request(Command::BlockStatus, 100 * kMi, 512), Decision::Fail, WireError::Einval,
       ReplyForm::Structured, false, true},
      {"block status in the simple form", request(Command::BlockStatus, 0, 512), Decision::Fail, WireError::Einval,
       ReplyForm::Simple, false, true},
      {"block status of 8 EiB", request(Command::BlockStatus, 0, 1ULL << 63), Decision::Fail, WireError::Einval,
       ReplyForm::Extended, false, true},
      {"block status with a payload of nothing, past the end",
       request(Command::BlockStatus, 200 * kMi, 0, command_flag::kPayloadLength), Decision::Fail, WireError::Einval,
       ReplyForm::Extended, false, true},
      {"extended trim of more than a payload", request(Command::Trim, 0, 100 * kMi), Decision::Submit, WireError::None,
       ReplyForm::Extended},
      {"extended write without a payload", request(Command::Write, 0, 512), Decision::Fail, WireError::Einval,
       ReplyForm::Extended},
      {"an unknown command", {0, 4711, 1, 0, 512}, Decision::Fail, WireError::Einval},
      {"an unknown flag", request(Command::Read, 0, 512, 1U << 15), Decision::Fail, WireError::Einval},
      {"block status without a selection", request(Command::BlockStatus, 0, 512), Decision::Fail, WireError::Einval},
      {"disconnect", request(Command::Disconnect, 0, 0), Decision::EndSession, WireError::None},
  }));
  INFO(row.name);
  ExportLimits export_limits = limits();
  export_limits.read_only = row.read_only;
  export_limits.block_status = row.block_status;
  const RequestVerdict verdict = validate_request(row.request, export_limits, row.form);
  CHECK(verdict.decision == row.decision);
  CHECK(verdict.error == row.error);
  CHECK(verdict.payload_bytes ==
        (row.request.command == static_cast<uint16_t>(Command::Write) && row.form != ReplyForm::Extended
             ? row.request.length_bytes
             : 0));
  if (row.decision == Decision::Fail) CHECK_FALSE(verdict.reason.empty());
}

TEST_CASE("what is submitted always lies inside the export, whatever is asked") {
  std::mt19937_64 random(3);
  size_t submitted = 0;
  for (int i = 0; i < 200000; ++i) {
    ExportLimits export_limits = limits();
    export_limits.minimum_block_bytes = 1U << (random() % 13);
    export_limits.read_only = random() % 4 == 0;
    const auto number = [&random]() -> uint64_t {
      switch (random() % 4) {
        case 0:
          return random();
        case 1:
          return (random() % 201) * kMi;
        case 2:
          return UINT64_MAX - random() % 4096;
        default:
          return (random() % 64) * 512;
      }
    };
    const uint64_t any_flags = random() % 4 == 0 ? 64 : 2;
    Request asked{static_cast<uint16_t>(random() % any_flags), static_cast<uint16_t>(random() % 9), random(), number(),
                  number()};
    const auto form = static_cast<ReplyForm>(random() % 3);
    if (form != ReplyForm::Extended) asked.length_bytes &= UINT32_MAX;
    const RequestVerdict verdict = validate_request(asked, export_limits, form);
    if (verdict.decision == Decision::Fail) {
      REQUIRE(verdict.error != WireError::None);
      REQUIRE(verdict.payload_bytes <= kMaximumDrainBytes);
    }
    if (verdict.decision != Decision::Submit) continue;
    ++submitted;
    REQUIRE(asked.offset_bytes <= export_limits.size_bytes);
    REQUIRE(asked.length_bytes <= export_limits.size_bytes - asked.offset_bytes);
    REQUIRE(asked.offset_bytes % export_limits.minimum_block_bytes == 0);
    REQUIRE(asked.length_bytes % export_limits.minimum_block_bytes == 0);
    REQUIRE(verdict.payload_bytes <= export_limits.maximum_payload_bytes);
    const auto command = static_cast<Command>(asked.command);
    if (export_limits.read_only) REQUIRE((command == Command::Read || command == Command::Flush));
    if (command == Command::Read) REQUIRE(asked.length_bytes <= export_limits.maximum_payload_bytes);
    if (command == Command::Write) REQUIRE(verdict.payload_bytes == asked.length_bytes);
  }
  CHECK(submitted > 1000);
}

}  // namespace lockstep::nbd
