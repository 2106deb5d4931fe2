// lockstep-sim: runs seeds; each is a whole life of a mirrored device.
#include <malloc.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/sim/world.h"

namespace {

void usage() {
  std::puts(
      "usage: lockstep-sim [--seed N [--trace]] | [--seeds COUNT] [--from N] [--jobs N] [--nodes N]\n"
      "  --seed N      runs one seed, and with --trace prints what happens\n"
      "  --seeds COUNT runs COUNT seeds from --from (default 1) on; exits 1 at the first violation, and names its "
      "seed\n"
      "  --nodes N     how many nodes there are, 2 to 4 (default: drawn by the seed)");
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = 0, count = 0, from = 1, jobs = 1, nodes = 0;
  bool trace = false;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto number = [&]() -> uint64_t { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (option == "--seed") {
      seed = number();
    } else if (option == "--seeds") {
      count = number();
    } else if (option == "--from") {
      from = number();
    } else if (option == "--jobs") {
      jobs = std::max<uint64_t>(1, number());
    } else if (option == "--nodes") {
      nodes = number();
    } else if (option == "--trace") {
      trace = true;
    } else {
      usage();
      return option == "--help" ? 0 : 2;
    }
  }
  if ((seed == 0 && count == 0) || nodes == 1 || nodes > 4) {
    usage();
    return 2;
  }
  if (seed != 0) {
    from = seed;
    count = 1;
  }
  // Each run reserves a few large buffers and touches little of them: kept, instead of asked of the kernel each time.
  mallopt(M_MMAP_THRESHOLD, 256 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
  const auto began = std::chrono::steady_clock::now();
  std::atomic<uint64_t> next{from};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  lockstep::sim::RunResult total;
  const auto work = [&] {
    while (!failed) {
      const uint64_t mine = next++;
      if (mine >= from + count) return;
      lockstep::sim::World world({mine, static_cast<int>(nodes), trace});
      const auto result = world.run();
      const std::lock_guard lock(mutex);
      total.writes += result.writes;
      total.promotions += result.promotions;
      total.crashes += result.crashes;
      total.resyncs += result.resyncs;
      total.checks += result.checks;
      total.simulated_us += result.simulated_us;
      if (!result.ok) {
        failed = true;
        std::printf("seed %llu: %s\n  replay: lockstep-sim --seed %llu --trace\n",
                    static_cast<unsigned long long>(mine), result.violation.c_str(),
                    static_cast<unsigned long long>(mine));
      }
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t job = 1; job < jobs; ++job) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (failed) return 1;
  std::printf(
      "%llu seeds, no violation: %llu writes, %llu promotions, %llu crashes, %llu resyncs, %llu checks of stable "
      "storage, %.0f simulated seconds, %.0f seeds a minute\n",
      static_cast<unsigned long long>(count), static_cast<unsigned long long>(total.writes),
      static_cast<unsigned long long>(total.promotions), static_cast<unsigned long long>(total.crashes),
      static_cast<unsigned long long>(total.resyncs), static_cast<unsigned long long>(total.checks),
      static_cast<double>(total.simulated_us) / 1e6, static_cast<double>(count) / seconds * 60);
  return 0;
}
