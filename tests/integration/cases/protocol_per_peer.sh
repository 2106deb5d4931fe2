#!/bin/bash
# A protocol of its own for one of three nodes: the far one gets everything by A and stops nobody, the near one by C has all
# that was acknowledged. Changed while the nodes run.
NODES=(alpha beta gamma)
source "$(dirname "$0")/../case.sh"

pair_create_workspace
pair_write_configuration "$SIZE" 'protocol = C' 'peer-timeout = 30s'
sed -i '/^\[node.gamma\]/a protocol = A' "$CONFIG"
create_pair
for node in "${NODES[@]}"; do start_node "$node"; done
order alpha wait --for synced --timeout 30
order alpha promote
has alpha .protocol C
peer_becomes 5 alpha beta .protocol C
peer_becomes 5 alpha gamma .protocol A
[[ $(on alpha status) =~ gamma\ [^$'\n']*\ protocol:A ]] || fail "no protocol of gamma in: $(on alpha status)"

beta_pid=$(daemon_pid beta)
gamma_pid=$(daemon_pid gamma)
end_of_this_case() { kill -CONT "$beta_pid" "$gamma_pid" 2>/dev/null; }
write() { sector_client write "$(uri_of alpha)" --offset 4096 --length 65536 --sequence "$1" --flush yes; }

say 'gamma stands still: neither write nor flush waits for it, and beta has them'
kill -STOP "$gamma_pid"
write 1
peer_becomes 5 alpha beta '."flushed-sequence" == ."sent-sequence"' true
peer_becomes 5 alpha gamma '."sent-sequence" > ."received-sequence"' true
kill -CONT "$gamma_pid"
peer_becomes 20 alpha gamma '."flushed-sequence" == ."sent-sequence"' true

say 'beta stands still: they wait'
kill -STOP "$beta_pid"
write 2 &
writer=$!
helpers+=("$writer")
peer_becomes 10 alpha gamma '."lag-bytes" == 0 and ."sent-sequence" > 1' true
kill -0 "$writer" 2>/dev/null || fail 'the write was answered without beta'
kill -CONT "$beta_pid"
wait "$writer" || fail 'the write failed'

say 'the other way round, while the nodes run'
sed -i '/^protocol = A/d' "$CONFIG"
sed -i '/^\[node.beta\]/a protocol = A' "$CONFIG"
plan=$(on alpha reload --dry-run)
[[ $plan == *'protocol C (beta: A) instead of C (gamma: A)'* ]] || fail "the plan is: $plan"
for node in "${NODES[@]}"; do order "$node" reload; done
peer_becomes 5 alpha beta .protocol A
peer_becomes 5 alpha gamma .protocol C
kill -STOP "$beta_pid"
write 3
kill -CONT "$beta_pid"

say 'who was promoted uses the same'
order alpha switchover --to gamma
peer_becomes 5 gamma beta .protocol A
peer_becomes 5 gamma alpha .protocol C
expect_all_equal
