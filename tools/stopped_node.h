// The files of a node without a daemon, for the verbs that work on them: free of the daemon that runs, and of the one
// that was killed and whose ring the kernel has not ended yet.
#pragma once

#include <optional>
#include <string>

#include "io/base/result.h"
#include "tools/disk_inspection.h"
#include "tools/lockstep_common.h"
#include "tools/patience.h"

namespace lockstep::tools {

class StoppedNode {
 public:
  explicit StoppedNode(const Place& place) : place_(place) {}

  // Refused while the daemon runs, unless its disk was taken away from it; waits for the end of one that was killed.
  Status check();
  // HeldPath::open(), which waits as well where a daemon was killed.
  Result<HeldPath> hold(const std::string& path);

 private:
  Status look();
  Patience& patience();

  const Place& place_;
  std::optional<Patience> patience_;  // since a killed daemon was met: of all others nobody lets go by himself
};

}  // namespace lockstep::tools
