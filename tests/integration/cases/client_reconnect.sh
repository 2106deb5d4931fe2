#!/bin/bash
# The daemon is restarted, as for an upgrade, while its device is mounted and in use: nbdkit's retry filter, between
# nbdfuse and the export, keeps requests until the node is Primary again. Nothing above it sees an error.
source "$(dirname "$0")/../case.sh"
for program in nbdkit nbdfuse mkfs.ext4 losetup; do
  command -v "$program" >/dev/null || skip "no $program"
done
((EUID == 0)) || skip 'needs root'
[[ -e /dev/fuse && -e /dev/loop-control ]] || skip 'no /dev/fuse or no loop devices'

start_pair
mkdir "$WORK/fuse" "$WORK/mnt"
nbdkit --foreground --exit-with-parent --unix "$WORK/retry.sock" --filter=retry nbd \
  socket="$WORK/alpha/nbd.sock" export="$RESOURCE" retries=100 retry-delay=1 retry-exponential=no \
  2>"$WORK/nbdkit.log" &
helpers+=($!)
wait_until 10 test -S "$WORK/retry.sock" || fail "nbdkit: $(cat "$WORK/nbdkit.log")"
nbdfuse "$WORK/fuse" --unix "$WORK/retry.sock" 2>"$WORK/nbdfuse.log" &
helpers+=($!)
wait_until 10 test -e "$WORK/fuse/nbd" || fail "nbdfuse: $(cat "$WORK/nbdfuse.log")"
device=
end_of_this_case() {
  umount "$WORK/mnt" 2>/dev/null || true
  [[ -z $device ]] || losetup --detach "$device" 2>/dev/null || true
  fusermount3 -u "$WORK/fuse" 2>/dev/null || true
}
device=$(losetup --find --show "$WORK/fuse/nbd") || skip 'no loop device can be had'
mkfs.ext4 -q "$device"
mount "$device" "$WORK/mnt"

say 'writes go on across the restart'
(
  for i in {1..60}; do
    dd if=/dev/zero bs=16K count=4 status=none conv=fsync of="$WORK/mnt/file.$i" || exit 1
    echo "$i" >"$WORK/written.new"
    mv "$WORK/written.new" "$WORK/written"
    sleep 0.05
  done
) &
writer=$!
wrote() { [[ -s $WORK/written ]] && (($(cat "$WORK/written") >= $1)); }
wait_until 20 wrote 5 || fail 'the writer does not get going'
started=$(date +%s%N)
order alpha down
start_node alpha
order alpha wait --for connected --timeout 20
order alpha promote
say "the restart took $((($(date +%s%N) - started) / 1000000)) ms"
wait "$writer" || fail 'a write failed'
[[ $(cat "$WORK/written") == 60 ]] || fail 'writes are missing'
umount "$WORK/mnt"
e2fsck -fn "$device" >"$WORK/e2fsck.log" 2>&1 || fail "e2fsck: $(cat "$WORK/e2fsck.log")"
end_of_this_case
device=
expect_equal_images alpha
