#!/bin/bash
# The Primary's disk fails under load: clients see nothing of it, the peer's disk serves them. Then it is given back, and
# in the end a new, empty one: each time the load goes on.
source "$(dirname "$0")/../case.sh"
# shellcheck source-path=SCRIPTDIR/..
source "$integration/failing_disk.sh"

start_pair_on_failing_disk
before=$(status_of alpha .generation)

say 'the disk fails'
start_load alpha 4
wait_for_writes alpha 300
break_file alpha disk.img
becomes 10 alpha '.["disk-state"]' Failed
wait_for_writes alpha 300
has alpha .suspended no
has alpha .degraded true
has beta '.peers[0]["disk-state"]' Failed
[[ $(status_of alpha .generation) != "$before" ]] || fail 'the generation is the old one'
[[ $(status_of beta .generation) == "$(status_of alpha .generation)" ]] || fail 'the peer has another generation'
refused 3 'last UpToDate copy' on beta detach
refused 3 'last UpToDate copy' on beta disconnect
on alpha explain >"$WORK/explanation"
grep -q "served from a peer's disk" "$WORK/explanation" || fail 'explain does not say who serves'
finish_load
check_ledger beta

say 'attach while it still fails, and when it does not any more'
refused 1 'attach failed' on alpha attach
mend_file alpha disk.img
start_load alpha 6
wait_for_writes alpha 300
order alpha attach
order alpha wait --for synced --timeout 60
has alpha '.["disk-state"]' UpToDate
finish_load
check_ledger alpha beta

say 'an operator takes it away, and brings a new one'
start_load alpha 8
wait_for_writes alpha 300
order alpha detach
has alpha '.["disk-state"]' Diskless
becomes 10 beta '.peers[0]["disk-state"]' Diskless
wait_until 10 order alpha create --force || fail 'create on the detached disk is refused'
order alpha attach
order alpha wait --for synced --timeout 60
finish_load
order alpha demote
expect_equal_images alpha
check_ledger alpha beta
