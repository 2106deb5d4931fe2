// lockstep-sim: runs seeds; each is a whole life of a mirrored device.
#include <malloc.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/sim/probes.h"
#include "tests/sim/sweep.h"

namespace {

using namespace lockstep::sim;  // NOLINT(google-build-using-namespace)

// In a sweep of so many seeds every mark is reached.
constexpr uint64_t kSeedsForMarks = 20'000;
constexpr std::array<std::string_view, 3> kPolicies{"continue", "suspend", "arbiter"};  // as LossPolicy has them

void usage() {
  std::puts(
      "usage: lockstep-sim --seed N [--trace] | --seeds COUNT [--from N] [--jobs N] [--seconds N] [--all] [--marks]\n"
      "                    [--nodes N] [--policy P] [--protocol P] [--promise P] [--mutant NAME] | --list-mutants\n"
      "  --seed N       runs one seed, and with --trace prints what happens\n"
      "  --seeds COUNT  runs COUNT seeds from --from (default 1) on; exits 1 at the first violation, and names its "
      "seed\n"
      "  --jobs N       at once (default 1)\n"
      "  --seconds N    begins no seed after so many seconds\n"
      "  --all          goes on after a violation, and prints each\n"
      "  --marks        prints how many seeds reached each mark; in sweeps of 20000 seeds and more, a mark that none\n"
      "                 reached is a failure in any case\n"
      "  --nodes N      how many nodes there are, 2 to 4 (default: 2)\n"
      "  --protocol P   A, B or C (default: drawn by the seed, and changed in some runs)\n"
      "  --promise P    holds the runs to what this protocol promises, whichever they use: must fail for a weaker one\n"
      "  --sync CHOICE  all, first or any: whose promises a write waits for with three nodes and more (default: "
      "drawn)\n"
      "  --policy P     continue, suspend or arbiter: on-peer-loss of all nodes (default: drawn)\n"
      "  --disk-errors  some seeds know disks that fail, are detached and attached with more than two nodes, too\n"
      "  --lost-disks   … that are replaced by empty ones or older copies with two or four nodes, too ("
      "docs/testing.md)\n"
      "  --ignore-flushes  a control: disks that flush nothing, which must be found\n"
      "  --mutant NAME  a known bug is put back into the core; --list-mutants prints their names");
}

std::string sync_option(const RunOptions& options) {
  if (!options.sync) return {};
  const bool all = *options.sync == lockstep::repl::SyncChoice::All;
  return all ? " --sync all" : *options.sync == lockstep::repl::SyncChoice::First ? " --sync first" : " --sync any";
}

std::string policy_option(const RunOptions& options) {
  return options.policy ? " --policy " + std::string(kPolicies[static_cast<size_t>(*options.policy)]) : "";
}

std::string protocol_option(const RunOptions& options) {
  if (!options.protocol) return {};
  return *options.protocol == lockstep::repl::Protocol::A   ? " --protocol A"
         : *options.protocol == lockstep::repl::Protocol::B ? " --protocol B"
                                                            : " --protocol C";
}

void print_figures(const SweepResult& result) {
  const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "%llu seeds, no violation: %llu writes, %llu promotions, %llu crashes, %llu resyncs, %llu checks of stable "
      "storage, %.0f simulated seconds, %.0f seeds a minute\n",
      number(result.seeds), number(result.total.writes), number(result.total.promotions), number(result.total.crashes),
      number(result.total.resyncs), number(result.total.checks), static_cast<double>(result.total.simulated_us) / 1e6,
      static_cast<double>(result.seeds) / result.seconds * 60);
}

void print_marks(const SweepResult& result) {
  for (size_t mark = 0; mark < result.marks.size(); ++mark) {
    std::printf("%10llu  %s\n", static_cast<unsigned long long>(result.marks[mark]), mark_names()[mark].c_str());
  }
}

