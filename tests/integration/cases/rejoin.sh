#!/bin/bash
# A peer that was away for a little write gets back only that, not the whole device.
source "$(dirname "$0")/../case.sh"

start_pair
sector_client write "$(uri_of alpha)" --offset 0 --length 16777216 --sequence 1 --flush yes
generation=$(status_of alpha .generation)
order beta down
becomes 10 alpha .degraded true
sector_client write "$(uri_of alpha)" --offset 20971520 --length 65536 --sequence 2 --flush yes
[[ $(status_of alpha .generation) != "$generation" ]] || fail 'writes that the peer misses made no new generation'
has alpha '.peers[0]["out-of-sync-bytes"]' 65536

start_node beta
expect_equal_images alpha
sector_client expect "$(disk_of beta)" --offset 20971520 --length 65536 --sequence 2
(($(status_of beta '.["written-bytes"] // 0') < 1048576 * 8)) || fail 'far more was written than was missing'
[[ $(status_of alpha .generation) == "$(status_of beta .generation)" ]] || fail 'the generations differ'
