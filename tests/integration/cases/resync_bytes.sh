#!/bin/bash
# A resync moves no more than it must: after an absence the blocks that were written, after a Primary's death its hot set.
source "$(dirname "$0")/../case.sh"

# An activity log that covers less than half of the device.
SIZE=512M
start_pair 'activity-log-extents = 61'
# Bytes that the last resync of NODE as source had to look at.
resynced_bytes() {
  echo $(($(sed -n 's/.*resync with .* started: \([0-9]*\) blocks.*/\1/p' "$RUN_DIR/$RESOURCE.$1.log" | tail -n 1) * 4096))
}
order alpha wait --for synced --timeout 30

say 'the Secondary is away while single sectors and whole blocks are written, some of them twice'
order beta down
for block in 0 7 7 1000 9000 100000; do
  sector_client write "$(uri_of alpha)" --offset $((block * 4096 + 512)) --length 512 --sequence "$((block + 1))" --flush yes
done
sector_client write "$(uri_of alpha)" --offset $((20000 * 4096)) --length 65536 --sequence 3 --flush yes
start_node beta
expect_equal_images alpha
bytes=$(resynced_bytes alpha)
((bytes == (5 + 16) * 4096)) || fail "$bytes bytes were out of sync instead of 21 blocks"

say 'and under a random load'
order beta down
start_load alpha 3
finish_load
written=$(($(wc -l <"$WORK/ledger") * 4096))
start_node beta
expect_equal_images alpha
bytes=$(resynced_bytes alpha)
((bytes <= written)) || fail "$bytes bytes were out of sync, and $written were written"
say "$written bytes written meanwhile, $bytes copied"

say 'the Primary dies under a load over the whole device'
start_load alpha 30
wait_for_writes alpha 2000
kill_node alpha
finish_load
hot_bytes=$(on alpha dump-metadata --json |
  jq '(if type == "array" then .[0] else . end)["activity-log"]["hot-extents"] | length * 4194304')
((hot_bytes <= 61 * 4194304)) || fail "the hot set is $hot_bytes bytes"
wait_until 20 peer_is_lost beta
order beta promote --peer-fenced
start_node alpha
expect_equal_images beta
bytes=$(resynced_bytes beta)
((bytes <= hot_bytes)) || fail "$bytes bytes were out of sync, and the hot set was $hot_bytes"
say "hot set $hot_bytes bytes, $bytes compared or copied"
check_ledger alpha beta