bool all_marks_reached(const SweepResult& result) {
  bool all = true;
  for (size_t mark = 0; mark < result.marks.size(); ++mark) {
    const std::string& name = mark_names()[mark];
    const auto& excused = unreached_marks();
    const bool is_excused =
        std::any_of(excused.begin(), excused.end(), [&name](const UnreachedMark& each) { return name == each.name; });
    if (result.marks[mark] != 0 || is_excused) continue;
    std::printf("no seed reached the mark \"%s\": the runs do not test it any more\n", name.c_str());
    all = false;
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  SweepOptions options;
  uint64_t seed = 0;
  bool marks = false;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto number = [&]() -> uint64_t { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (option == "--seed") {
      seed = number();
    } else if (option == "--seeds") {
      options.count = number();
    } else if (option == "--from") {
      options.from = number();
    } else if (option == "--jobs") {
      options.jobs = std::max<uint64_t>(1, number());
    } else if (option == "--seconds") {
      options.seconds = number();
    } else if (option == "--nodes") {
      options.run.nodes = static_cast<int>(number());
    } else if (option == "--protocol" || option == "--promise") {
      const char letter = i + 1 < argc ? *argv[++i] : '?';
      if (letter < 'A' || letter > 'C') {
        usage();
        return 2;
      }
      (option == "--protocol" ? options.run.protocol : options.run.promise) =
          static_cast<lockstep::repl::Protocol>(letter - 'A');
    } else if (option == "--mutant" && i + 1 < argc) {
      const std::string name = argv[++i];
      if (!switch_mutant_on(name)) {
        std::fprintf(stderr, "lockstep-sim: there is no mutant %s; see --list-mutants\n", name.c_str());
        return 2;
      }
    } else if (option == "--sync") {
      const std::string choice = i + 1 < argc ? argv[++i] : "";
      if (choice != "all" && choice != "first" && choice != "any") {
        std::fprintf(stderr, "lockstep-sim: --sync is all, first or any\n");
        return 2;
      }
      options.run.sync = choice == "all"     ? lockstep::repl::SyncChoice::All
                         : choice == "first" ? lockstep::repl::SyncChoice::First
                                             : lockstep::repl::SyncChoice::Any;
    } else if (option == "--policy") {
      const std::string policy = i + 1 < argc ? argv[++i] : "";
      const auto* found = std::find(kPolicies.begin(), kPolicies.end(), policy);
      if (found == kPolicies.end()) {
        std::fprintf(stderr, "lockstep-sim: --policy is continue, suspend or arbiter\n");
        return 2;
      }
      options.run.policy = static_cast<lockstep::repl::LossPolicy>(found - kPolicies.begin());
    } else if (option == "--disk-errors") {
      options.run.disk_errors = true;
    } else if (option == "--lost-disks") {
      options.run.lost_disks = true;
    } else if (option == "--ignore-flushes") {
      options.run.ignore_flushes = true;
    } else if (option == "--list-mutants") {
      for (const std::string& name : mutant_names()) std::puts(name.c_str());
      return 0;
    } else if (option == "--all") {
      options.goes_on = true;
    } else if (option == "--marks") {
      marks = true;
    } else if (option == "--trace") {
      options.run.trace = true;
    } else {
      usage();
      return option == "--help" ? 0 : 2;
    }
  }
  if (seed != 0) {
    options.from = seed;
    options.count = 1;
  }
  if (options.count == 0 || options.run.nodes == 1 || options.run.nodes > 4) {
    usage();
    return 2;
  }
  // Each run reserves a few large buffers and touches little of them: kept, instead of asked of the kernel each time.
  mallopt(M_MMAP_THRESHOLD, 256 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
  const SweepResult result = sweep(options);
  if (!result.ok) {
    const auto failed = static_cast<unsigned long long>(result.failed_seed);
    std::printf("seed %llu: %s\n  replay: lockstep-sim --seed %llu --trace%s%s%s%s%s%s\n", failed,
                result.failed.violation.c_str(), failed,
                options.run.nodes != 0 ? (" --nodes " + std::to_string(options.run.nodes)).c_str() : "",
                policy_option(options.run).c_str(), sync_option(options.run).c_str(),
                protocol_option(options.run).c_str(), options.run.disk_errors ? " --disk-errors" : "",
                options.run.lost_disks ? " --lost-disks" : "");
    return 1;
  }
  if (marks) print_marks(result);
  print_figures(result);
  if (result.total.losses > 0) {
    std::printf("%llu promotions lost answered writes with their Primary, as protocol A may\n",
                static_cast<unsigned long long>(result.total.losses));
  }
  if (result.total.given_up > 0) {
    std::printf("%llu runs ended early at a limit that the documents name (docs/arbiter.md, docs/states.md)\n",
                static_cast<unsigned long long>(result.total.given_up));
  }
  return result.seeds >= kSeedsForMarks && options.run.nodes == 0 && !all_marks_reached(result) ? 1 : 0;
}
