// Shared by the codec's two files: puts the header before a body that stands in its place already.
#pragma once

#include <cstdint>
#include <span>

#include "replicator/peer_protocol.h"

namespace lockstep::repl {

inline constexpr size_t kFrameChecksumOffset = 36;

// `to`: kFrameHeaderBytes of room, then the body. Gives the frame's length; body length and checksum of `header` are
// worked out here.
size_t finish_frame(const FrameHeader& header, std::span<uint8_t> to, size_t body_bytes);

}  // namespace lockstep::repl
