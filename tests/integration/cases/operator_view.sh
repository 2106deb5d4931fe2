#!/bin/bash
# What status, wait and events tell, and lockstep-attach with a real export under it.
source "$(dirname "$0")/../case.sh"

start_pair
say 'status'
< <(on alpha status) grep -qE '^pgdata .*role:Primary disk:UpToDate' || fail "$(on alpha status)"
< <(on alpha status) grep -qE '^  beta connection:Connected role:Secondary disk:UpToDate replication:Established' ||
  fail "$(on alpha status)"
for key in resource node role disk-state generation size-bytes protocol suspended degraded promotable nbd reads writes \
  flushes read-bytes written-bytes al-transactions in-flight peers; do
  [[ $(status_of alpha "has(\"$key\")") == true ]] || fail "status --json has no $key"
done
for key in node connection-state role replication-state disk-state out-of-sync-bytes sent-sequence received-sequence \
  written-sequence flushed-sequence lag-bytes lag-ms round-trip-us; do
  [[ $(status_of alpha ".peers[0] | has(\"$key\")") == true ]] || fail "a peer in status --json has no $key"
done
has alpha '.["size-bytes"]' "$SIZE_BYTES"
has alpha '.nbd[0].uri' "$(uri_of alpha)"

say 'events and wait'
"$PROGRAMS/lockstep" events "$RESOURCE" --config "$CONFIG" --node alpha --run-dir "$RUN_DIR" --json \
  >"$WORK/events" &
helpers+=($!)
has_lines() { (($(wc -l <"$WORK/events") >= $1)); }
wait_until 10 has_lines 1
order beta down
becomes 10 alpha .degraded true
wait_until 10 has_lines 2 || fail 'the loss of the peer is no event'
jq -es 'length > 1' "$WORK/events" >/dev/null || fail "not JSON, line by line: $(head -c 300 "$WORK/events")"
refused 5 '' on alpha wait --for connected --timeout 0.2
start_node beta
order alpha wait --for connected --timeout 20
order alpha wait --for role=Primary --timeout 5

say 'attach'
[[ -c /dev/fuse && -c /dev/loop-control ]] || skip '/dev/fuse or loop devices are missing, so attach was not tried'
refused 3 'Secondary' attach_on beta
link=$WORK/pgdata.device
touch "$link"
refused 2 'something else' attach_on alpha --link "$link"
rm "$link"
device=$(attach_on alpha --link "$link")
[[ $(attach_on alpha) == "$device" ]] || fail 'a second attach gave another device'
[[ $(attach_on alpha --link "$link") == "$device" && $(readlink "$link") == "$device" ]] || fail 'the link is not there'
refused 1 'without --link' attach_on alpha --link "$WORK/other"
(($(blockdev --getsize64 "$device") == SIZE_BYTES)) || fail 'the device has another size'
mkfs.ext4 -q "$device"
mkdir "$WORK/mnt"
mount "$device" "$WORK/mnt"
end_of_this_case() { ! mountpoint -q "$WORK/mnt" || umount -l "$WORK/mnt"; }
refused 3 'client' on alpha demote
refused 1 'mounted' detach_on alpha
cp /usr/bin/bash "$WORK/mnt/"
umount "$WORK/mnt"
detach_on alpha
[[ ! -L $link ]] || fail 'the link is still there'
refused 4 'nothing is attached' detach_on alpha
expect_equal_images alpha
e2fsck -fn "$(disk_of beta)" >"$WORK/e2fsck.log" 2>&1 || fail "$(cat "$WORK/e2fsck.log")"

say 'the server dies under a mounted device'
device=$(attach_on alpha --link "$link")
mount "$link" "$WORK/mnt"
kill_node alpha
if dd if=/dev/zero of="$WORK/mnt/file" bs=64k count=4 conv=fsync status=none 2>"$WORK/dd.log"; then
  fail 'a write to a dead server went well'
fi
detach_on alpha --force
mountpoint -q "$WORK/mnt" && fail 'the mount is still there'
losetup --list --output BACK-FILE | grep -F "$WORK" && fail "$device is still there"
[[ ! -e $RUN_DIR/$RESOURCE.alpha.fuse && ! -L $link ]]
