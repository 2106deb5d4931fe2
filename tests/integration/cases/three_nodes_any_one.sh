#!/bin/bash
# Three nodes under sync = any 1: a peer that stands still stops nobody, and is brought up to date by the one that kept its
# promise before it can be promoted.
NODES=(alpha beta gamma)
source "$(dirname "$0")/../case.sh"

start_pair 'sync = any 1' 'peer-timeout = 5s'
start_load alpha 30
wait_for_writes alpha 500

say 'gamma stands still, and writes go on'
gamma_pid=$(daemon_pid gamma)
end_of_this_case() { kill -CONT "$gamma_pid" 2>/dev/null; }
kill -STOP "$gamma_pid"
wait_for_writes alpha 200
kill_node alpha
finish_load
kill -CONT "$gamma_pid"

say 'gamma gets from beta what only beta had'
peer_becomes 20 gamma alpha '.["connection-state"]' Connecting
peer_becomes 20 beta gamma '.["replication-state"]' Established
peer_becomes 20 gamma beta '.["replication-state"]' Established
order gamma promote --peer-fenced
check_ledger gamma
start_node alpha
expect_all_equal
check_ledger alpha beta gamma
