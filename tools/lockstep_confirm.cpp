#include "tools/lockstep_confirm.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tools/audit_file.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

uint64_t last_stamp(const std::string& path) {
  uint64_t last = 0;
  for (const std::string& line : read_audit_lines(path)) {
    const json object = json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains("stamp") || !object["stamp"].is_number_unsigned()) continue;
    last = std::max(last, object["stamp"].get<uint64_t>());
  }
  return last;
}

}  // namespace

bool may_lose(const Arguments& arguments) {
  const std::string_view verb = arguments.verb->name;
  if (verb == "promote") return arguments.has("peer-fenced") || arguments.has("force-data-loss");
  if (verb == "resume") return arguments.has("alone");
  if (verb == "resync") return arguments.has("discard-my-data");
  return verb == "invalidate" || verb == "invalidate-peer";
}

std::string typed_generation(const Arguments& arguments) {
  for (const char* option : {"generation", "force-data-loss", "discard-my-data"}) {
    if (arguments.has(option)) return arguments.value(option);
  }
  return {};
}

void confirm_loss(const Arguments& arguments, const std::string& lost, const std::string& word) {
  std::fputs(lost.c_str(), stderr);
  if (!typed_generation(arguments).empty()) return;
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDERR_FILENO) != 1) return;
  std::fprintf(stderr, "To go on type %s\n> ", word.c_str());
  std::fflush(stderr);
  std::string typed;
  std::getline(std::cin, typed);
  while (!typed.empty() && (typed.back() == ' ' || typed.back() == '\r')) typed.pop_back();
  if (typed == word) return;
  throw CommandError(ExitCode::Refused, std::string(arguments.verb->name) + " refused: what was typed is not " + word +
                                            "; nothing was changed");
}

Operator this_operator() {
  Operator result;
  if (const passwd* entry = ::getpwuid(::getuid()); entry != nullptr) result.user = entry->pw_name;
  if (const char* sudo_user = std::getenv("SUDO_USER"); sudo_user != nullptr) result.sudo_user = sudo_user;
  return result;
}

AuditRecord own_record(const Place& place, const Arguments& arguments, bool accepts_loss) {
  AuditRecord record;
  record.resource = place.resource;
  record.node = place.node;
  record.user_id = ::getuid();
  const Operator who = this_operator();
  record.user = who.user;
  record.sudo_user = who.sudo_user;
  record.verb = std::string(arguments.verb->name);
  record.arguments = json::object();
  for (const OptionSpec& option : arguments.verb->options) {
    const std::string name(option.name);
    if (!arguments.has(name)) continue;
    record.arguments[name] = option.value.empty() ? json(true) : json(arguments.value(name));
  }
  record.accepts_loss = accepts_loss;
  record.before = json::object();
  return record;
}

void record_now(const Place& place, AuditRecord record) {
  const std::string& path = place.own_node().audit;
  record.stamp_us = next_audit_stamp(last_stamp(path));
  const Status written = append_audit_line(path, audit_line(record));
  if (!written) std::fprintf(stderr, "lockstep: %s; going on without it\n", written.error().message.c_str());
}

}  // namespace lockstep::tools
