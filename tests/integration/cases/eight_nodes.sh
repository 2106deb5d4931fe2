#!/bin/bash
# As many nodes as there may be: seven peers get every write, the Primary dies under load, and the survivors agree.
NODES=(alpha beta gamma delta epsilon zeta eta theta)
source "$(dirname "$0")/../case.sh"

start_pair 'sync = any 2'
start_load alpha 30
wait_for_writes alpha 300
kill_node alpha
finish_load

say 'the survivors bring each other together, and one is promoted'
for node in "${NODES[@]:1}"; do
  peer_becomes 20 "$node" alpha '.["connection-state"]' Connecting
  for peer in "${NODES[@]:1}"; do
    [[ $node == "$peer" ]] || peer_becomes 60 "$node" "$peer" '.["replication-state"]' Established
  done
done
order theta promote --peer-fenced
check_ledger theta
start_load theta 2
wait_for_writes theta 100
finish_load

say 'alpha comes back'
start_node alpha
has alpha .role Secondary
expect_all_equal
check_ledger "${NODES[@]}"

say 'a ninth node is refused'
printf '\n[node.iota]\naddress = 127.0.0.1:7789\ndisk = %s\nnbd = unix:%s\n' "$WORK/iota.img" "$WORK/iota.sock" >>"$CONFIG"
refused 2 '8|eight' on alpha create
