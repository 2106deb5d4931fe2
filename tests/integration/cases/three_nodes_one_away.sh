#!/bin/bash
# Three nodes: one Secondary is away while the others go on. It gets what it missed, and only that: from the Primary, or,
# when the Primary died meanwhile, from the other Secondary, who knows it, too. The role is handed over without it.
# And a disk that serves the third one is not given up.
NODES=(alpha beta gamma)
source "$(dirname "$0")/../case.sh"

start_pair
sector_client write "$(uri_of alpha)" --offset 0 --length 16777216 --sequence 1 --flush yes

say 'gamma is away for 64 KiB'
order gamma down
becomes 10 alpha .degraded true
sector_client write "$(uri_of alpha)" --offset 20971520 --length 65536 --sequence 2 --flush yes
peer_becomes 10 alpha gamma '.["out-of-sync-bytes"]' 65536
peer_becomes 10 beta gamma '.["out-of-sync-bytes"]' 65536
[[ $(status_of alpha .generation) == "$(status_of beta .generation)" ]] || fail 'alpha and beta hold different generations'
order alpha switchover --to beta
becomes 10 beta .role Primary
order beta switchover --to alpha
becomes 10 alpha .role Primary
start_node gamma
expect_all_equal
sector_client expect "$(disk_of gamma)" --offset 20971520 --length 65536 --sequence 2

say 'gamma is away again, and the Primary dies before it is back'
order gamma down
becomes 10 alpha .degraded true
sector_client write "$(uri_of alpha)" --offset 41943040 --length 65536 --sequence 3 --flush yes
peer_becomes 10 beta gamma '.["out-of-sync-bytes"]' 65536
kill_node alpha
peer_becomes 20 beta alpha '.["connection-state"]' Connecting
start_node gamma
peer_becomes 20 gamma beta '.["replication-state"]' Established
sector_client expect "$(disk_of gamma)" --offset 41943040 --length 65536 --sequence 3
< <(on gamma explain) grep -q 'self-is-behind' || fail "not by bitmap: $(on gamma explain)"
[[ $(status_of gamma .generation) == "$(status_of beta .generation)" ]] || fail 'the generations differ'
order beta promote --peer-fenced
start_node alpha
expect_all_equal

say 'a disk that serves the Primary is not given up for that of the third node'
order beta detach
sector_client write "$(uri_of beta)" --offset 62914560 --length 65536 --sequence 4 --flush yes
refused 3 'last UpToDate copy' on alpha invalidate
order beta attach
expect_all_equal
