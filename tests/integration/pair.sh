# shellcheck shell=bash
# Two nodes, alpha and beta, of one resource on this host: functions for bash scripts, tools/quickstart among them. A
# caller that wants more of them says so in NODES.
#
# The caller sets PROGRAMS (the folder of lockstepd and lockstep) and calls pair_create_workspace; from then on
# everything lives under $WORK, and pair_remove_workspace, which the caller runs on EXIT, ends every process that was
# started and removes the folder. Addresses are in a 127.X.Y.0/24 of this pair's own, so that many pairs can run at
# once without a search for free ports.

RESOURCE=pgdata
[[ -v NODES ]] || NODES=(alpha beta)
WORK=
declare -A ADDRESS

repository=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")

pair_create_workspace() {
  WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/lockstep.XXXXXX")
  # Other users than root must reach what is mounted below.
  chmod 711 "$WORK"
  RUN_DIR=$WORK/run
  CONFIG=$WORK/$RESOURCE.conf
  mkdir "$RUN_DIR" "${NODES[@]/#/$WORK/}"
  local subnet i
  while :; do
    subnet=127.$((RANDOM % 254 + 1)).$((RANDOM % 254 + 1))
    [[ -n $(ss -Htln "src $subnet.0/24") ]] || break
  done
  for i in "${!NODES[@]}"; do ADDRESS[${NODES[i]}]=$subnet.$((i + 1)):7789; done
}

# pair_write_configuration SIZE [LINE...]: the lines go into [resource].
pair_write_configuration() {
  local size=$1 line node
  shift
  {
    echo '[resource]'
    echo "name = $RESOURCE"
    echo "size = $size"
    for line in "$@"; do echo "$line"; done
    for node in "${NODES[@]}"; do
      echo
      echo "[node.$node]"
      echo "address = ${ADDRESS[$node]}"
      echo "disk = $WORK/$node/disk.img"
      echo "nbd = unix:$WORK/$node/nbd.sock"
    done
  } >"$CONFIG"
}

other_node() { if [[ $1 == alpha ]]; then echo beta; else echo alpha; fi; }

# on NODE VERB [ARGS...]: the operator's command for that node.
on() {
  local node=$1 verb=$2
  shift 2
  # Without a terminal nothing is asked.
  "$PROGRAMS/lockstep" "$verb" "$RESOURCE" --config "$CONFIG" --node "$node" --run-dir "$RUN_DIR" "$@" </dev/null
}

# order NODE VERB [ARGS...]: the same, without what it says when all went well.
order() { on "$@" >/dev/null; }

# status_of NODE JQ-FILTER: of the node's one element of `status --json`.
status_of() { on "$1" status --json | jq -r ".[0] | $2"; }

# The daemon's process, as its socket knows it.
process_of() { ss -Hxlp src "$RUN_DIR/$RESOURCE.$1.sock" | sed -n 's/.*pid=\([0-9]*\).*/\1/p'; }
note_process() { process_of "$1" >"$RUN_DIR/$1.pid"; }
daemon_pid() { cat "$RUN_DIR/$1.pid"; }

# Starts the node's daemon, and notes its process for daemon_pid and for the end.
start_node() {
  local node=$1
  order "$node" up || return
  note_process "$node"
  [[ -s $RUN_DIR/$node.pid ]]
}

# The kernel ends the ring of a process that was killed after the process, and its files and sockets with it.
node_is_released() {
  local file
  [[ -z $(ss -Hxl src "$RUN_DIR/$RESOURCE.$1.sock") ]] || return 1
  for file in "$WORK/$1/disk.img" "$WORK/$1/disk.img.meta"; do
    [[ ! -f $file ]] || flock --nonblock "$file" true || return 1
  done
}

# Ends the node's daemon as a power cut would, and waits until nothing of it is left.
kill_node() {
  local pid
  pid=$(daemon_pid "$1")
  rm "$RUN_DIR/$1.pid"
  kill -KILL "$pid"
  wait_until 10 process_is_gone "$pid"
  wait_until 10 node_is_released "$1"
}

process_is_gone() { ! kill -0 "$1" 2>/dev/null || [[ $(ps -o stat= -p "$1") == Z* ]]; }

# wait_until SECONDS COMMAND...: until the command succeeds; fails when it did not in time.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.02
  done
}

create_pair() {
  local node
  for node in "${NODES[@]}"; do order "$node" create || return; done
}

peer_is_lost() { [[ $(status_of "$1" '.peers[0]["connection-state"]') != Connected ]]; }

attach_on() {
  LOCKSTEP=$PROGRAMS/lockstep "$repository/tools/lockstep-attach" "$RESOURCE" --config "$CONFIG" --node "$1" \
    --run-dir "$RUN_DIR" "${@:2}"
}

detach_on() {
  local node=$1
  shift
  "$repository/tools/lockstep-detach" "$RESOURCE" --node "$node" --run-dir "$RUN_DIR" "$@"
}

# Read past the page cache: what is on the disks counts, and large reads are faster.
read_image() { dd if="$WORK/$1/disk.img" bs=4M iflag=direct status=none; }
images_are_equal() { cmp <(read_image alpha) <(read_image beta); }

pair_stop() {
  local node pid
  for node in "${NODES[@]}"; do
    [[ ! -e $RUN_DIR/$RESOURCE.$node.attach ]] || detach_on "$node" --force || true
  done
  for node in "${NODES[@]}"; do
    # A start that was interrupted has not noted its process yet: the socket knows it.
    pid=$(process_of "$node")
    pid=${pid:-$(cat "$RUN_DIR/$node.pid" 2>/dev/null)} || true
    [[ -n $pid ]] || continue
    kill -KILL "$pid" 2>/dev/null || true
    wait_until 10 process_is_gone "$pid" || echo "lockstepd of $node (process $pid) does not end" >&2
    rm -f "$RUN_DIR/$node.pid"
  done
}

pair_remove_workspace() {
  [[ -n $WORK && -d $WORK ]] || return 0
  pair_stop
  rm -rf "$WORK"
}
