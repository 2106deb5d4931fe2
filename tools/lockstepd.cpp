// lockstepd: the node daemon. One process for each resource on each node; lockstepd(8).
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/program_options.hpp>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <string>

#include "tools/configuration.h"
#include "tools/daemon.h"
#include "tools/exit_code.h"
#include "tools/log_sink.h"
#include "tools/node_choice.h"

namespace options = boost::program_options;
using namespace lockstep;
using namespace lockstep::tools;

namespace {

constexpr const char* kUsage =
    "usage: lockstepd RESOURCE [--config FILE] [--node NAME] [--run-dir DIR] [--verbose]\n"
    "\n"
    "Runs a node of a replicated block device in the foreground; logs to stderr.\n";

bool logs_to_journal() {
  return is_journal_stream(STDERR_FILENO, std::getenv("JOURNAL_STREAM"));
}

constexpr const char* kLogger = "lockstepd";

// For people on a terminal without a date; whoever looks for the resource in the journal finds it.
int fail(ExitCode code, const std::string& message) {
  if (logs_to_journal() && spdlog::default_logger()->name() == kLogger) {
    spdlog::error("lockstepd: {}", message);
  } else {
    std::cerr << (logs_to_journal() ? "<3>" : "") << "lockstepd: " << message << std::endl;
  }
  return static_cast<int>(code);
}

int run(const options::variables_map& given) {
  const auto text = [&](const char* name) {
    return given.count(name) != 0 ? given[name].as<std::string>() : std::string();
  };
  const std::string resource = text("resource");
  if (resource.empty()) return fail(ExitCode::Usage, "which resource? See 'lockstepd --help'");
  const std::string path = given.count("config") != 0 ? text("config") : default_configuration_path(resource);
  const Result<ResourceConfiguration> configuration = load_configuration(path, resource);
  if (!configuration) return fail(ExitCode::Usage, configuration.error().message);
  const std::string run_dir = choose_run_dir(text("run-dir"));
  const Result<const NodeConfiguration*> node = choose_node(*configuration, text("node"), run_dir, this_host_name());
  if (!node) return fail(ExitCode::Usage, node.error().message);

  auto daemon = Daemon::start(*configuration, **node, run_dir);
  if (!daemon) return fail(ExitCode::Failed, daemon.error().message);
  return (*daemon)->run() ? static_cast<int>(ExitCode::Done) : static_cast<int>(ExitCode::Failed);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    options::options_description known("options");
    known.add_options()("config", options::value<std::string>(), "configuration file")(
        "node", options::value<std::string>(), "this node's name")(
        "run-dir", options::value<std::string>(), "folder of the control socket")("verbose", "log more")(
        "help", "this text")("version", "the version")("resource", options::value<std::string>());
    options::positional_options_description positional;
    positional.add("resource", 1);
    options::variables_map given;
    options::store(options::command_line_parser(argc, argv).options(known).positional(positional).run(), given);
    if (given.count("help") != 0) {
      std::cout << kUsage;
      return static_cast<int>(ExitCode::Done);
    }
    if (given.count("version") != 0) {
      std::cout << "lockstepd " << LOCKSTEP_VERSION << "\n";
      return static_cast<int>(ExitCode::Done);
    }
    const std::string resource = given.count("resource") != 0 ? given["resource"].as<std::string>() : std::string();
    const auto sink = logs_to_journal() && is_valid_name(resource)
                          ? std::make_shared<LogSink>(STDERR_FILENO, kJournalSocket, resource)
                          : std::make_shared<LogSink>(STDERR_FILENO, logs_to_journal());
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(kLogger, sink));
    spdlog::set_level(given.count("verbose") != 0 ? spdlog::level::debug : spdlog::level::info);
    spdlog::flush_on(spdlog::level::debug);
    ::signal(SIGPIPE, SIG_IGN);  // whoever read our log may go away
    return run(given);
  } catch (const options::error& error) {
    return fail(ExitCode::Usage, std::string(error.what()) + "; see 'lockstepd --help'");
  } catch (const std::exception& error) {
    return fail(ExitCode::Failed, error.what());
  }
}
