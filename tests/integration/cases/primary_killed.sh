#!/bin/bash
# The Primary dies under load, three times, the roles swapped: nothing acknowledged is missing on the survivor.
source "$(dirname "$0")/../case.sh"

start_pair
primary=alpha
for round in 1 2 3; do
  survivor=$(other_node "$primary")
  say "round $round: $primary is Primary"
  start_load "$primary" 30
  wait_for_writes "$primary" 1000
  kill_node "$primary"
  finish_load
  wait_until 10 peer_is_lost "$survivor"
  refused 3 'peer-fenced' on "$survivor" promote
  order "$survivor" promote --peer-fenced
  check_ledger "$survivor"
  start_load "$survivor" 2
  wait_for_writes "$survivor" 100
  start_node "$primary"
  finish_load
  has "$primary" .role Secondary
  expect_equal_images "$survivor"
  check_ledger "$survivor" "$primary"
  primary=$survivor
done

say 'the check is not blind: one acknowledged block that is missing is found'
cp --sparse=always "$(disk_of alpha)" "$WORK/damaged.img"
block=$(awk '$3 > 0 {print $1; exit}' "$WORK/ledger")
dd if=/dev/zero of="$WORK/damaged.img" bs=4096 count=1 seek="$block" conv=notrunc status=none
if sector_client check "$WORK/damaged.img" --ledger "$WORK/ledger" 2>"$WORK/found"; then
  fail 'the lost block was not found'
fi
grep -q "at $((block * 4096)):" "$WORK/found"
