#!/bin/bash
# Protocol A answers without the peer, B and C do not; the protocol is changed while clients write.
source "$(dirname "$0")/../case.sh"

start_pair 'protocol = A' 'peer-timeout = 30s'
has alpha .protocol A
has alpha '.peers[0].protocol' A
beta_pid=$(daemon_pid beta)
end_of_this_case() { kill -CONT "$beta_pid" 2>/dev/null; }

# reload_both PROTOCOL: as an operator does it, the same file on each node.
reload_both() {
  sed -i "s/^protocol = .*/protocol = $1/" "$CONFIG"
  order alpha reload
  order beta reload
  has alpha .protocol "$1"
  has beta .protocol "$1"
  has alpha '.peers[0].protocol' "$1"
}

say 'A: a frozen peer stalls neither write nor flush'
kill -STOP "$beta_pid"
sector_client write "$(uri_of alpha)" --offset 4096 --length 65536 --sequence 1 --flush yes
sector_client write "$(uri_of alpha)" --offset 4096 --length 65536 --sequence 2 --fua yes
has alpha '.peers[0]["connection-state"]' Connected
has alpha '.peers[0] | ."sent-sequence" > ."received-sequence"' true
has alpha '.peers[0]["lag-bytes"]' 131072
[[ $(on alpha status) =~ lag:128\.0K/[0-9]+ms ]] || fail "no lag in: $(on alpha status)"
say 'and what it runs ahead is bounded'
timeout 3 "$SECTOR_CLIENT" load "$(uri_of alpha)" --ledger "$WORK/ahead" --seconds 60 --depth 32 --seed 1 \
  >"$WORK/ahead.out" 2>&1 && fail "the load ended: $(cat "$WORK/ahead.out")"
lag=$(status_of alpha '.peers[0]["lag-bytes"]')
say "$lag bytes ahead of a frozen peer"
((lag >= (1 << 20) && lag <= (20 << 20))) || fail "$lag bytes ahead"
kill -CONT "$beta_pid"
becomes 20 alpha '.peers[0]["lag-bytes"]' 0
becomes 10 alpha '.peers[0] | ."flushed-sequence" == ."sent-sequence"' true
expect_equal_images alpha

say 'changed while clients write'
# From zeroes on: the ledger knows nothing of the load before.
sector_client zero "$(uri_of alpha)" --offset 0 --length "$SIZE_BYTES" --flush yes
start_load alpha 60
wait_for_writes alpha 500
reload_both C
wait_for_writes alpha 500
reload_both B
wait_for_writes alpha 500
reload_both A
kill -STOP "$beta_pid"
wait_for_writes alpha 50
sed -i 's/^protocol = .*/protocol = C/' "$CONFIG"
on alpha reload >/dev/null &
reload_pid=$!
helpers+=("$reload_pid")
becomes 5 alpha '.peers[0].protocol' A # until the peer has all that A answered
kill -0 "$reload_pid" || fail 'reload returned before the peer had everything'
kill -CONT "$beta_pid"
wait "$reload_pid"
has alpha '.peers[0].protocol' C
wait_for_writes alpha 200

say 'every write that C acknowledged is on the survivor, and all that A and B did before'
kill_node alpha
finish_load
wait_until 10 peer_is_lost beta
order beta promote --peer-fenced
check_ledger beta

say 'what a reload refuses, and a signal that asks for one'
refused 2 'protocol' bash -c "sed -i 's/^protocol = .*/protocol = D/' '$CONFIG'; $PROGRAMS/lockstep reload $RESOURCE \
  --config '$CONFIG' --node beta --run-dir '$RUN_DIR'"
sed -i 's/^protocol = .*/protocol = B/; s/^peer-timeout = .*/peer-timeout = 1s/' "$CONFIG"
refused 3 'changes peer-timeout' on beta reload
has beta .protocol A
sed -i 's/^peer-timeout = .*/peer-timeout = 30s/' "$CONFIG"
kill -HUP "$beta_pid"
becomes 10 beta .protocol B
start_node alpha
expect_equal_images beta
