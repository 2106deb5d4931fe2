#!/bin/bash
# What accepts a loss says it first, does nothing in a dry run, and stands in the audit logs of both nodes.
source "$(dirname "$0")/../case.sh"

start_pair 'peer-timeout = 500ms'
generation=$(status_of alpha .generation)
audit_of() { jq -c "$2" "$WORK/$1/disk.img.meta.audit"; }
has_line() { [[ -n $(audit_of "$1" "select($2)") ]]; }
expect_line() { has_line "$@" || fail "no line at $1 with $2 in $(audit_of "$1" .)"; }

# same_refusal STATUS PATTERN NODE VERB [ARGS...]: an order and its dry run are refused alike.
same_refusal() {
  local status=$1 pattern=$2 said
  shift 2
  said=$(on "$@" --dry-run 2>&1 >/dev/null) && fail "the dry run of $* was not refused"
  refused "$status" "$pattern" on "$@" --dry-run
  [[ $(on "$@" 2>&1 >/dev/null) == "$said" ]] || fail "$* and its dry run say different things"
}

say 'dry runs say what the order would, and change nothing'
before=$(on beta status --json | jq -c '.[0] | del(.peers[0]["round-trip-us"], .peers[0]["lag-ms"])')
same_refusal 3 'in use' alpha invalidate
same_refusal 3 'typed is not the current' beta promote --force-data-loss "${generation//[0-9a-f]/0}"
same_refusal 3 'no split brain' beta resync alpha --discard-my-data "$generation"
< <(on beta invalidate --dry-run) grep -q "64.0M of generation $generation" || fail "$(on beta invalidate --dry-run)"
< <(on alpha invalidate-peer beta --dry-run) grep -q 'forgets the copy of beta'
on beta invalidate --dry-run --json | jq -e '.lost.bytes == 67108864 and .["dry-run"]' >/dev/null
order beta detach --dry-run
order alpha demote --force --dry-run
order alpha switchover --to beta --dry-run
order alpha verify --dry-run
< <(on alpha reload --dry-run) grep -q 'nothing would change: protocol C' || fail "$(on alpha reload --dry-run)"
sed -i 's/^peer-timeout = .*/peer-timeout = 501ms/' "$CONFIG"
same_refusal 3 'peer-timeout' alpha reload
sed -i 's/^peer-timeout = .*/peer-timeout = 500ms\nprotocol = B/' "$CONFIG"
< <(on alpha reload --dry-run) grep -q 'protocol B instead of C' || fail "$(on alpha reload --dry-run)"
sed -i '/^protocol = B/d' "$CONFIG"
refused 3 'holds Lockstep metadata|is in use|runs on node' on beta create --dry-run
[[ $(on beta status --json | jq -c '.[0] | del(.peers[0]["round-trip-us"], .peers[0]["lag-ms"])') == "$before" ]] ||
  fail 'a dry run has changed something'
has_line alpha '.arguments["dry-run"]' && fail 'a dry run is in the audit log'

say 'the generation is compared'
refused 3 'typed is not the current' on beta invalidate --generation "${generation//[0-9a-f]/0}"
has beta '.["disk-state"]' UpToDate
on beta invalidate --generation "$generation" 2>"$WORK/said" >/dev/null
grep -q "this forgets the copy of beta, 64.0M of generation $generation" "$WORK/said" || fail "$(cat "$WORK/said")"
expect_equal_images beta

say 'both audit logs have it, with what was lost, who did it, and the states'
for node in alpha beta; do
  wait_until 10 has_line "$node" '.node == "beta" and .verb == "invalidate" and .result == "done"' ||
    fail "$node does not know: $(audit_of "$node" .)"
  expect_line "$node" '.node == "beta" and .result == "begun" and .lost.bytes == 67108864'
  expect_line "$node" ".node == \"beta\" and .result == \"refused\" and .verb == \"invalidate\" and .uid == $UID"
  expect_line "$node" '.verb == "invalidate" and .before["disk-state"] == "UpToDate" and .after["disk-state"] == "Inconsistent"'
  expect_line "$node" '.node == "alpha" and .verb == "promote" and .after.role == "Primary"'
  expect_line "$node" '.node == "alpha" and .verb == "create" and .result == "done"'
done
< <(on alpha audit) grep -qE 'beta .*/[0-9]+.* invalidate .*accepts a loss' || fail "$(on alpha audit)"

say 'what was done while there was no link comes with the next one'
kill_node alpha
wait_until 10 peer_is_lost beta
< <(on beta promote --peer-fenced --dry-run) grep -qE 'alpha is absent for [0-9]+s \(since 20' || fail "$(on beta promote --peer-fenced --dry-run)"
order beta promote --peer-fenced
order beta disconnect alpha
order alpha create --force --dry-run
< <(on alpha create --force --dry-run) grep -q "generation $generation of pgdata on alpha, UpToDate, 64.0M, that of a Primary" ||
  fail "$(on alpha create --force --dry-run)"
refused 3 'generation here is' on alpha create --force --generation "${generation//[0-9a-f]/1}"
on alpha create --force --generation "$generation" 2>"$WORK/said" >/dev/null
grep -q "generation $generation" "$WORK/said" || fail "$(cat "$WORK/said")"
start_node alpha
has_line alpha '.verb == "promote" and .node == "beta" and .result == "done"' && fail 'alpha knows without a link'
order beta connect alpha
wait_until 10 has_line alpha '.verb == "promote" and .node == "beta" and .result == "done" and .arguments["peer-fenced"]'
wait_until 10 has_line beta '.verb == "create" and .node == "alpha" and .result == "begun" and .["accepts-loss"]'
expect_equal_images beta
(($(audit_of alpha 'select(.verb == "promote" and .node == "beta" and .result == "done")' | wc -l) == 1)) ||
  fail 'a line came twice'

say 'a log that cannot be written stops nothing'
order alpha down
rm "$WORK/alpha/disk.img.meta.audit"
mkdir "$WORK/alpha/disk.img.meta.audit"
start_node alpha
order beta wait --for synced --timeout 20
order beta switchover --to alpha
has alpha .role Primary
grep -q 'audit log is not complete' "$RUN_DIR/pgdata.alpha.log" || fail 'nothing was said'

say 'on a terminal the generation must be typed'
command -v script >/dev/null || skip 'script(1) is missing, so no terminal was tried'
generation=$(status_of beta .generation)
# on_terminal TYPED NODE VERB [ARGS...]
on_terminal() {
  local typed=$1 node=$2 verb=$3
  shift 3
  { wait_until 10 grep -q 'type' "$WORK/screen" && echo "$typed"; sleep 0.2; } |
    script -qefc "$PROGRAMS/lockstep $verb $RESOURCE --config $CONFIG --node $node --run-dir $RUN_DIR $*" "$WORK/screen" \
      >/dev/null
}
has_screen() { grep -q "$1" "$WORK/screen" || fail "$(cat "$WORK/screen")"; }
: >"$WORK/screen"
on_terminal yes beta invalidate && fail 'a yes was enough'
has_screen "To go on type $generation"
has_screen 'nothing was changed'
has beta '.["disk-state"]' UpToDate
: >"$WORK/screen"
on_terminal "$generation" beta invalidate || fail "$(cat "$WORK/screen")"
wait_until 10 has_line beta ".verb == \"invalidate\" and .result == \"done\" and .arguments.generation == \"$generation\" and .after[\"disk-state\"] == \"Inconsistent\""
order beta wait --for synced --timeout 20
