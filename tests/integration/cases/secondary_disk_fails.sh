#!/bin/bash
# The Secondary's disk, then its metadata, fail under load: the Primary goes on alone, says so, and the disk is resynced
# by what it missed when it is given back.
source "$(dirname "$0")/../case.sh"
# shellcheck source-path=SCRIPTDIR/..
source "$integration/failing_disk.sh"
require_failing_disks

pair_create_workspace
pair_write_configuration "$SIZE"
create_pair
make_failing beta disk.img
make_failing beta disk.img.meta
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
order alpha promote

for file in disk.img disk.img.meta; do
  say "$file fails"
  start_load alpha 5
  wait_for_writes alpha 300
  break_file beta "$file"
  # Metadata is written to by a change of generation only: the link is lost for a moment.
  [[ $file == disk.img ]] || order alpha disconnect
  [[ $file == disk.img ]] || order alpha connect
  becomes 10 beta '.["disk-state"]' Failed
  becomes 10 alpha '.peers[0]["disk-state"]' Failed
  has alpha '.["disk-state"]' UpToDate
  becomes 10 alpha .degraded true
  wait_for_writes alpha 300
  refused 1 'has failed' on beta promote --peer-fenced
  mend_file beta "$file"
  order beta attach
  order alpha wait --for synced --timeout 60
  finish_load
  expect_equal_images alpha
  check_ledger alpha beta
done
