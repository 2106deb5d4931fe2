#!/bin/bash
# qemu-img and qemu-io.
source "$(dirname "$0")/../server.sh"
needs qemu-img qemu-io jq
start_server 64M
dd if=/dev/urandom of="$WORK/data" bs=64K count=100 status=none
truncate --size 64M "$WORK/data"

qemu-img info --output=json "$URI" | jq -e '."virtual-size" == 67108864' >/dev/null
qemu-img convert -n -f raw -O raw "$WORK/data" "$URI"
qemu-img compare -f raw -F raw "$WORK/data" "$URI" >/dev/null
qemu-img map --output=json -f raw "$URI" | jq -e '[.[] | select(.zero)] | length == 1' >/dev/null || fail 'the map'
qemu-img convert -f raw -O qcow2 "$URI" "$WORK/back.qcow2"
qemu-img compare -f qcow2 -F raw "$WORK/back.qcow2" "$URI" >/dev/null

io() { qemu-io -f raw "$@" "$URI" >"$WORK/qemu-io.log" && ! grep -qi 'fail\|error' "$WORK/qemu-io.log"; }
io -c 'write -P 0xa5 1M 2M' -c 'read -P 0xa5 1M 2M' -c 'write -f -P 0x5a 1M 64k' -c 'read -P 0x5a 1M 64k' \
  -c 'write -z 2M 512k' -c 'read -P 0 2M 512k' -c 'write -z -u 3M 64k' -c 'discard 1M 64k' -c 'read -P 0 1M 64k' \
  -c 'flush' || fail 'qemu-io'
# Many at once.
io -c 'aio_write -P 1 0 1M' -c 'aio_write -P 2 8M 1M' -c 'aio_write -P 3 16M 1M' -c 'aio_flush' -c 'read -P 2 8M 1M' ||
  fail 'qemu-io, many at once'
# Smaller than a sector: QEMU does the rest.
io -c 'write -P 7 100 50' -c 'read -P 7 100 50' || fail 'qemu-io, unaligned'
