#!/bin/bash
# nbdinfo and nbdcopy: what the export tells of itself, and copies in both directions over several connections.
source "$(dirname "$0")/../server.sh"
needs nbdinfo nbdcopy jq
start_server 64M

nbdinfo --json "$URI" >"$WORK/info.json"
jq -e '.exports[0] | .["export-size"] == 67108864 and ."is_read_only" == false and .can_flush and .can_fua
  and .can_trim and .can_zero and .can_df and .can_cache and .can_fast_zero and .can_multi_conn
  and .block_size_minimum == 512 and .block_size_preferred == 4096' "$WORK/info.json" >/dev/null ||
  fail "nbdinfo: $(cat "$WORK/info.json")"
jq -e '.["structured"] == true and (.exports[0].contexts | contains(["base:allocation", "lockstep:dirty"]))' \
  "$WORK/info.json" >/dev/null || fail "contexts: $(cat "$WORK/info.json")"
nbdinfo --list "nbd+unix://?socket=$SOCKET" | grep -q 'export="memory"' || fail 'nbdinfo --list'
refused 'nowhere' nbdinfo "nbd+unix:///nowhere?socket=$SOCKET"

dd if=/dev/urandom of="$WORK/data" bs=1M count=20 status=none
truncate --size 64M "$WORK/data"
nbdcopy --connections=4 --requests=64 "$WORK/data" "$URI"
nbdcopy "$URI" "$WORK/back"
cmp "$WORK/data" "$WORK/back"
nbdcopy --flush "$URI" - | cmp - "$WORK/data"
(($(du -k "$WORK/back" | cut -f1) < 30000)) || fail 'the holes came back as data'
# 20 MiB of data, then a hole.
[[ $(nbdinfo --map "$URI" | tr -s ' ' | sed 's/^ //' | cut -d' ' -f1-3) == $'0 20971520 0\n20971520 46137344 3' ]] ||
  fail "the map: $(nbdinfo --map "$URI")"
[[ $(nbdinfo --map=lockstep:dirty "$URI" | tr -s ' ' | sed 's/^ //' | cut -d' ' -f1-3) == '0 67108864 0' ]] ||
  fail "lockstep:dirty: $(nbdinfo --map=lockstep:dirty "$URI")"
