#!/bin/bash
# Three nodes: the Primary dies under load. The survivors agree between themselves, one is promoted, the other follows;
# the dead one comes back and gets no more than what it may lack.
NODES=(alpha beta gamma)
source "$(dirname "$0")/../case.sh"

start_pair
start_load alpha 30
wait_for_writes alpha 1000
kill_node alpha
finish_load

say 'beta and gamma bring each other together without anybody'
peer_becomes 20 beta alpha '.["connection-state"]' Connecting
peer_becomes 20 beta gamma '.["replication-state"]' Established
peer_becomes 20 gamma beta '.["replication-state"]' Established
blocks=$(sed -n 's/.*resync with .* started: \([0-9]*\) blocks.*/\1/p' "$RUN_DIR/$RESOURCE".{beta,gamma}.log | sort -n | tail -n 1)
blocks=${blocks:-0}
((blocks < 16384 / 2)) || fail "$blocks blocks of the device's 16384 were out of sync between the survivors"
say "$blocks blocks were not known to be stable on both"
refused 3 'peer-fenced' on beta promote
order beta promote --peer-fenced
check_ledger beta
becomes 10 gamma '.peers[] | select(.node == "beta") | .role' Primary
refused 3 'Primary' on gamma promote --peer-fenced

say 'writes go to both'
start_load beta 2
wait_for_writes beta 100
finish_load
peer_becomes 20 beta gamma '.["out-of-sync-bytes"]' 0

say 'alpha comes back, and gets the extents that were hot and what was written since'
start_node alpha
has alpha .role Secondary
expect_all_equal
check_ledger alpha beta gamma
