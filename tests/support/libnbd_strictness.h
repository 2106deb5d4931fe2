// What libnbd is to check before it sends a request, where the server's checks are what is tested: nothing. A newer
// libnbd (1.18) has to be left the flag that tells the payload of a write from its effect, which is a rule of extended
// headers.
#pragma once

#include <libnbd.h>

#include <cstdint>

#ifdef LIBNBD_STRICT_AUTO_FLAG
inline constexpr uint32_t kNoClientChecks = LIBNBD_STRICT_AUTO_FLAG;
#else
inline constexpr uint32_t kNoClientChecks = 0;
#endif
