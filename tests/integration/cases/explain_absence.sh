#!/bin/bash
# What explain says of an absent peer is what its return brings; and the live screen, on a terminal.
source "$(dirname "$0")/../case.sh"

start_pair 'peer-timeout = 500ms'
[[ $(status_of alpha .sync) == all && $(status_of alpha '.peers[0].protocol') == C ]] || fail "$(on alpha status --json)"
order beta down
wait_until 10 peer_is_lost alpha
< <(on alpha explain) grep -q 'nothing has to be copied, as long as nothing is written (rule equal-clean)' ||
  fail "$(on alpha explain)"
sector_client write "$(uri_of alpha)" --offset 0 --length 1048576 --sequence 1 --flush yes
sector_client write "$(uri_of alpha)" --offset 8388608 --length 524288 --sequence 2 --flush yes
on alpha explain >"$WORK/said"
grep -qE 'beta has been absent for [0-9]+s, since 20[0-9-]+T[0-9:]+Z' "$WORK/said" || fail "$(cat "$WORK/said")"
grep -q 'this node has 1.5M written that beta lacks' "$WORK/said" || fail "$(cat "$WORK/said")"
grep -q 'when it returns, 1.5M will be copied from here (rule peer-is-behind)' "$WORK/said" || fail "$(cat "$WORK/said")"
on alpha explain --json | jq -e '.peers[0] | .["lacks-bytes"] == 1572864 and .["expected-rule"] == "peer-is-behind" and
  .["expected-source"] and .["absent-seconds"] >= 0' >/dev/null || fail "$(on alpha explain --json)"
start_node beta
expect_equal_images alpha
< <(on alpha explain) grep -q 'rule peer-is-behind' || fail "it came otherwise: $(on alpha explain)"
< <(on alpha explain) grep -q 'when it returns' && fail 'beta is here'

say 'the screen'
command -v script >/dev/null || skip 'script(1) is missing, so no terminal was tried'
# watched ENVIRONMENT...: the screen of two seconds, ended as Ctrl-C does.
watched() {
  env TERM=xterm "$@" script -qefc "timeout --foreground --preserve-status -s INT 2 \
    $PROGRAMS/lockstep status --watch --run-dir $RUN_DIR" "$WORK/screen" </dev/null >/dev/null || fail "it did not end well: $(cat "$WORK/screen")"
  grep -q 'pgdata on alpha' "$WORK/screen" || fail "$(cat "$WORK/screen")"
  grep -q 'Connected Secondary' "$WORK/screen" || fail "$(cat "$WORK/screen")"
  # The other screen, and back from it.
  { grep -qF $'\e[?1049h' "$WORK/screen" && grep -qF $'\e[?1049l' "$WORK/screen"; } || fail 'the terminal is not as it was'
}
watched NO_COLOR=
grep -qF $'\e[36m' "$WORK/screen" || fail 'no colours'
watched NO_COLOR=1
grep -qF $'\e[36m' "$WORK/screen" && fail 'NO_COLOR is not honoured'
exit 0
