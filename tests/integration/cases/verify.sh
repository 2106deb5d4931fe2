#!/bin/bash
# Online verify: equal copies under load have no difference; a sector that rots on the Secondary is found and repaired.
source "$(dirname "$0")/../case.sh"

# rot NODE OFFSET: the sector there changes behind the daemon's back.
rot() {
  head -c 512 /dev/urandom | dd of="$(disk_of "$1")" bs=512 seek=$(($2 / 512)) conv=notrunc status=none
  sync "$(disk_of "$1")"
}

start_pair
say 'under load nothing differs'
start_load alpha 3
wait_for_writes alpha 500
order alpha verify beta
finish_load
order alpha wait --for verified --timeout 1
has alpha '.peers[0]["out-of-sync-bytes"]' 0
has beta '.peers[0].verified' true

say 'a sector that changed on the Secondary is found, and marked on the Primary'
offset=$((23 << 20 | 4096 | 1024))
rot beta "$offset"
status=0
on alpha verify >"$WORK/verify.out" || status=$?
((status == 1)) || fail "verify exits $status"
cat "$WORK/verify.out"
grep -q "beta differs from $(((23 << 20) + 4096)) to $(((23 << 20) + 8192)) " "$WORK/verify.out"
has alpha '.peers[0]["out-of-sync-bytes"]' 4096
has alpha '.peers[0]["replication-state"]' Established

say 'repair copies it, without a moment in which the peer is not in sync'
start_load alpha 2 --span $((16 << 20)) # in front of the sector, which the load would mend itself
wait_for_writes alpha 100
order beta verify --repair
has alpha .degraded false
finish_load
expect_equal_images alpha
check_ledger alpha beta
[[ $(status_of alpha '.peers[0]["last-verify"]["out-of-sync-bytes"]') == 0 ]]
[[ $(status_of beta '.peers[0]["last-verify"].ranges[0]["offset-bytes"]') == $(((23 << 20) + 4096)) ]]

say 'the same by a resync after a verify'
rot beta 4096
on alpha verify && fail 'the difference was not found'
order alpha resync beta
wait_until 10 status_is alpha '.peers[0]["out-of-sync-bytes"]' 0
expect_equal_images alpha

say 'without a Primary nothing says whose copy counts; without a link there is nothing to compare'
order alpha demote
refused 3 'no node is Primary' on alpha verify --repair
kill_node beta
wait_until 10 peer_is_lost alpha
refused 3 'not connected' on alpha verify
