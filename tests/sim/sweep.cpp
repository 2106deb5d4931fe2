#include "tests/sim/sweep.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <mutex>
#include <thread>

#include "tests/sim/probes.h"

namespace lockstep::sim {
namespace {

thread_local uint64_t seed_of_thread = 0;

// A check of the core that does not hold ends the program; its seed is wanted all the same.
void name_the_seed(int) {
  char text[128];
  const int length = std::snprintf(text, sizeof text, "seed %llu: a check of the core does not hold\n",
                                   static_cast<unsigned long long>(seed_of_thread));
  if (write(STDOUT_FILENO, text, static_cast<size_t>(length)) < 0) _exit(134);
  _exit(134);
}

void add(RunResult& total, const RunResult& one) {
  total.writes += one.writes;
  total.losses += one.losses;
  total.given_up += one.given_up;
  total.promotions += one.promotions;
  total.crashes += one.crashes;
  total.resyncs += one.resyncs;
  total.checks += one.checks;
  total.simulated_us += one.simulated_us;
}

}  // namespace

SweepResult sweep(const SweepOptions& options) {
  std::signal(SIGABRT, name_the_seed);
  const auto began = std::chrono::steady_clock::now();
  const auto elapsed = [began] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  SweepResult result;
  result.marks.assign(mark_names().size(), 0);
  std::atomic<uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  const auto work = [&] {
    while (!stop) {
      const uint64_t mine = next++;
      if (mine >= options.count || (options.seconds != 0 && elapsed() > static_cast<double>(options.seconds))) return;
      RunOptions run = options.run;
      run.seed = seed_of_thread = options.from + mine;
      begin_marks();
      World world(run);
      const RunResult one = world.run();
      const std::lock_guard lock(mutex);
      ++result.seeds;
      add(result.total, one);
      for (size_t mark = 0; mark < result.marks.size(); ++mark) result.marks[mark] += marks_reached()[mark];
      if (!one.ok && options.goes_on) {
        std::printf("seed %llu: %s\n", static_cast<unsigned long long>(run.seed), one.violation.c_str());
        std::fflush(stdout);
      }
      // The lowest of those that fail, as far as one is known: the same answer with any number of jobs.
      if (!one.ok && (result.ok || run.seed < result.failed_seed)) {
        result.ok = false;
        result.failed_seed = run.seed;
        result.failed = one;
        stop = !options.goes_on;
      }
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t job = 1; job < options.jobs; ++job) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  result.seconds = elapsed();
  return result;
}

}  // namespace lockstep::sim
