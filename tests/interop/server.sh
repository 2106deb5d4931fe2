# shellcheck shell=bash
# A server of a disk in memory for one test, in a folder of its own; both are gone at the end, also after a failure.
#
# start_server SIZE [OPTION...] sets URI (unix socket), SOCKET and PORT.
set -euo pipefail

WORK=$(mktemp -d "${TMPDIR:-/tmp}/interop.XXXXXX")
server_pid=
at_end=()  # commands, the last one first

finish() {
  local status=$? i
  set +e
  for ((i = ${#at_end[@]} - 1; i >= 0; i--)); do ${at_end[i]}; done
  if [[ -n $server_pid ]]; then
    kill -TERM "$server_pid" 2>/dev/null
    wait "$server_pid" || { ((status)) || status=1; echo "the server did not end well"; }
  fi
  ((status == 0 || status == 77)) || cat "$WORK"/*.log 2>/dev/null
  rm -rf "$WORK"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

needs() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || { echo "skipped: $program is not installed" && exit 77; }
  done
}

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# wait_until SECONDS COMMAND...
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.02
  done
}

announced() { (($(wc -l <"$WORK/addresses") == 2)); }

start_server() {
  "$NBD_MEMORY_SERVER" "$@" "unix:$WORK/nbd.sock" tcp:127.0.0.1:0 >"$WORK/addresses" 2>"$WORK/server.log" &
  server_pid=$!
  wait_until 10 announced || fail "the server does not start: $(cat "$WORK/server.log")"
  SOCKET=$WORK/nbd.sock
  # shellcheck disable=SC2034
  URI="nbd+unix:///memory?socket=$SOCKET"
  # shellcheck disable=SC2034
  PORT=$(sed -n 's/^tcp:.*:\([0-9]*\)$/\1/p' "$WORK/addresses")
}

# refused PATTERN COMMAND...: the command fails, and says something like that.
refused() {
  local pattern=$1 message
  shift
  if message=$("$@" 2>&1); then fail "should have been refused: $*"; fi
  [[ $message =~ $pattern ]] || fail "the message does not match '$pattern': $message"
}
