#!/bin/bash
# on-peer-loss = suspend: nothing is answered while the peer is gone, until it is back or the operator gives it up.
source "$(dirname "$0")/../case.sh"

start_pair 'on-peer-loss = suspend' 'peer-timeout = 500ms'

# Requests in the background; each of them ends when it is answered.
request() { "$SECTOR_CLIENT" load "$(uri_of alpha)" --ledger "$WORK/ledger" --seconds 1 --seed "$RANDOM"; }

say 'the peer dies under load: the load stops, and goes on when the peer is back'
start_load alpha 15
wait_for_writes alpha 500
kill_node beta
becomes 10 alpha .suspended peer-loss
writes=$(status_of alpha .writes)
< <(on alpha explain) grep -q 'resume pgdata --alone' || fail 'explain does not say what ends it'
start_node beta
becomes 20 alpha .suspended no
wait_until 20 writes_reach alpha $((writes + 100)) || fail 'the load does not go on'
finish_load
expect_equal_images alpha
check_ledger alpha beta

say 'resume alone: the load goes on with one copy'
start_load alpha 10
wait_for_writes alpha 500
kill_node beta
becomes 10 alpha .suspended peer-loss
refused 3 'resume pgdata --alone' on alpha resume
writes=$(status_of alpha .writes)
order alpha resume --alone
wait_until 20 writes_reach alpha $((writes + 100)) || fail 'the load does not go on'
has alpha .suspended no
has alpha .degraded true
start_node beta
finish_load
expect_equal_images alpha
check_ledger alpha beta

say 'a Secondary that is stopped in good order does not stop its Primary'
order beta down
has alpha .suspended no
request >/dev/null
start_node beta
order alpha wait --for synced --timeout 30

say 'a suspended node can be demoted by force; what was held fails, and is not called written'
start_load alpha 30
wait_for_writes alpha 500
kill_node beta
becomes 10 alpha .suspended peer-loss
order alpha demote --force
finish_load
has alpha .role Secondary
start_node beta
order alpha wait --for synced --timeout 30
check_ledger alpha beta

say 'and stopped'
order alpha promote
start_load alpha 30
wait_for_writes alpha 500
kill_node beta
becomes 10 alpha .suspended peer-loss
order alpha down
finish_load
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
check_ledger alpha beta

say 'an operator suspends'
order alpha promote
order alpha suspend
has alpha .suspended operator
order alpha resume
has alpha .suspended no
request >/dev/null
