#include "replicator/block_digest.h"

#include <gnutls/crypto.h>

#include <array>

#include "io/base/check.h"

namespace lockstep::repl {

BlockDigest digest_of(std::span<const uint8_t> block) {
  std::array<uint8_t, 32> digest{};
  LOCKSTEP_CHECK(gnutls_hash_fast(GNUTLS_DIG_SHA256, block.data(), block.size(), digest.data()) == 0);
  const auto number_at = [&digest](size_t at) {
    uint64_t number = 0;
    for (size_t i = 0; i < 8; ++i) number = number << 8 | digest[at + i];
    return number;
  };
  return {number_at(0), number_at(8)};
}

const BlockDigest& digest_of_zeroes() {
  static const BlockDigest digest = digest_of(std::array<uint8_t, kBlockBytes>{});
  return digest;
}

}  // namespace lockstep::repl
