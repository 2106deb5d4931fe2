// The one place that decides whether a request may go to the backend. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "nbd-server/wire.h"

namespace lockstep::nbd {

// What an export holds a client to.
struct ExportLimits {
  uint64_t size_bytes = 0;
  uint32_t minimum_block_bytes = 512;     // a power of 2, 1 to 65536; offsets and lengths are multiples of it
  uint32_t preferred_block_bytes = 4096;  // a power of 2, at least 512 and minimum_block_bytes
  uint32_t maximum_payload_bytes = 32 * 1024 * 1024;  // of one READ or WRITE
  bool read_only = false;
  bool block_status = false;  // the client has selected what BLOCK_STATUS tells
};

// A WRITE whose payload is longer is not drained: the connection is dropped.
inline constexpr uint64_t kMaximumDrainBytes = 64 * 1024 * 1024;

struct RequestVerdict {
  enum class Decision : uint8_t {
    Submit,      // to the backend
    Succeed,     // answer success: there is nothing to do
    Fail,        // answer `error`; the payload is received and thrown away
    EndSession,  // DISC: finish what is outstanding, then close
    Disconnect,  // unreasonable: drop the connection
  };
  Decision decision = Decision::Fail;
  WireError error = WireError::None;  // of Fail
  uint64_t payload_bytes = 0;         // that follow the header on the wire, whatever the decision
  std::string_view reason;            // of Fail and Disconnect, for people; static storage
  friend bool operator==(const RequestVerdict&, const RequestVerdict&) = default;
};

RequestVerdict validate_request(const Request& request, const ExportLimits& limits, ReplyForm form);

}  // namespace lockstep::nbd
