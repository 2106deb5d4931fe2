#!/bin/bash
# The Secondary dies under load: the Primary goes on, degraded, and the Secondary catches up when it is back.
source "$(dirname "$0")/../case.sh"

start_pair
start_load alpha 5
wait_for_writes alpha 500
kill_node beta
becomes 10 alpha '.peers[0]["connection-state"]' Connecting
wait_for_writes alpha 500
has alpha .role Primary
has alpha .degraded true
has alpha .suspended no
finish_load
(($(status_of alpha '.peers[0]["out-of-sync-bytes"]') > 0)) || fail 'nothing is marked as missing on the peer'

say 'back under a new load'
start_load alpha 3
start_node beta
finish_load
expect_equal_images alpha
has alpha .degraded false
has beta '.["disk-state"]' UpToDate
check_ledger alpha beta
