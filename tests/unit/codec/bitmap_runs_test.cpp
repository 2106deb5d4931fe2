// The coding of a bitmap's runs: what comes back, what is refused, and how short it is.
#include "replicator/bitmap_runs.h"

#include <array>
#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "io/base/units.h"

namespace lockstep::repl {
namespace {

using Runs = std::vector<BitmapRun>;
constexpr uint64_t kBlocks = 20 * kGiB / kBlockBytes;

std::vector<uint8_t> encoded(const Runs& runs) {
  std::vector<uint8_t> bytes(3 + 16 * kRunsPerMessage);
  LittleWriter writer(bytes);
  write_bitmap_runs(runs, writer);
  REQUIRE(writer.ok());
  bytes.resize(writer.position_bytes());
  return bytes;
}

std::optional<Runs> decoded(std::span<const uint8_t> bytes, uint64_t blocks = kBlocks, size_t room = kRunsPerMessage) {
  Runs into(room);
  LittleReader reader(bytes);
  const auto runs = read_bitmap_runs(reader, blocks, into);
  if (!runs || reader.left_bytes() != 0) return {};
  return Runs(runs->begin(), runs->end());
}

bool same(const Runs& one, const Runs& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(), [](const BitmapRun& a, const BitmapRun& b) {
    return a.first_block == b.first_block && a.block_count == b.block_count;
  });
}

// Each block dirty with this chance, cut into messages as a target does.
std::vector<Runs> random_bitmap(double density, uint64_t blocks) {
  std::mt19937_64 random(7);
  std::bernoulli_distribution dirty(density);
  std::vector<Runs> messages(1);
  bool before = false;
  for (uint64_t block = 0; block < blocks; ++block) {
    const bool now = dirty(random);
    if (now && before) {
      ++messages.back().back().block_count;
    } else if (now) {
      if (messages.back().size() == kRunsPerMessage) messages.emplace_back();
      messages.back().push_back({block, 1});
    }
    before = now;
  }
  return messages;
}

}  // namespace

TEST_CASE("runs come back as they were, in the form that is shorter") {
  struct Example {
    Runs runs;
    int form;
  };
  const std::vector<Example> examples{
      {Runs{}, 1},
      {Runs{{0, 1}}, 2},
      {Runs{{0, kBlocks}}, 1},
      {Runs{{kBlocks - 1, 1}}, 2},
      {Runs{{0, 1}, {kBlocks - 1, 1}}, 1},
      {Runs{{5, 1}, {7, 1}, {9, 1}, {11, 1}, {13, 2}}, 2},
      {Runs{{1000, 1}, {1002, 1}, {1004, 1}, {1006, 1}, {1008, 3}, {1012, 1}}, 2},
  };
  const Example& example = examples[static_cast<size_t>(GENERATE(range(0, 7)))];
  const Runs& runs = example.runs;
  const std::vector<uint8_t> bytes = encoded(runs);
  CHECK(int{bytes[0]} == example.form);
  const auto back = decoded(bytes);
  REQUIRE(back);
  CHECK(same(*back, runs));
  for (size_t length = 0; length < bytes.size(); ++length) CHECK_FALSE(decoded(std::span(bytes).first(length)));
}

TEST_CASE("random runs of any density come back, and a cut or an extra byte is noticed") {
  for (const double density : {0.0001, 0.01, 0.1, 0.5, 0.9, 0.999}) {
    for (const Runs& runs : random_bitmap(density, 60'000)) {
      std::vector<uint8_t> bytes = encoded(runs);
      const auto back = decoded(bytes);
      REQUIRE(back);
      REQUIRE(same(*back, runs));
      CHECK_FALSE(decoded(std::span(bytes).first(bytes.size() - 1)));
      bytes.push_back(0);
      CHECK_FALSE(decoded(bytes));
    }
  }
}

TEST_CASE("what is no list of runs is refused") {
  using Bytes = std::vector<uint8_t>;
  const std::vector<Bytes> examples{
      Bytes{},
      Bytes{0},
      {3, 0, 0},
      {1, 1, 0, 0, 0},                                                  // a run of nothing
      {1, 2, 0, 0, 1, 0, 1},                                            // two runs that are one
      {1, 1, 0, 0x80, 0, 1},                                            // a number longer than it need be
      {1, 1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 1},  // a number of more than 8 bytes
      {1, 1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1},     // beyond the device
      {1, 1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F},                       // longer than the device
      {1, 1, 4, 0, 1},                                                  // more runs than a message has
      {2, 0, 0},                                                        // no bits
      {2, 0, 8, 0x54},                                                  // the first bit is clean
      {2, 0, 8, 0x55},                                                  // the last one is
      {2, 0, 7, 0xD5},                                                  // bits behind the end
      {2, 0, 16, 0xFF, 0xFF},                                           // not shorter than as lengths
      {2, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x01},                       // more bits than there are
  };
  for (const Bytes& bytes : examples) CHECK_FALSE(decoded(bytes));
}

TEST_CASE("no more runs than there is room for") {
  const Runs runs{{1, 1}, {3, 1}, {5, 1}, {7, 1}, {9, 1}, {11, 1}, {13, 1}, {15, 1}};
  const std::vector<uint8_t> bits = encoded(runs);
  CHECK(bits[0] == 2);
  CHECK(decoded(bits, kBlocks, 8));
  CHECK_FALSE(decoded(bits, kBlocks, 7));
  CHECK_FALSE(decoded(bits, 15, 8));
}

TEST_CASE("random bytes are refused, or mean what they are") {
  std::mt19937_64 random(3);
  for (int i = 0; i < 200'000; ++i) {
    std::vector<uint8_t> bytes(random() % 24);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() % 4 == 0 ? random() : random() % 4);
    if (const auto runs = decoded(bytes)) REQUIRE(encoded(*runs) == bytes);
  }
}

// What a target sends of 20 GiB; the figures of docs/protocol.md.
TEST_CASE("a random bitmap takes few messages and bytes") {
  const auto cost = [](double density) {
    std::pair<size_t, size_t> messages_and_bytes;
    for (const Runs& runs : random_bitmap(density, kBlocks)) {
      ++messages_and_bytes.first;
      messages_and_bytes.second += encoded(runs).size();
    }
    return messages_and_bytes;
  };
  const auto [messages, bytes] = cost(0.01);
  WARN("1% of 20 GiB at random: " << messages << " messages, " << bytes << " bytes");
  CHECK(messages < 60);
  CHECK(bytes < 150'000);
  const auto [dense_messages, dense_bytes] = cost(0.5);
  WARN("50% of 20 GiB at random: " << dense_messages << " messages, " << dense_bytes << " bytes");
  CHECK(dense_bytes < kBlocks / 8 + 20 * dense_messages);
}

}  // namespace lockstep::repl
