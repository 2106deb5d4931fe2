#!/bin/bash
# Both nodes die at once, as in a power cut: they find each other again, equal, and with all that was acknowledged.
source "$(dirname "$0")/../case.sh"

start_pair
start_load alpha 30
wait_for_writes alpha 1000
alpha_pid=$(daemon_pid alpha)
beta_pid=$(daemon_pid beta)
kill -KILL "$alpha_pid" "$beta_pid"
wait_until 10 process_is_gone "$alpha_pid"
wait_until 10 process_is_gone "$beta_pid"
rm "$RUN_DIR"/{alpha,beta}.pid
finish_load
start_node beta
start_node alpha
expect_equal_images alpha
check_ledger alpha beta
order alpha promote
start_load alpha 1
finish_load
check_ledger alpha beta
