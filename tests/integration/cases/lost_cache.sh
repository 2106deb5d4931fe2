#!/bin/bash
# The Primary's disk has failed, and the peer that served its clients lost its power with their writes in its cache: what
# they saw cannot be had any more. Requests fail rather than answer with older data, and everything that tells of the node
# says so.
source "$(dirname "$0")/../case.sh"
# shellcheck source-path=SCRIPTDIR/..
source "$integration/failing_disk.sh"

start_pair_on_failing_disk 'peer-timeout = 500ms'
has alpha .failing false
break_file alpha disk.img
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1
becomes 10 alpha '.["disk-state"]' Failed
sector_client write "$(uri_of alpha)" --offset 4096 --length 4096 --sequence 2
kill_node beta
becomes 10 alpha .suspended no-data
has alpha .failing false

start_node beta
becomes 20 alpha .failing true
< <(on alpha status) grep -q "^pgdata role:Primary disk:Failed failing:yes" || fail "$(on alpha status)"
< <(on alpha status) grep -q "requests of clients fail; what ends it: 'lockstep explain pgdata'" || fail "$(on alpha status)"
< <(on alpha explain) grep -q "client I/O fails.*cannot be had" || fail "$(on alpha explain)"
< <(on alpha metrics) grep -q '^lockstep_failing{.*} 1$' || fail "$(on alpha metrics)"
order alpha demote --force
has alpha .failing false
