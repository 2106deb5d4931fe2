// What the verbs of `lockstep` share: which node they are about, how they fail, and how they print.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stdexcept>
#include <string>

#include "io/base/result.h"
#include "tools/arguments.h"
#include "tools/configuration.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"

namespace lockstep::tools {

// Ends the command: main prints the line and exits with the code.
class CommandError : public std::runtime_error {
 public:
  CommandError(ExitCode code, const std::string& line) : std::runtime_error(line), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// The exit code that an error of this kind means.
ExitCode exit_code_of(ErrorKind kind);
[[noreturn]] void fail(const Error& error);
// The value, or the end of the command.
template <typename T>
T value_or_fail(Result<T> result) {
  if (!result) fail(result.error());
  return std::move(result).value();
}

// One node of one resource on this host.
struct Place {
  std::string resource;
  std::string node;
  std::string run_dir;
  std::string socket_path;
  std::string configuration_path;
  std::optional<ResourceConfiguration> configuration;
  std::string options;  // the common options as they were typed, for what we tell people to type

  const NodeConfiguration& own_node() const { return *configuration->find_node(node); }
  // "lockstep VERB RES …", to be typed
  std::string command(const std::string& verb) const;
};

// For verbs that need the configuration; without a usable one the command ends.
Place place_of_configuration(const Arguments& arguments);
// For verbs that talk to a daemon: also without a readable configuration, if --node is given or just one node of the
// resource has a control socket.
Place place_of_daemon(const Arguments& arguments);

inline constexpr uint64_t kStatusTimeoutMs = 10'000;

// Ends the command with NoDaemon, and what to type, when nobody answers.
ControlConnection connect_to_daemon(const Place& place);
[[noreturn]] void fail_without_daemon(const Place& place, const Error& error);

void print_text(const std::string& text);
void print_json(const nlohmann::json& document);
// Of --timeout.
uint64_t timeout_ms_of(const Arguments& arguments, uint64_t fallback_ms);

// The verbs. Each returns the command's exit code, or throws CommandError.
ExitCode run_create(const Arguments& arguments);
ExitCode run_up(const Arguments& arguments);
ExitCode run_down(const Arguments& arguments);
ExitCode run_status(const Arguments& arguments);
ExitCode run_events(const Arguments& arguments);
ExitCode run_wait(const Arguments& arguments);
ExitCode run_verify(const Arguments& arguments);
ExitCode run_watch(const Arguments& arguments);
ExitCode run_audit(const Arguments& arguments);
ExitCode run_dump_metadata(const Arguments& arguments);
// The options and operands of an order as the daemon takes them, with who gives it.
nlohmann::json order_arguments(const Arguments& arguments);
// Every verb that the daemon carries out.
ExitCode run_order(const Arguments& arguments);

}  // namespace lockstep::tools
