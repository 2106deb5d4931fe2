// Telling the service manager how far we are: sd_notify(3)'s protocol, a datagram to $NOTIFY_SOCKET.
#pragma once

#include <cstdint>
#include <optional>

namespace lockstep::tools {

// "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=a line". Nothing happens without a service manager that wants to know.
void notify_service_manager(const char* state);

// Whether there is one.
bool has_service_manager();

// How often "WATCHDOG=1" is due, by $WATCHDOG_USEC and $WATCHDOG_PID as sd_watchdog_enabled(3) reads them (either may
// be null): twice within the time. Nothing when nobody watches this process.
std::optional<uint64_t> watchdog_period_ms(const char* microseconds, const char* process);

}  // namespace lockstep::tools
