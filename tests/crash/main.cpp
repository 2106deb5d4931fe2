// lockstep-crash-states: what a loss of power at any moment may leave, recovered by the shipped code.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/crash/checker.h"
#include "tests/crash/workload.h"

namespace {

using lockstep::crash::CheckResult;

void usage() {
  std::puts(
      "usage: lockstep-crash-states [--workloads N] [--from SEED] [--jobs N] [--operations N] [--sessions N]\n"
      "                             [--states N]\n"
      "  --workloads N   recorded and checked, one for each seed from --from (default 1) on (default 1)\n"
      "  --operations N  of each session of a workload (default 120); --sessions N of each workload (default 3)\n"
      "  --states N      stop after so many states were recovered; workloads then go on until they are\n"
      "Prints how many states were checked; exits 1 at the first that is wrong.");
}

// In memory where there is such a file system: every write is synced.
std::string make_folder() {
  std::string base = "/tmp";
  if (const char* chosen = std::getenv("TMPDIR"); chosen != nullptr && *chosen != '\0') base = chosen;
  if (::access("/dev/shm", W_OK) == 0) base = "/dev/shm";
  std::string folder = base + "/lockstep-crash-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) throw std::runtime_error("cannot make a folder in " + base);
  return folder;
}

struct FolderRemover {
  std::string path;
  ~FolderRemover() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

int main(int argc, char** argv) {
  uint64_t workloads = 1, from = 1, jobs = 1, operations = 120, sessions = 3, wanted_states = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    uint64_t* value = option == "--workloads"    ? &workloads
                      : option == "--from"       ? &from
                      : option == "--jobs"       ? &jobs
                      : option == "--operations" ? &operations
                      : option == "--sessions"   ? &sessions
                      : option == "--states"     ? &wanted_states
                                                 : nullptr;
    if (value == nullptr || i + 1 == argc) {
      usage();
      return option == "--help" ? 0 : 2;
    }
    *value = std::strtoull(argv[++i], nullptr, 10);
  }
  spdlog::set_level(spdlog::level::off);
  const auto began = std::chrono::steady_clock::now();
  std::atomic<uint64_t> next{from}, states{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  CheckResult total;
  uint64_t done = 0, writes = 0, resyncs = 0;
  const auto work = [&] {
    for (;;) {
      const uint64_t seed = next++;
      if (failed || (wanted_states != 0 ? states >= wanted_states : seed >= from + workloads)) return;
      CheckResult result;
      lockstep::crash::Trace trace;
      try {
        const FolderRemover folder{make_folder()};
        trace = lockstep::crash::record_workload(
            {seed, static_cast<int>(sessions), static_cast<int>(operations), folder.path});
        lockstep::crash::CheckOptions options;
        options.folder = folder.path + "/states";
        options.seed = seed;
        std::filesystem::create_directory(options.folder);
        result = lockstep::crash::Checker(trace, options).run();
      } catch (const std::exception& error) {
        result.violation = error.what();
      }
      states += result.states;
      const std::lock_guard<std::mutex> lock(mutex);
      if (!result.violation.empty() && !failed.exchange(true)) {
        std::printf("workload %llu: %s\n", static_cast<unsigned long long>(seed), result.violation.c_str());
      }
      ++done;
      writes += trace.writes;
      resyncs += trace.resyncs;
      total.crash_points += result.crash_points;
      total.states += result.states;
      total.cut_recoveries += result.cut_recoveries;
      total.flushes += result.flushes;
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t job = 1; job < jobs; ++job) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::printf(
      "%llu workloads%s: %llu writes, %llu resyncs, %llu flushes checked, %llu crash points, %llu states recovered, "
      "%llu of them of cut recoveries, %.0f s\n",
      static_cast<unsigned long long>(done), failed ? "" : ", no violation", static_cast<unsigned long long>(writes),
      static_cast<unsigned long long>(resyncs), static_cast<unsigned long long>(total.flushes),
      static_cast<unsigned long long>(total.crash_points), static_cast<unsigned long long>(total.states),
      static_cast<unsigned long long>(total.cut_recoveries), seconds);
  return failed ? 1 : 0;
}
