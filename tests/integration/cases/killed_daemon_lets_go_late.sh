#!/bin/bash
# A daemon that was killed keeps its disk, its metadata and its addresses until the kernel has ended its ring, a moment
# after its process has gone. The next one waits for that, and so do 'create' and 'dump-metadata'; all name who has them when nobody lets go.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
pair_write_configuration "$SIZE"
create_pair

says_that_it_waits() { grep -q 'waiting for it' "$RUN_DIR/$RESOURCE.alpha.log" 2>/dev/null; }
# held FILE: a process that has it locked; `helpers` has its number.
held() {
  exec {lock}<"$1"
  flock --nonblock "$lock"
  sleep 60 &
  helpers+=($!)
  exec {lock}<&-
}

for what in "$(disk_of alpha)" "$(disk_of alpha).meta"; do
  say "locked for a while: ${what##*/}"
  held "$what"
  on alpha up &
  starting=$!
  wait_until 10 says_that_it_waits
  kill "${helpers[-1]}"
  wait "$starting" || fail 'the daemon did not wait'
  order alpha down
  rm "$RUN_DIR/$RESOURCE.alpha.log"
done

say 'locked for good'
held "$(disk_of alpha)"
refused 1 'disk.img is in use: .*fuser' on alpha up

say 'metadata read and disks created anew, as soon as what was killed lets go'
kill "${helpers[-1]}"
start_node alpha
kill_node alpha
held "$(disk_of alpha).meta"
on alpha dump-metadata 2>"$WORK/said" >"$WORK/dump" &
dumping=$!
it_waits() { grep -q 'in use.*waiting for it' "$WORK/said" 2>/dev/null; }
wait_until 10 it_waits
kill "${helpers[-1]}"
wait "$dumping" || fail "dump-metadata did not wait: $(cat "$WORK/said")"
grep -q 'generation:' "$WORK/dump" || fail "no metadata: $(cat "$WORK/dump")"
for what in "$(disk_of alpha)" "$(disk_of alpha).meta"; do
  held "$what"
  on alpha create --force 2>"$WORK/said" >/dev/null &
  creating=$!
  wait_until 10 it_waits
  kill "${helpers[-1]}"
  wait "$creating" || fail "create did not wait: $(cat "$WORK/said")"
  rm "$WORK/said"
done

say 'a daemon that does not answer runs'
start_node alpha
kill -STOP "$(daemon_pid alpha)"
refused 3 'the daemon of .* runs on node alpha: stop it first' on alpha create --force
kill -CONT "$(daemon_pid alpha)"
order alpha down

say 'nothing was killed: no reason to wait'
held "$(disk_of alpha)"
refused 3 'disk.img is in use: .*fuser' on alpha create --force
