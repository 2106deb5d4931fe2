#!/bin/bash
# Disks and metadata that cannot be used: each one clear line, no crash, no change.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
pair_write_configuration "$SIZE"

say 'a folder that is not there, a file that is too small'
sed -i "s,$WORK/alpha/disk.img,$WORK/nowhere/disk.img," "$CONFIG"
refused 1 'nowhere' on alpha create
pair_write_configuration "$SIZE"
truncate -s 1M "$(disk_of alpha)"
refused 1 'too small' on alpha create --existing-data
(($(stat -c %s "$(disk_of alpha)") == 1048576)) || fail 'the small disk has another size now'
rm "$(disk_of alpha)"

say 'a full file system'
mkdir "$WORK/small"
truncate -s 24M "$WORK/small.img"
mkfs.ext4 -q -F "$WORK/small.img"
mount -o loop "$WORK/small.img" "$WORK/small"
end_of_this_case() { ! mountpoint -q "$WORK/small" || umount "$WORK/small"; }
sed -i "s,$WORK/alpha/disk.img,$WORK/small/disk.img," "$CONFIG"
refused 1 'M free' on alpha create
[[ -z $(find "$WORK/small" -type f) ]] || fail "left behind: $(find "$WORK/small" -type f)"
umount "$WORK/small"
pair_write_configuration "$SIZE"

# does_not_start PATTERN: and a dry run says so, too.
does_not_start() {
  refused 1 "$1" on alpha up
  refused 1 "would not start.*$1" on alpha up --dry-run
}

say 'no metadata, a disk in use'
does_not_start 'lockstep create'
order alpha create
rm "$(disk_of alpha).meta"
does_not_start 'metadata'
order alpha create --force
order alpha up --dry-run
refused 4 'lockstep up' on alpha status
start_node alpha
refused 3 'daemon .* runs' on alpha create --force
order alpha down

say 'metadata of another resource'
cp "$WORK/alpha/disk.img.meta" "$WORK/meta.good"
sed 's/^name = .*/name = other/' "$CONFIG" >"$WORK/other.conf"
refused 1 "$RESOURCE|other" "$PROGRAMS/lockstep" up other --config "$WORK/other.conf" --node alpha --run-dir "$RUN_DIR"
refused 1 "would not start.*that of $RESOURCE" "$PROGRAMS/lockstep" up other --dry-run --config "$WORK/other.conf" \
  --node alpha --run-dir "$RUN_DIR"

say 'damaged metadata'
dd if=/dev/urandom of="$WORK/alpha/disk.img.meta" bs=4096 count=2 conv=notrunc status=none
sum=$(sha256sum <"$WORK/alpha/disk.img.meta")
does_not_start 'metadata'
[[ $(sha256sum <"$WORK/alpha/disk.img.meta") == "$sum" ]] || fail 'damaged metadata was changed'
truncate -s 4096 "$WORK/alpha/disk.img.meta"
does_not_start 'metadata'

say 'one torn superblock is none: the other counts'
cp "$WORK/meta.good" "$WORK/alpha/disk.img.meta"
dd if=/dev/urandom of="$WORK/alpha/disk.img.meta" bs=1024 count=1 seek=1 conv=notrunc status=none
start_node alpha
has alpha '.["disk-state"]' "$(status_of alpha '.["disk-state"]')"
