#!/bin/bash
# The lint itself is tested: a small repository that keeps the rules passes, and each breach put into it is found.
set -euo pipefail

lint=$(readlink -f "$(dirname "$0")/forbidden_includes.sh")
tree=$(mktemp -d "${TMPDIR:-/tmp}/lockstep-lint.XXXXXX")
trap 'rm -rf "$tree"' EXIT
failures=0

fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}

make_good_tree() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{io/base,nbd-server,replicator/core,tools,tests}
  printf 'lockstep_room(lockstep_nbd_protocol SOURCES wire.cpp\n  negotiation.cpp LINKS lockstep_io_base)\n' \
    >"$tree/nbd-server/CMakeLists.txt"
  printf 'lockstep_room(lockstep_replicator_codec SOURCES peer_protocol.cpp\n  LINKS lockstep_io_base)\n' \
    >"$tree/replicator/CMakeLists.txt"
  printf '#include <vector>\n#include <nmmintrin.h>\n' >"$tree/io/base/bytes.h"
  printf '#include "io/loop.h"\n#include <liburing.h>\n#include <sys/socket.h>\n' >"$tree/io/loop.cpp"
  printf '#include "io/base/bytes.h"\n#include "nbd-server/wire_table.h"\n' >"$tree/nbd-server/wire.cpp"
  printf '#include <array>\n' >"$tree/nbd-server/wire_table.h"
  printf '#include "nbd-server/wire.h"\n' >"$tree/nbd-server/negotiation.cpp"
  printf '#include "io/loop.h"\n' >"$tree/nbd-server/session.h"
  printf '#include "io/loop.h"\n#include "nbd-server/wire.h"\n#include <chrono>\n' >"$tree/nbd-server/session.cpp"
  printf '#include "io/base/bytes.h"\n' >"$tree/replicator/core/replica.h"
  printf '#include "replicator/core/replica.h"\n' >"$tree/replicator/core/replica.cpp"
  printf '#include "replicator/core/replica.h"\n' >"$tree/replicator/peer_protocol.cpp"
  printf '#include "io/loop.h"\n#include "replicator/core/replica.h"\n' >"$tree/replicator/driver.cpp"
}

# finds FILE INCLUDE [CULPRIT]: with this line added to the file the lint fails and names the file, or the culprit.
finds() {
  make_good_tree
  echo "#include $2" >>"$tree/$1"
  local output
  if output=$(bash "$lint" "$tree"); then
    fail "$1 with $2 passed"
  elif [[ $output != *"${3:-$1}:"* ]]; then
    fail "$1 with $2 is not named, but: $output"
  fi
}

make_good_tree
bash "$lint" "$tree" || fail 'the good tree does not pass'

finds io/base/bytes.h '<sys/types.h>'
finds io/base/bytes.h '<unistd.h>'
finds io/base/bytes.h '<chrono>'
finds io/base/bytes.h '"io/loop.h"'
finds io/base/bytes.h '"fmt/core.h"'
finds io/loop.h '"nbd-server/session.h"'
finds io/loop.h '<liburing.h>'
finds nbd-server/wire.cpp '<thread>'
finds nbd-server/wire_table.h '<netinet/in.h>'
finds nbd-server/negotiation.cpp '"nbd-server/session.h"' nbd-server/session.h
finds nbd-server/session.cpp '"replicator/driver.h"'
finds nbd-server/session.cpp '<liburing.h>'
finds replicator/core/replica.h '<random>'
finds replicator/core/replica.h '<mutex>'
finds replicator/core/replica.cpp '"replicator/driver.h"'
finds replicator/core/replica.cpp '"io/loop.h"'
finds replicator/peer_protocol.cpp '<spdlog/spdlog.h>'
finds replicator/driver.cpp '"tools/configuration.h"'
finds replicator/driver.cpp '"nbd-server/wire.h"'
finds tools/lockstepd.cpp '<liburing.h>'

if ((failures)); then exit 1; fi
echo "the lint finds every breach"
