// Runs a fuzz target without libFuzzer: every file of a corpus folder, and then mutations of them, the same ones each
// time. Usage: replay_TARGET FOLDER [MUTATIONS]; by default as many as one second allows, at most 20000.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

Bytes mutated(const std::vector<Bytes>& corpus, std::mt19937_64& random) {
  Bytes bytes = corpus[random() % corpus.size()];
  for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
    if (bytes.empty()) bytes.push_back(0);
    const auto at = static_cast<ptrdiff_t>(random() % bytes.size());
    switch (random() % 6) {
      case 0:
        bytes[static_cast<size_t>(at)] ^= static_cast<uint8_t>(1U << (random() % 8));
        break;
      case 1:
        bytes[static_cast<size_t>(at)] = static_cast<uint8_t>(random());
        break;
      case 2:
        bytes[static_cast<size_t>(at)] = random() % 2 == 0 ? uint8_t{0} : uint8_t{0xff};
        break;
      case 3:
        bytes.erase(bytes.begin() + at, bytes.begin() + std::min<ptrdiff_t>(at + static_cast<ptrdiff_t>(random() % 8),
                                                                            static_cast<ptrdiff_t>(bytes.size())));
        break;
      case 4:
        bytes.insert(bytes.begin() + at, static_cast<uint8_t>(random()));
        break;
      default: {
        const Bytes& other = corpus[random() % corpus.size()];
        bytes.insert(bytes.begin() + at, other.begin(), other.end());
        break;
      }
    }
    if (bytes.size() > 4096) bytes.resize(4096);
  }
  return bytes;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [MUTATIONS]\n", arguments[0]);
    return 2;
  }
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[1])) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    LLVMFuzzerTestOneInput(corpus.back().data(), corpus.back().size());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: %s holds no inputs\n", arguments[0], arguments[1]);
    return 1;
  }
  const bool bounded = count < 3;
  const uint64_t mutations = bounded ? 20000 : std::strtoull(arguments[2], nullptr, 10);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  std::mt19937_64 random(1);
  uint64_t done = 0;
  for (; done < mutations && (!bounded || std::chrono::steady_clock::now() < end); ++done) {
    const Bytes bytes = mutated(corpus, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu inputs and %llu mutations\n", corpus.size(), static_cast<unsigned long long>(done));
  return 0;
}
