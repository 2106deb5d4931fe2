#!/bin/bash
# A node's data is forgotten by order, at that node or at the other, and copied in full; never the last good copy.
source "$(dirname "$0")/../case.sh"

start_pair
sector_client write "$(uri_of alpha)" --offset 0 --length 1048576 --sequence 1 --flush yes

# A block of beta's image rots: no rule knows it. Told to copy everything, alpha mends it.
order alpha wait --for synced --timeout 30
printf 'rotten' | dd of="$(disk_of beta)" bs=4096 seek=5000 conv=notrunc status=none
refused 3 'alpha is Primary' on alpha invalidate
refused 3 'alpha is Primary' on beta invalidate-peer alpha
order alpha invalidate-peer beta
expect_equal_images alpha

printf 'rotten' | dd of="$(disk_of beta)" bs=4096 seek=6000 conv=notrunc status=none
order beta invalidate
expect_equal_images beta
on alpha status
refused 2 'no node' on alpha invalidate-peer gamma
order beta down
refused 3 'not connected' on alpha invalidate-peer beta
