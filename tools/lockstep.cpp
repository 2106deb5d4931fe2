// The operator's command.
#include <signal.h>

#include <cstdio>
#include <exception>
#include <map>
#include <string_view>

#include "tools/lockstep_common.h"

namespace {

using namespace lockstep;
using namespace lockstep::tools;

using Run = ExitCode (*)(const Arguments&);

// Verbs that are more than an order to the daemon.
Run run_of(std::string_view verb) {
  static const std::map<std::string_view, Run> own = {
      {"create", run_create}, {"up", run_up},         {"down", run_down},     {"status", run_status},
      {"wait", run_wait},     {"events", run_events}, {"verify", run_verify}, {"dump-metadata", run_dump_metadata},
      {"audit", run_audit},
  };
  const auto found = own.find(verb);
  return found == own.end() ? run_order : found->second;
}

ExitCode run(const Arguments& arguments) {
  if (arguments.has("version")) {
    print_text("lockstep " LOCKSTEP_VERSION "\n");
    return ExitCode::Done;
  }
  if (arguments.has("help")) {
    print_text(arguments.verb == nullptr ? general_help() : verb_help(*arguments.verb));
    return ExitCode::Done;
  }
  return run_of(arguments.verb->name)(arguments);
}

ExitCode complain(ExitCode code, const char* line) {
  std::fprintf(stderr, "lockstep: %s\n", line);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  // A pipe whose reader has left is an error of a write, not the end without a word.
  ::signal(SIGPIPE, SIG_IGN);
  ExitCode code = ExitCode::Done;
  try {
    code = run(value_or_fail(parse_arguments({argv + 1, argv + argc})));
  } catch (const CommandError& error) {
    code = complain(error.code(), error.what());
  } catch (const std::exception& error) {
    code = complain(ExitCode::Failed, error.what());
  }
  return static_cast<int>(code);
}
