#!/bin/bash
# The rules of lockstep-arbiter-file by themselves: who may change the record, and how.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
folder=$WORK/arbiter
mkdir "$folder"
program=$integration/../../tools/arbiter/lockstep-arbiter-file

# ask NODE QUESTION PEERS GENERATION HISTORY NEXT: prints its exit status.
ask() {
  local status=0
  env -i PATH="$PATH" LOCKSTEP_NODES='alpha beta' LOCKSTEP_NODE="$1" LOCKSTEP_PEERS="$3" LOCKSTEP_GENERATION="$4" \
    LOCKSTEP_HISTORY="$5" LOCKSTEP_NEXT_GENERATION="$6" LOCKSTEP_ROLE=Primary LOCKSTEP_BEHIND="${LOCKSTEP_BEHIND-}" \
    "$program" "$folder" "$2" pgdata 2>"$WORK/said" || status=$?
  echo "$status"
}
answers() {
  local wanted=$1 status
  shift
  status=$(ask "$@")
  [[ $status == "$wanted" ]] || fail "$* gave $status instead of $wanted: $(cat "$WORK/said")"
}
record_is() {
  local record
  record=$("$program" "$folder" show pgdata | xargs)
  [[ $record == "$1" ]] || fail "the record is: $record"
}

say 'without a record nobody is taken out, and only all nodes together make one'
answers 1 alpha fence-peer beta g1 '' g2
answers 1 beta promote alpha g1 '' g2
answers 0 alpha unfence-peer beta g1 '' ''
record_is 'generation g1 primary alpha in-sync alpha beta'

say 'the first wins, the other is denied'
answers 4 alpha fence-peer beta g1 '' g2
record_is 'generation g2 primary alpha in-sync alpha'
answers 6 beta promote alpha g1 '' g3
answers 6 beta fence-peer alpha g1 '' g3
record_is 'generation g2 primary alpha in-sync alpha'
answers 4 alpha fence-peer beta g1 g2 g4

say 'an old question does not put back who was left behind'
answers 6 alpha unfence-peer beta g1 '' ''
answers 6 beta unfence-peer alpha g1 '' ''
answers 0 alpha unfence-peer beta g4 'g1' ''
record_is 'generation g4 primary alpha in-sync alpha beta'

say 'who left before is not counted any more, either, though nobody has to reach it'
LOCKSTEP_BEHIND='gamma' answers 4 alpha fence-peer beta g4 '' g5
record_is 'generation g5 primary alpha in-sync alpha'
answers 0 alpha unfence-peer 'beta gamma' g5 '' ''
record_is 'generation g5 primary alpha in-sync alpha beta gamma'
LOCKSTEP_BEHIND='gamma' answers 4 alpha fence-peer beta g5 '' g6
record_is 'generation g6 primary alpha in-sync alpha'
answers 0 alpha unfence-peer beta g6 '' ''

say 'a node whose disk is replaced is forgotten, unless it is the only one that has everything'
forget() {
  local status=0
  "$program" "$folder" forget pgdata "$1" 2>"$WORK/said" || status=$?
  [[ $status == "$2" ]] || fail "forget $1 gave $status instead of $2: $(cat "$WORK/said")"
}
forget nobody 1
forget alpha 0
record_is 'generation g6 primary alpha in-sync beta'
answers 6 alpha promote beta g6 '' g7
forget beta 6
record_is 'generation g6 primary alpha in-sync beta'
answers 0 beta unfence-peer alpha g6 '' ''
record_is 'generation g6 primary beta in-sync beta alpha'

say 'of many at once one wins'
for _ in {1..10}; do
  answers 0 alpha unfence-peer beta g9 "$("$program" "$folder" show pgdata | sed -n 's/^generation //p')" ''
  ask alpha fence-peer beta g9 '' ga >"$WORK/a" &
  ask beta promote alpha g9 '' gb >"$WORK/b" &
  wait
  [[ $(sort "$WORK/a" "$WORK/b" | xargs) == '4 6' ]] || fail "both: $(cat "$WORK/a" "$WORK/b")"
done

say 'a damaged record, a folder that is gone, nonsense: no answer'
echo g1 >"$folder/pgdata.arbiter"
answers 1 alpha fence-peer beta g1 '' g2
answers 2 alpha nonsense beta g1 '' g2
rm -r "$folder"
answers 1 alpha fence-peer beta g1 '' g2
