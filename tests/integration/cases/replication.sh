#!/bin/bash
# What a client writes is on both disks, whatever the request, and a flush answers only then.
source "$(dirname "$0")/../case.sh"

start_pair
has alpha .role Primary
has beta .role Secondary
has alpha '.peers[0]["replication-state"]' Established

say 'write, FUA, zeroes and trim'
uri=$(uri_of alpha)
sector_client write "$uri" --offset 0 --length 4194304 --sequence 1 --flush yes
sector_client write "$uri" --offset 8388608 --length 65536 --sequence 2 --fua yes
sector_client write "$uri" --offset $((SIZE_BYTES - 4096)) --length 4096 --sequence 3 --fua yes
sector_client zero "$uri" --offset 1048576 --length 1048576 --flush yes
sector_client trim "$uri" --offset 3145728 --length 524288 --flush yes

for node in alpha beta; do
  disk=$(disk_of "$node")
  sector_client expect "$disk" --offset 0 --length 1048576 --sequence 1
  sector_client expect "$disk" --offset 1048576 --length 1048576 --sequence 0
  sector_client expect "$disk" --offset 2097152 --length 1048576 --sequence 1
  sector_client expect "$disk" --offset 3145728 --length 524288 --sequence 0
  sector_client expect "$disk" --offset 8388608 --length 65536 --sequence 2
  sector_client expect "$disk" --offset $((SIZE_BYTES - 4096)) --length 4096 --sequence 3
done

say 'many requests at once'
start_load alpha 2
finish_load
check_ledger alpha beta
expect_equal_images alpha

say 'a clean stop and start needs no resync'
order alpha demote
for node in alpha beta; do
  order "$node" down
  refused 4 'is down' on "$node" promote
done
for node in alpha beta; do start_node "$node"; done
expect_equal_images alpha
check_ledger alpha beta
