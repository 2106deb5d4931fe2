#!/bin/bash
# Pacemaker's agent by itself: the codes that a cluster decides by. (tests/machines/ocf-tester: what is asked of every agent.)
source "$(dirname "$0")/../case.sh"
# shellcheck source-path=SCRIPTDIR/..
source "$integration/ocf.sh"

pair_create_workspace
pair_write_configuration "$SIZE" 'peer-timeout = 500ms'
create_pair

say 'the codes of a life'
gives 0 alpha validate-all
gives 7 alpha monitor
gives 7 alpha demote
gives 0 alpha start
gives 0 beta start
gives 0 beta start
order alpha wait --for synced --timeout 30
gives 0 alpha monitor
gives 0 alpha promote
gives 8 alpha monitor
gives 0 alpha promote
gives 0 beta monitor
gives 0 alpha notify

say 'no second Primary'
seconds=2 gives 1 beta promote
grep -q 'Primary' "$WORK/said" || fail "it does not say why: $(cat "$WORK/said")"

say 'demoted although a client is attached'
"$SECTOR_CLIENT" load "$(uri_of alpha)" --ledger "$WORK/ledger" --seconds 60 --seed 1 >"$WORK/load.out" 2>&1 &
helpers+=($!)
wait_for_writes alpha 100
gives 0 alpha demote
gives 0 alpha monitor
has alpha .role Secondary
gives 0 alpha promote

say 'the Primary dies: without an arbiter nobody is promoted'
note_process alpha
kill_node alpha
gives 7 alpha monitor
becomes 10 beta '.peers[0]["connection-state"]' Connecting
seconds=2 gives 1 beta promote
grep -q 'peer-fenced' "$WORK/said" || fail "it does not say what would help: $(cat "$WORK/said")"
gives 0 beta monitor

say 'a daemon that does not answer runs, and is ended by stop'
gives 0 alpha start
process=$(process_of alpha)
kill -STOP "$process"
gives 1 alpha monitor
seconds=3 gives 0 alpha stop
gives 7 alpha monitor
process_is_gone "$process" || fail 'it still runs'
gives 0 alpha stop
gives 0 beta stop
gives 7 beta monitor

say 'mistakes'
sed 's/^size = .*/size = nonsense/' "$CONFIG" >"$WORK/bad.conf"
agent_config=$WORK/bad.conf
gives 6 alpha validate-all
gives 6 alpha start
agent_config=$WORK/none.conf
gives 5 alpha start
