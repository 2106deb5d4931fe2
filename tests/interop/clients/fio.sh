#!/bin/bash
# fio writes at random, many at once, and verifies what it wrote.
source "$(dirname "$0")/../server.sh"
needs fio
fio --enghelp 2>/dev/null | grep -qw nbd || { echo 'skipped: this fio has no nbd engine' && exit 77; }
start_server 32M
fio --name=verify --ioengine=nbd --uri="$URI" --rw=randwrite --bsrange=512-64k --bs_unaligned=0 --size=32M \
  --iodepth=64 --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 --randrepeat=1 --fsync=50 >"$WORK/fio.log" 2>&1 ||
  fail 'fio found a difference'
