#!/bin/bash
# A daemon that was killed keeps its disk, its metadata and its addresses until the kernel has ended its ring, a moment
# after its process has gone. The next one waits for that, and names who has them when nobody lets go.
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
