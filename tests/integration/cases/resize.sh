#!/bin/bash
# A resource grows on both nodes while a client writes; the new part is zero, replicated, and there after a failover.
source "$(dirname "$0")/../case.sh"

start_pair
refused 2 'multiple of 4096' on alpha resize 1000
refused 3 'never shrinks' on alpha resize 32M
refused 3 'alpha is Primary' on beta resize 96M
order beta down
becomes 10 alpha .degraded true
refused 3 'all nodes grow together' on alpha resize 96M
start_node beta
order alpha wait --for synced --timeout 30

start_load alpha 3
wait_for_writes alpha 50
order alpha resize 96M
finish_load
check_ledger alpha
grown=$((96 << 20))
has alpha '.["size-bytes"]' $grown
has beta '.["size-bytes"]' $grown
(($(stat -c %s "$(disk_of alpha)") == grown && $(stat -c %s "$(disk_of beta)") == grown)) || fail 'a file has another size'
cmp -n $((32 << 20)) -i $((64 << 20)):0 "$(disk_of beta)" /dev/zero || fail 'what is new is not zero'

# A client that connects now may use all of it; and the size outlives both daemons, whatever the configuration says.
sector_client write "$(uri_of alpha)" --offset $((95 << 20)) --length 65536 --sequence 9 --flush yes
sector_client expect "$(disk_of beta)" --offset $((95 << 20)) --length 65536 --sequence 9
kill_node alpha
wait_until 10 peer_is_lost beta
order beta promote --peer-fenced
sector_client write "$(uri_of beta)" --offset $((94 << 20)) --length 65536 --sequence 10 --flush yes
start_node alpha
expect_equal_images beta
has alpha '.["size-bytes"]' $grown
grep -q "correct 'size' in it" "$RUN_DIR"/*alpha*.log || fail 'nobody is told that the configuration is old'
order beta resize 96M # so it is already
