#!/bin/bash
# Every verb: help, exit statuses, one JSON document; and the completion of verbs, resources, nodes and options.
source "$(dirname "$0")/../case.sh"

lockstep=$PROGRAMS/lockstep
mapfile -t verbs < <("$lockstep" --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
((${#verbs[@]} >= 27)) || fail "only these verbs: ${verbs[*]}"
exits() {
  local wanted=$1 status=0
  shift
  "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
  ((status == wanted)) || fail "exit status $status instead of $wanted from: $* ($(cat "$WORK/err"))"
}
one_line() { (($(wc -l <"$WORK/err") == 1)) || fail "not one line: $(cat "$WORK/err")"; }

pair_create_workspace
pair_write_configuration "$SIZE"
say 'help, wrong usage, and no daemon'
operand_of() {
  operand=()
  case $1 in
    resync | invalidate-peer) operand=(beta) ;;
    resize) operand=(128M) ;;
    wait) operand=(--for=synced) ;;
    switchover) operand=(--to=beta) ;;
  esac
}
for verb in "${verbs[@]}"; do
  exits 0 "$lockstep" "$verb" --help
  grep -q '^Exit status: 0 done' "$WORK/out" || fail "the help of $verb"
  exits 2 "$lockstep" "$verb" "$RESOURCE" --no-such-option
  one_line
  case $verb in
    status) continue ;;
    create | up | down | dump-metadata | audit) continue ;;
  esac
  exits 2 "$lockstep" "$verb"
  one_line
  operand_of "$verb"
  exits 4 on alpha "$verb" "${operand[@]}"
  one_line
  grep -q 'lockstep up' "$WORK/err" || fail "$verb does not say what to type: $(cat "$WORK/err")"
done

say 'one JSON document of each verb that prints, of a running pair'
order alpha create --json
for node in alpha beta; do
  [[ $node == alpha ]] || order "$node" create
  start_node "$node"
done
order alpha wait --for synced --timeout 20
json_of() {
  "$lockstep" "$@" --config "$CONFIG" --node alpha --run-dir "$RUN_DIR" --json </dev/null >"$WORK/out" || return
  [[ ! -s $WORK/out ]] || jq -es 'length == 1' "$WORK/out" >/dev/null || fail "no JSON document from $*: $(cat "$WORK/out")"
}
for line in status explain metrics audit promote 'promote --dry-run' 'switchover --to beta' 'switchover --to alpha' verify \
  suspend resume 'resize 128M' 'demote --dry-run' demote 'resync beta' disconnect \
  connect; do
  read -ra words <<<"$line"
  json_of "${words[0]}" "$RESOURCE" "${words[@]:1}" || fail "exit status of $line"
  order alpha wait --for up
done
order alpha down
json_of dump-metadata "$RESOURCE"
json_of up "$RESOURCE"
[[ $("$lockstep" status --run-dir "$RUN_DIR" --json | jq length) == 2 ]] || fail 'status does not list both nodes'

say 'completion'
# shellcheck source-path=SCRIPTDIR/../../..
source "${repository:?}/tools/completion/lockstep.bash"
completes() {
  local wanted=$1
  shift
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  _lockstep
  [[ " ${COMPREPLY[*]} " == *" $wanted "* ]] || fail "'$*' completes to '${COMPREPLY[*]}', without $wanted"
}
for verb in "${verbs[@]}"; do completes "$verb" lockstep "${verb:0:3}"; done
completes beta lockstep connect --config "$CONFIG" "$RESOURCE" b
completes alpha lockstep status --config "$CONFIG" "$RESOURCE" --node a
completes --dry-run lockstep invalidate "$RESOURCE" --
completes role=Primary lockstep wait "$RESOURCE" --for role
completes "$RESOURCE" lockstep status --run-dir "$RUN_DIR" p
