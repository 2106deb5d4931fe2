#!/bin/bash
# The Primary's disk has failed and the peer that serves its clients goes away: requests wait, and go on when it is back.
# When it does not come, they fail by order, and a daemon that waits for data still stops.
source "$(dirname "$0")/../case.sh"
# shellcheck source-path=SCRIPTDIR/..
source "$integration/failing_disk.sh"

start_pair_on_failing_disk 'peer-timeout = 500ms'
start_load alpha 5
wait_for_writes alpha 300
break_file alpha disk.img
becomes 10 alpha '.["disk-state"]' Failed

say 'the peer is frozen for longer than peer-timeout'
kill -STOP "$(daemon_pid beta)"
becomes 10 alpha .suspended no-data
< <(on alpha explain) grep -q 'suspended (no-data)' || fail 'explain does not say what is waited for'
kill -CONT "$(daemon_pid beta)"
becomes 10 alpha .suspended no
wait_for_writes alpha 100
finish_load
check_ledger beta

say 'the peer is stopped: who waits gets an error by order'
order beta down
becomes 10 alpha .suspended no-data
sector_client load "$(uri_of alpha)" --ledger "$WORK/ledger2" --seconds 5 --seed 1 >"$WORK/load2.out" 2>&1 &
helpers+=("$!")
becomes 10 alpha '.nbd[0].clients > 0' true
order alpha demote --force
has alpha .role Secondary
wait "${helpers[-1]}" || true
start_node beta
order alpha wait --for connected --timeout 30
order beta promote
check_ledger beta
