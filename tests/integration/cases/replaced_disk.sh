#!/bin/bash
# The Primary's disk, with what its peer lacks, is replaced by an empty one: the peer is not the newest for that. Nothing
# is copied, and nobody is promoted, before an operator has typed the generation whose loss is accepted.
source "$(dirname "$0")/../case.sh"

start_pair
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
say 'beta stops and alpha goes on'
order beta down
sector_client write "$(uri_of alpha)" --offset 8192 --length 4096 --sequence 2 --flush yes
kill_node alpha
order alpha create --force
start_node alpha
start_node beta

explains() { < <(on "$1" explain) grep -q "$2"; }
wait_until 15 explains beta self-may-be-stale || fail "beta does not say why it waits: $(on beta explain)"
wait_until 15 explains alpha peer-may-be-stale || fail "alpha does not say why it waits: $(on alpha explain)"
explains beta 'force-data-loss' || fail "beta does not say what to type: $(on beta explain)"
has beta '.["disk-state"]' Outdated
refused 3 'force-data-loss' on beta promote
refused 3 '' on beta promote --peer-fenced
refused 3 '' on alpha promote
sector_client expect "$(disk_of alpha)" --offset 0 --length 4096 --sequence 0

say 'the operator takes what is left'
order beta disconnect
order beta promote --force-data-loss "$(status_of beta .generation)"
order beta connect
expect_equal_images beta
sector_client expect "$(disk_of alpha)" --offset 0 --length 4096 --sequence 1
sector_client expect "$(disk_of alpha)" --offset 8192 --length 4096 --sequence 0
