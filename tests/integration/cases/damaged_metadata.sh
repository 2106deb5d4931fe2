#!/bin/bash
# Metadata with a damaged log or bitmap: the log names it, everything that it spoke of is compared, and nothing is lost.
source "$(dirname "$0")/../case.sh"

start_pair 'peer-timeout = 500ms'
sector_client write "$(uri_of alpha)" --offset 0 --length 1048576 --sequence 1 --flush yes
order alpha wait --for synced --timeout 30

# flip NODE UNIT: one bit in the middle of that unit of 4 KiB.
flip() {
  local file place byte
  file=$(disk_of "$1").meta
  place=$(($2 * 4096 + 2000))
  byte=$(od -An -tu1 -j "$place" -N 1 "$file")
  printf '%b' "\\x$(printf '%x' $((byte ^ 16)))" | dd of="$file" bs=1 seek="$place" conv=notrunc status=none
}
says() { grep -q "$2" "$RUN_DIR/$RESOURCE.$1.log"; }

say "one bit of the Secondary's activity log"
kill_node beta
# The ring stands behind the superblocks and before the bitmaps.
flip beta 20
< <(on beta dump-metadata) grep -q 'DAMAGED: the activity log'
start_node beta
says beta "the activity log in $(disk_of beta).meta is damaged: every block counts as out of sync" || fail 'nothing in the log'
expect_equal_images alpha
has beta '.["disk-state"]' UpToDate

say 'the same on the Primary, which died'
kill_node alpha
flip alpha 20
wait_until 10 peer_is_lost beta
order beta promote --peer-fenced
start_node alpha
says alpha 'the activity log in .* is damaged' || fail 'nothing in the log'
expect_equal_images beta

say "one bit of a bitmap's page"
order alpha down
page=$(($(stat -c %s "$(disk_of alpha).meta") / 4096 - 1))
while ! dd if="$(disk_of alpha).meta" bs=4096 skip="$page" count=1 status=none | grep -q STEPBMAP; do ((page -= 1)); done
flip alpha "$page"
< <(on alpha dump-metadata) grep -q 'damaged-pages:1'
start_node alpha
says alpha '1 pages of the bitmap in .* are damaged' || fail 'nothing in the log'
expect_equal_images beta
sector_client expect "$(disk_of alpha)" --offset 0 --length 1048576 --sequence 1
