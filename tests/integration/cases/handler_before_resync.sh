#!/bin/bash
# before-resync-target runs to its end before anything is copied; where it is needed and fails, the resync is held.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
# Reads the disk that it is about, as it is before the resync; ends when it may, as it is told.
cat >"$WORK/handler" <<SCRIPT
#!/bin/bash
env >"$WORK/part" && cp "\$LOCKSTEP_DISK" "$WORK/before.img" && mv "$WORK/part" "$WORK/called.\$LOCKSTEP_NODE"
until [[ -e "$WORK/go" ]]; do sleep 0.05; done
exit \$(cat "$WORK/go")
SCRIPT
chmod +x "$WORK/handler"
pair_write_configuration "$SIZE" 'peer-timeout = 500ms'
printf '\n[handlers]\nbefore-resync-target = %s\nresync-needs-handler = yes\n' "$WORK/handler" >>"$CONFIG"

create_pair
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
order alpha promote
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
if compgen -G "$WORK/called.*" >/dev/null; then fail 'a handler was run, and there was no resync'; fi

say 'beta misses a write; its handler runs, and nothing is copied meanwhile'
kill_node beta
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 2 --flush yes
start_node beta
wait_until 20 test -e "$WORK/called.beta" || fail 'the handler was not run'
grep -qx 'LOCKSTEP_PEER=alpha' "$WORK/called.beta"
becomes 5 beta '."disk-state"' Outdated
has beta '.peers[0]["connection-state"]' Connected
has beta '.peers[0]["replication-state"]' Off
sector_client write "$(uri_of alpha)" --offset 4096 --length 4096 --sequence 3 --flush yes
sector_client expect "$(disk_of beta)" --offset 0 --length 4096 --sequence 1
< <(on beta explain) grep -q "self-prepares: this node's handler before-resync-target runs before" || fail "$(on beta explain)"
< <(on alpha explain) grep -q "peer-prepares: the peer's handler" || fail "$(on alpha explain)"
refused 3 'alpha is Primary' on beta promote

say 'it fails: the resync is held, and explain says what would have it go on'
echo 7 >"$WORK/go"
is_held() { < <(on beta explain) grep -q "the resync is held: .*resume-resync $RESOURCE alpha"; }
wait_until 10 is_held || fail "$(on beta explain)"
grep -q 'handler before-resync-target (alpha) failed: exit status 7' "$RUN_DIR/$RESOURCE.beta.log"
sector_client expect "$(disk_of beta)" --offset 0 --length 4096 --sequence 1
rm "$WORK/called.beta"
echo 0 >"$WORK/go"
order beta resume-resync alpha
wait_until 20 test -e "$WORK/called.beta" || fail 'the handler was not run again'
sector_client expect "$WORK/before.img" --offset 0 --length 4096 --sequence 1
expect_equal_images alpha
sector_client expect "$(disk_of beta)" --offset 0 --length 4096 --sequence 2

say 'a node that dies while its handler runs has it run again'
rm "$WORK/go" "$WORK/called.beta"
kill_node beta
sector_client write "$(uri_of alpha)" --offset 8192 --length 4096 --sequence 4 --flush yes
start_node beta
wait_until 20 test -e "$WORK/called.beta"
rm "$WORK/called.beta"
kill_node beta
start_node beta
wait_until 20 test -e "$WORK/called.beta" || fail 'the handler was not run after the restart'
echo 0 >"$WORK/go"
expect_equal_images alpha
