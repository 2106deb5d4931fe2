#!/bin/bash
# Protocol A: an answered write is lost with the Primary, which the check must see, and with nothing else.
source "$(dirname "$0")/../case.sh"

start_pair 'protocol = A' 'peer-timeout = 30s'
beta_pid=$(daemon_pid beta)
end_of_this_case() { kill -CONT "$beta_pid" 2>/dev/null; }

# Writes that the frozen peer never gets: its Primary dies before it thaws, and its kernel's buffers with it.
run_ahead() {
  start_load alpha 60
  wait_for_writes alpha 200
  kill -STOP "$beta_pid"
  wait_for_writes alpha 200
  kill_node alpha
  finish_load
}

say 'the Primary crashes and comes back: it is the source, and nothing is lost'
run_ahead
start_node alpha
kill -CONT "$beta_pid"
expect_equal_images alpha
[[ $(on alpha explain) == *equal-self-crashed-ahead* ]] || fail "$(on alpha explain)"
check_ledger alpha beta

say 'the Primary is gone for good: what it was ahead is lost'
order alpha promote
start_load alpha 60
wait_for_writes alpha 200
kill -STOP "$beta_pid"
# More than the sockets between the two hold.
ahead() { (($(status_of alpha '.peers[0]["lag-bytes"]') > (12 << 20))); }
wait_until 30 ahead || fail 'the Primary does not run ahead'
kill_node alpha
finish_load
kill -CONT "$beta_pid"
wait_until 40 peer_is_lost beta || fail 'beta does not see that alpha is gone'
order beta promote --peer-fenced
if sector_client check "$(disk_of beta)" --ledger "$WORK/ledger" >"$WORK/check.out" 2>&1; then
  fail 'nothing was lost: this test is blind'
fi
say "as it must be: $(head -n 1 "$WORK/check.out")"
start_node alpha
expect_equal_images beta
