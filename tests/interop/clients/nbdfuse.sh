#!/bin/bash
# nbdfuse and a loop device: ext4 is made, filled, unmounted, checked and mounted again.
source "$(dirname "$0")/../server.sh"
needs nbdfuse mkfs.ext4 losetup
((EUID == 0)) || { echo 'skipped: needs root' && exit 77; }
[[ -e /dev/fuse && -e /dev/loop-control ]] || { echo 'skipped: no /dev/fuse or no loop devices' && exit 77; }
start_server 64M

mkdir "$WORK/fuse" "$WORK/mnt"
nbdfuse "$WORK/fuse" --unix "$SOCKET" >"$WORK/nbdfuse.log" 2>&1 &
nbdfuse_pid=$!
leave_fuse() { fusermount3 -u "$WORK/fuse" 2>/dev/null; wait "$nbdfuse_pid"; }
at_end+=(leave_fuse)
wait_until 10 test -e "$WORK/fuse/nbd" || fail "nbdfuse: $(cat "$WORK/nbdfuse.log")"
device=$(losetup --find --show "$WORK/fuse/nbd") || { echo 'skipped: no loop device can be had' && exit 77; }
leave_loop() { losetup --detach "$device"; }
at_end+=(leave_loop)

mkfs.ext4 -q "$device"
mount "$device" "$WORK/mnt"
leave_mount() { umount "$WORK/mnt" 2>/dev/null; }
at_end+=(leave_mount)
for i in {1..20}; do dd if=/dev/urandom of="$WORK/mnt/file.$i" bs=64K count=10 status=none; done
rm "$WORK/mnt"/file.1?
(cd "$WORK/mnt" && sha256sum file.*) >"$WORK/sums"
umount "$WORK/mnt"
e2fsck -fn "$device" >"$WORK/e2fsck.log" 2>&1 || fail "e2fsck: $(cat "$WORK/e2fsck.log")"
mount "$device" "$WORK/mnt"
(cd "$WORK/mnt" && sha256sum --check --quiet "$WORK/sums")
fstrim "$WORK/mnt" 2>/dev/null || true
umount "$WORK/mnt"
