// What stands for a block of kBlockBytes when two nodes compare it: the first 128 bits of its SHA-256 (FIPS 180-4),
// high first, both big-endian. Nobody finds two contents with one digest by chance, nor on purpose for less than 2^64
// tries, and who can write to the device gains nothing by it.
#pragma once

#include <cstdint>
#include <span>

#include "replicator/core/types.h"

namespace lockstep::repl {

BlockDigest digest_of(std::span<const uint8_t> block);
// Of a block of zeroes, which need not be read for it.
const BlockDigest& digest_of_zeroes();

}  // namespace lockstep::repl
