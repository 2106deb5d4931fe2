#!/bin/bash
# Both nodes wrote while apart: both say split brain, neither gives way, and neither loses a byte.
source "$(dirname "$0")/../case.sh"

start_pair 'peer-timeout = 500ms'
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
say 'each is frozen while the other finds it gone; the operator says that alpha is fenced, and is wrong'
alpha_pid=$(daemon_pid alpha)
beta_pid=$(daemon_pid beta)
end_of_this_case() { kill -CONT "$alpha_pid" "$beta_pid" 2>/dev/null; }
kill -STOP "$beta_pid"
sector_client write "$(uri_of alpha)" --offset 8192 --length 4096 --sequence 2 --flush yes
has alpha .degraded true
kill -STOP "$alpha_pid"
kill -CONT "$beta_pid"
wait_until 10 peer_is_lost beta
order beta promote --peer-fenced
kill -CONT "$alpha_pid"
say 'as long as only one of them has written, it is no split brain, and is refused all the same'
for node in alpha beta; do
  becomes 15 "$node" '.peers[0].refused' primary-would-be-target
  < <(on "$node" status) grep -q 'connection:Connecting .* refused:primary-would-be-target' || fail "$(on "$node" status)"
  < <(on "$node" explain) grep -q "have beta take what alpha has, on beta: 'lockstep demote" || fail "$(on "$node" explain)"
done
sector_client write "$(uri_of beta)" --offset 16384 --length 4096 --sequence 3 --flush yes

is_split() { < <(on "$1" explain) grep -qi 'split.brain'; }
for node in alpha beta; do
  wait_until 15 is_split "$node" || fail "$node does not report the split brain: $(on "$node" explain)"
  becomes 5 "$node" '.peers[0]["connection-state"]' StandAlone
  has "$node" '.peers[0]["split-brain"]' true
  < <(on "$node" status) grep -q 'connection:StandAlone .* split-brain:yes' || fail "$(on "$node" status)"
  < <(on "$node" metrics) grep -q '^lockstep_peer_split_brain{.*} 1$' || fail "$(on "$node" metrics)"
  < <(on "$node" explain) grep -q "on $node: 'lockstep demote pgdata --force', then 'lockstep resync pgdata" ||
    fail "$(on "$node" explain)"
done
refused 3 "alpha and beta wrote apart .* 'lockstep explain" on alpha resync beta
sector_client expect "$(disk_of alpha)" --offset 8192 --length 4096 --sequence 2
sector_client expect "$(disk_of alpha)" --offset 16384 --length 4096 --sequence 0
sector_client expect "$(disk_of beta)" --offset 8192 --length 4096 --sequence 0
sector_client expect "$(disk_of beta)" --offset 16384 --length 4096 --sequence 3
