#!/bin/bash
# The Primary's disk has failed, and the peer that served its clients lost its power with their writes in its cache: what
# they saw cannot be had any more. Requests fail rather than answer with older data, and everything that tells of the node
# says so.
source "$(dirname "$0")/../case.sh"
# shellcheck source-path=SCRIPTDIR/..
source "$integration/failing_disk.sh"
require_failing_disks

pair_create_workspace
pair_write_configuration "$SIZE" 'peer-timeout = 500ms'
create_pair
make_failing alpha disk.img
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
order alpha promote
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
