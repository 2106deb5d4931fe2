// Runs of dirty blocks on the wire: as lengths, or as the bits themselves where that is shorter. docs/protocol.md has
// the forms. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "io/base/bytes.h"
#include "replicator/core/message.h"

namespace lockstep::repl {

// At most 3 + 16 bytes for each run, of a device of less than 2^56 blocks.
void write_bitmap_runs(std::span<const BitmapRun> runs, LittleWriter& writer);
// The runs, in `into`; nothing unless the bytes are what write_bitmap_runs() makes of some runs of a device of so many
// blocks, in order, at most as many as `into` has room for.
std::optional<std::span<const BitmapRun>> read_bitmap_runs(LittleReader& reader, uint64_t device_blocks,
                                                           std::span<BitmapRun> into);

}  // namespace lockstep::repl
