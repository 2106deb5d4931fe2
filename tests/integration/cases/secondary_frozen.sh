#!/bin/bash
# A frozen Secondary stalls the Primary for no longer than peer-timeout, then it is dropped; thawed, it catches up.
source "$(dirname "$0")/../case.sh"

start_pair 'peer-timeout = 500ms'
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
beta_pid=$(daemon_pid beta)
kill -STOP "$beta_pid"
end_of_this_case() { kill -CONT "$beta_pid" 2>/dev/null; }

started=${EPOCHREALTIME/./}
sector_client write "$(uri_of alpha)" --offset 4096 --length 4096 --sequence 2 --flush yes
stalled_ms=$(((${EPOCHREALTIME/./} - started) / 1000))
say "the write took $stalled_ms ms"
((stalled_ms < 2500)) || fail "a peer-timeout of 500 ms held a write up for $stalled_ms ms"
has alpha .degraded true

kill -CONT "$beta_pid"
expect_equal_images alpha
sector_client expect "$(disk_of beta)" --offset 4096 --length 4096 --sequence 2
