// Telling the service manager how far we are: sd_notify(3)'s protocol, a datagram to $NOTIFY_SOCKET.
#pragma once

namespace lockstep::tools {

// "READY=1", "STOPPING=1". Nothing happens without a service manager that wants to know.
void notify_service_manager(const char* state);

}  // namespace lockstep::tools
