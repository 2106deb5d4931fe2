#!/bin/bash
# A Primary is frozen, replaced, and thawed: its clients get no old data and no success for what it cannot keep.
source "$(dirname "$0")/../case.sh"

for policy in continue suspend; do
  say "on-peer-loss = $policy"
  [[ -z $WORK ]] || pair_remove_workspace
  start_pair "on-peer-loss = $policy" 'peer-timeout = 500ms'
  block=(--offset 0 --length 4096 --sequence)
  sector_client write "$(uri_of alpha)" "${block[@]}" 1 --flush yes
  start_load alpha 30
  wait_for_writes alpha 500
  pid=$(daemon_pid alpha)
  kill -STOP "$pid"
  wait_until 10 peer_is_lost beta
  order beta promote --peer-fenced
  cp --sparse=always "$(disk_of beta)" "$WORK/promoted.img"
  sector_client load "$(uri_of beta)" --ledger "$WORK/ledger.beta" --seconds 1 --seed 1 >/dev/null
  sector_client write "$(uri_of beta)" "${block[@]}" 1000000 --flush yes
  # Readers that knock while it is frozen: none may see what beta has overwritten.
  readers=()
  for _ in 1 2 3 4; do
    "$SECTOR_CLIENT" expect "$(uri_of alpha)" "${block[@]}" 1 2>/dev/null &
    readers+=("$!")
  done
  helpers+=("${readers[@]}")
  kill -CONT "$pid"
  for reader in "${readers[@]}"; do
    if wait "$reader"; then fail 'an old block was read from a Primary that was replaced'; fi
  done
  # The load's requests are from before the freeze; it ends when its session does.
  finish_load
  sector_client check "$WORK/promoted.img" --ledger "$WORK/ledger"
  becomes 20 alpha .role Secondary
  order beta wait --for synced --timeout 30
  has beta .role Primary
  expect_equal_images beta
  sector_client expect "$(disk_of alpha)" "${block[@]}" 1000000
done
