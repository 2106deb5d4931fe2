#!/bin/bash
# Pacemaker's agent on a Primary whose requests fail: its disk has failed, and the peer that served its clients lost its power
# with their writes. The cluster hears 9, demotes it, and promotes the peer.
source "$(dirname "$0")/../case.sh"
# shellcheck source-path=SCRIPTDIR/..
source "$integration/ocf.sh"
# shellcheck source-path=SCRIPTDIR/..
source "$integration/failing_disk.sh"

start_pair_on_failing_disk 'peer-timeout = 500ms'
gives 8 alpha monitor

say 'the disk fails: the peer serves the clients, and the node is Primary as before'
break_file alpha disk.img
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1
becomes 10 alpha '.["disk-state"]' Failed
sector_client write "$(uri_of alpha)" --offset 4096 --length 4096 --sequence 2
gives 8 alpha monitor

say 'the peer is away: requests wait, and none has failed'
kill_node beta
becomes 10 alpha .suspended no-data
gives 8 alpha monitor

say 'it is back without what it had answered: requests fail'
start_node beta
becomes 20 alpha .failing true
gives 9 alpha monitor
grep -q 'requests fail' "$WORK/said" || fail "it does not say why: $(cat "$WORK/said")"
gives 0 alpha demote
has alpha .role Secondary
gives 0 alpha monitor
seconds=2 gives 1 alpha promote
gives 0 beta promote
gives 8 beta monitor
gives 0 alpha stop
gives 0 beta stop
