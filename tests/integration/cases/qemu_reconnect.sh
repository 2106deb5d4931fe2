#!/bin/bash
# QEMU's NBD driver with a reconnect-delay above the export: the daemon is killed and started again, twice, and whatever
# QEMU serves (here: its own NBD export) sees no error.
source "$(dirname "$0")/../case.sh"
command -v qemu-storage-daemon >/dev/null || skip 'no qemu-storage-daemon'

start_pair
qemu-storage-daemon \
  --blockdev "driver=nbd,node-name=pgdata,server.type=unix,server.path=$WORK/alpha/nbd.sock,export=$RESOURCE,reconnect-delay=120" \
  --nbd-server "addr.type=unix,addr.path=$WORK/qemu.sock" \
  --export type=nbd,id=again,node-name=pgdata,name=again,writable=on 2>"$WORK/qemu.log" &
helpers+=($!)
wait_until 10 test -S "$WORK/qemu.sock" || fail "qemu-storage-daemon: $(cat "$WORK/qemu.log")"
"$SECTOR_CLIENT" load "nbd+unix:///again?socket=$WORK/qemu.sock" --ledger "$WORK/ledger" --seconds 6 --seed 1 \
  >"$WORK/load.out" 2>&1 &
load_pid=$!
helpers+=("$load_pid")

for round in 1 2; do
  wait_for_writes alpha 300
  started=$(date +%s%N)
  kill_node alpha
  start_node alpha
  order alpha wait --for synced --timeout 60
  order alpha promote
  say "round $round: away for $((($(date +%s%N) - started) / 1000000)) ms"
done
wait_for_writes alpha 300
finish_load
expect_equal_images alpha
check_ledger alpha beta
