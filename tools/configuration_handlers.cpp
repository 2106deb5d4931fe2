#include "tools/configuration_section.h"

namespace lockstep::tools {

Status read_handlers(const SectionReader& section, HandlersConfiguration& handlers) {
  for (const HandlerEvent event : kHandlerEvents) {
    const std::string key(name_of(event));
    std::string& command = handlers.commands[static_cast<size_t>(event)];
    command = section.text(key, "");
    if (!command.empty() && command.front() != '/') {
      return section.bad(key, "must start with the absolute path of a program; there is no shell");
    }
  }
  if (section.given("timeout")) {
    const Result<uint32_t> timeout_ms = parse_duration_ms(section.text("timeout", ""));
    if (!timeout_ms || *timeout_ms < kMinimumHandlerTimeoutMs || *timeout_ms > kMaximumHandlerTimeoutMs) {
      return section.bad("timeout", "write milliseconds or '60s', from 1s to 3600s");
    }
    handlers.timeout_ms = *timeout_ms;
  }
  Status status =
      section.choose<bool>("resync-needs-handler", handlers.resync_needs_handler, {{"yes", true}, {"no", false}});
  if (!status) return status;
  if (handlers.resync_needs_handler && handlers.command_of(HandlerEvent::BeforeResyncTarget).empty()) {
    return section.bad("resync-needs-handler", "needs the key 'before-resync-target', the handler that it is about");
  }
  return {};
}

}  // namespace lockstep::tools
