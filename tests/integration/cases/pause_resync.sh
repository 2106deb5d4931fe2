#!/bin/bash
# A resync is paused by either side, stands still while the application goes on, and comes to its end when it may.
source "$(dirname "$0")/../case.sh"

start_pair 'peer-timeout = 500ms' 'resync-rate-min = 1M' 'resync-rate-max = 1M'
order alpha wait --for synced --timeout 30
kill_node beta
for ((i = 1; i <= 8; ++i)); do
  sector_client write "$(uri_of alpha)" --offset $((i * 4 << 20)) --length 1048576 --sequence "$i" --flush yes
done
"$PROGRAMS/lockstep" events "$RESOURCE" --config "$CONFIG" --node alpha --run-dir "$RUN_DIR" >"$WORK/events" &
helpers+=($!)
"$PROGRAMS/lockstep" events "$RESOURCE" --config "$CONFIG" --node alpha --run-dir "$RUN_DIR" --json >"$WORK/events.json" &
helpers+=($!)
start_node beta
becomes 20 alpha '.peers[0]["replication-state"]' SyncSource

say 'events tell how far it is'
wait_until 20 grep -qE "^progress peer $RESOURCE beta resync:[0-9.]+% left:[0-9.]+M rate:" "$WORK/events" ||
  fail "$(cat "$WORK/events")"
tells_progress() { jq -es 'any(.event == "progress" and .status.peers[0].resync["done-percent"] > 0)' "$WORK/events.json"; }
wait_until 20 tells_progress >/dev/null || fail "$(cat "$WORK/events.json")"

order alpha pause-resync
becomes 5 alpha '.peers[0]["replication-state"]' PausedSyncS
becomes 5 beta '.peers[0]["replication-state"]' PausedSyncT
has beta '.["disk-state"]' Inconsistent
< <(on alpha explain) grep -q "paused by an operator of this node; .* 'lockstep resume-resync $RESOURCE beta'" ||
  fail "$(on alpha explain)"
< <(on beta explain) grep -q "paused by an operator of alpha; .*there" || fail "$(on beta explain)"

say 'what was read before the pause arrives; from then on nothing moves, while the application goes on'
left_at() { status_of "$1" '.peers[0]["out-of-sync-bytes"]'; }
# Its flush makes stable what was copied as well.
write_here() { sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence "$1" --flush yes; }
write_here 100
write_here 101
left=$(left_at alpha)
((left > 0)) || fail 'the resync was over before it could be paused'
for ((i = 102; i < 120; ++i)); do write_here "$i"; done
sector_client expect "$(disk_of beta)" --offset 0 --length 4096 --sequence 119
(($(left_at alpha) == left)) || fail 'the resync went on'

say 'the other side wants it to wait as well: each has to say that it may go on'
order beta pause-resync
order alpha resume-resync
becomes 5 alpha '.peers[0]["replication-state"]' PausedSyncS
(($(left_at alpha) == left)) || fail 'the resync went on'
say 'a link that is lost and made again leaves it paused'
beta_pid=$(daemon_pid beta)
end_of_this_case() { kill -CONT "$beta_pid" 2>/dev/null; }
kill -STOP "$beta_pid"
wait_until 10 peer_is_lost alpha
kill -CONT "$beta_pid"
becomes 20 beta '.peers[0]["replication-state"]' PausedSyncT
order beta resume-resync
expect_equal_images alpha
refused 3 '' on alpha pause-resync
