// CRC32C (Castagnoli, polynomial 0x1EDC6F41 reflected, as in iSCSI, RFC 3720 appendix B.4).
#pragma once

#include <cstdint>
#include <span>

namespace lockstep {

// The checksum of `bytes`; to go on over several pieces, pass the result so far as `seed`.
// crc32c("123456789") is 0xE3069283. Uses SSE4.2 where the processor has it.
uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t seed = 0);

// The table-driven form, for processors without the instruction, and to test the other against.
uint32_t crc32c_portable(std::span<const uint8_t> bytes, uint32_t seed = 0);

}  // namespace lockstep
