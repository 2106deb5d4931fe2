# shellcheck shell=bash
# What every case of tests/integration/cases stands on: two nodes of one resource, removed at the end whatever happens.
#
# A case is a bash script that sources this file and reads as a story; it has failed when a command of it fails.
# LOCKSTEP_BUILD names the build whose programs are tested.
set -euo pipefail

integration=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")")
: "${LOCKSTEP_BUILD:?set it to a build folder}"
# shellcheck source-path=SCRIPTDIR
source "$integration/pair.sh"
PROGRAMS=$LOCKSTEP_BUILD/tools

# The size that most cases use: big enough for several activity log extents, small enough to compare at once.
SIZE=64M
# shellcheck disable=SC2034 # for the cases
SIZE_BYTES=$((64 << 20))

say() { printf -- '-- %s\n' "$*"; }

fail() {
  echo "FAILED at ${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}: $*" >&2
  exit 1
}

skip() {
  echo "skipped: $*"
  exit 77
}

helpers=()

# What a sanitizer or a check of the daemon's own has found, if any.
complaints() {
  local words='ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|this must hold and does not'
  grep -lE "$words" "$RUN_DIR"/*.log 2>/dev/null
}

end_case() {
  local status=$? node log helper
  trap '' INT TERM
  if ((status == 0)) && complaints >&2; then
    echo "FAILED: a daemon complains in the log above" >&2
    status=1
  fi
  if ((status != 0 && status != 77)); then
    for node in "${NODES[@]}"; do
      echo "== status of $node" >&2
      on "$node" status >&2 || true
    done
    for log in "$RUN_DIR"/*.log; do
      [[ ! -e $log ]] || { echo "== ${log##*/}" && tail -n 40 "$log"; } >&2
    done
  fi
  for helper in "${helpers[@]}"; do kill -KILL "$helper" 2>/dev/null || true; done
  if declare -F end_of_this_case >/dev/null; then end_of_this_case || true; fi
  pair_remove_workspace
  exit "$status"
}
trap end_case EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The program's path is for the background: a function there would be a shell around it, with a process of its own.
SECTOR_CLIENT=$LOCKSTEP_BUILD/tests/integration/sector_client
sector_client() { "$SECTOR_CLIENT" "$@"; }

disk_of() { echo "$WORK/$1/disk.img"; }
uri_of() { echo "nbd+unix:///$RESOURCE?socket=$WORK/$1/nbd.sock"; }

# start_pair [LINE...]: all nodes (two, or those that the case names in NODES) created, up and in sync, alpha Primary. The lines go into [resource].
start_pair() {
  pair_create_workspace
  pair_write_configuration "$SIZE" "$@"
  create_pair
  local node
  for node in "${NODES[@]}"; do start_node "$node"; done
  order alpha wait --for synced --timeout 30
  order alpha promote
}

# refused STATUS PATTERN COMMAND...: the command ends with this exit status and one line on stderr that matches.
refused() {
  local wanted=$1 pattern=$2 status=0 message
  shift 2
  message=$("$@" 2>&1 >/dev/null) || status=$?
  ((status == wanted)) || fail "exit status $status instead of $wanted from: $* ($message)"
  [[ $message =~ $pattern ]] || fail "the message does not match '$pattern': $message"
  (($(wc -l <<<"$message") == 1)) || fail "more than one line: $message"
  say "refused as it should be: $message"
}

# has NODE JQ-FILTER VALUE: the node's status says so now. becomes SECONDS NODE JQ-FILTER VALUE: within that time.
has() {
  local value
  value=$(status_of "$1" "$2") || fail "no status of $1"
  [[ $value == "$3" ]] || fail "$2 of $1 is $value instead of $3"
}
status_is() { [[ $(status_of "$1" "$2" 2>/dev/null) == "$3" ]]; }
becomes() {
  local seconds=$1
  shift
  wait_until "$seconds" status_is "$@" || fail "$2 of $1 is $(status_of "$1" "$2") and not $3 after $seconds s"
}

# Both nodes flushed, in sync, and byte for byte the same.
expect_equal_images() {
  order "$1" wait --for synced --timeout 60
  has "$1" '.peers[0]["out-of-sync-bytes"]' 0
  images_are_equal || fail "the images differ"
}

# Of several: each node sees all others in sync, no bit is left, and the images are the same.
expect_all_equal() {
  local node
  for node in "${NODES[@]}"; do
    order "$node" wait --for synced --timeout 60
    becomes 10 "$node" '[.peers[]["out-of-sync-bytes"]] | add' 0
  done
  for node in "${NODES[@]:1}"; do
    cmp <(read_image "${NODES[0]}") <(read_image "$node") || fail "the images of ${NODES[0]} and $node differ"
  done
}

# peer_of NODE PEER JQ-FILTER: of what NODE says of PEER.
peer_of() { status_of "$1" ".peers[] | select(.node == \"$2\") | $3"; }
peer_is() { [[ $(peer_of "$1" "$2" "$3" 2>/dev/null) == "$4" ]]; }
peer_becomes() {
  local seconds=$1
  shift
  wait_until "$seconds" peer_is "$@" || fail "$3 of $2 at $1 is $(peer_of "$1" "$2" "$3") and not $4 after $seconds s"
}

# start_load NODE SECONDS [OPTION...]: starts a load in the background, noted in load_pid; it goes on until its server
# goes away or the time is over.
start_load() {
  local node=$1 seconds=$2
  shift 2
  "$SECTOR_CLIENT" load "$(uri_of "$node")" --ledger "$WORK/ledger" --seconds "$seconds" --seed "$RANDOM" "$@" \
    >"$WORK/load.out" 2>&1 &
  load_pid=$!
  helpers+=("$load_pid")
}

finish_load() {
  wait "$load_pid" || fail "the load failed: $(cat "$WORK/load.out")"
  say "load: $(cat "$WORK/load.out")"
}

writes_reach() { (($(status_of "$1" .writes) >= $2)); }

# wait_for_writes NODE COUNT: that many more have been written there.
wait_for_writes() {
  wait_until 60 writes_reach "$1" $(($(status_of "$1" .writes) + $2)) ||
    fail "the load does not get going: $(cat "$WORK/load.out")"
}

check_ledger() {
  local node
  for node in "$@"; do
    sector_client check "$(disk_of "$node")" --ledger "$WORK/ledger" || fail "the ledger does not hold on $node"
  done
}
