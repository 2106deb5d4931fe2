#!/bin/bash
# Clients that die in the middle of requests cost nothing but themselves.
source "$(dirname "$0")/../case.sh"

start_pair
for round in 1 2 3 4 5; do
  "$SECTOR_CLIENT" load "$(uri_of alpha)" --ledger "$WORK/ledger" --seconds 30 --depth 64 --seed "$round" \
    >"$WORK/load.out" 2>&1 &
  client_pid=$!
  helpers+=("$client_pid")
  wait_for_writes alpha 200
  kill -KILL "$client_pid"
  wait "$client_pid" 2>/dev/null || true
done
becomes 10 alpha '.nbd[0].clients' 0
becomes 10 alpha '.["in-flight"]' 0
has alpha .role Primary
start_load alpha 1
finish_load
check_ledger alpha beta
expect_equal_images alpha
order alpha demote
