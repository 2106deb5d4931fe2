#!/bin/bash
# on-peer-loss = arbiter, with the arbiter that keeps its record in a folder: who takes the other out first goes on.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
shared=$WORK/shared
mkdir "$shared"
arbiter=$integration/../../tools/arbiter/lockstep-arbiter-file
record() { "$arbiter" "$shared" show "$RESOURCE" | sed -n "s/^$1 //p"; }
record_is() { [[ $(record "$1" | tr ' ' '\n' | sort | xargs) == "$2" ]]; }
pair_write_configuration "$SIZE" 'on-peer-loss = arbiter' 'peer-timeout = 500ms' "fence-command = $arbiter $shared"
create_pair
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
order alpha promote
wait_until 10 record_is in-sync 'alpha beta' || fail "the arbiter does not count both: $(record in-sync)"

# As start_load, and the end of the device is left alone.
start_load_below() {
  "$SECTOR_CLIENT" load "$(uri_of "$1")" --ledger "$WORK/ledger" --seconds "$2" --seed "$RANDOM" --span $((48 << 20)) \
    >"$WORK/load.out" 2>&1 &
  load_pid=$!
  helpers+=("$load_pid")
}

say 'the Secondary dies: the Primary goes on by itself, and the other is out'
start_load_below alpha 20
wait_for_writes alpha 500
kill_node beta
wait_for_writes alpha 500
wait_until 10 record_is in-sync alpha || fail 'the arbiter still counts beta'
has alpha .degraded true
start_node beta
wait_until 20 record_is in-sync 'alpha beta' || fail 'beta was not put back'
wait_for_writes alpha 100

say 'the Primary dies: the Secondary is promoted without anybody vouching for anything'
kill_node alpha
finish_load
order beta promote
check_ledger beta
wait_until 10 record_is in-sync beta || fail "the arbiter counts $(record in-sync)"
start_node alpha
wait_until 20 record_is in-sync 'alpha beta' || fail 'alpha was not put back'
expect_equal_images beta
check_ledger alpha beta

say 'who was left behind is not promoted'
kill_node alpha
sector_client write "$(uri_of beta)" --offset $((60 << 20)) --length 4096 --sequence 777777 --flush yes
kill_node beta
start_node alpha
refused 3 'arbiter' on alpha promote
has alpha .role Secondary
start_node beta
order beta wait --for synced --timeout 30
order beta promote
wait_until 20 record_is in-sync 'alpha beta' || fail 'alpha was not put back'

say 'a frozen Primary is replaced: thawed, it answers nothing, and no old data'
block=(--offset $((60 << 20)) --length 4096 --sequence)
start_load_below beta 30
wait_for_writes beta 500
pid=$(daemon_pid beta)
kill -STOP "$pid"
wait_until 10 peer_is_lost alpha
order alpha promote
cp --sparse=always "$(disk_of alpha)" "$WORK/promoted.img"
sector_client write "$(uri_of alpha)" "${block[@]}" 888888 --flush yes
readers=()
for _ in 1 2 3 4; do
  "$SECTOR_CLIENT" expect "$(uri_of beta)" "${block[@]}" 777777 2>/dev/null &
  readers+=("$!")
done
helpers+=("${readers[@]}")
kill -CONT "$pid"
for reader in "${readers[@]}"; do
  if wait "$reader"; then fail 'an old block was read from a Primary that was replaced'; fi
done
finish_load
sector_client check "$WORK/promoted.img" --ledger "$WORK/ledger"
becomes 20 beta .role Secondary
order alpha wait --for synced --timeout 30
sector_client expect "$(disk_of beta)" "${block[@]}" 888888

say 'the arbiter cannot be asked: suspended, until it can'
wait_until 20 record_is in-sync 'alpha beta' || fail 'beta was not put back'
mv "$shared" "$shared.away"
kill_node beta
becomes 10 alpha .suspended peer-loss
mv "$shared.away" "$shared"
becomes 40 alpha .suspended no
wait_until 10 record_is in-sync alpha || fail 'the arbiter still counts beta'
