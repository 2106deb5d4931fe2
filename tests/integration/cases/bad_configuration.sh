#!/bin/bash
# A wrong configuration is one line with file, line and what to write, and nothing is touched.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
pair_write_configuration "$SIZE"
good=$(cat "$CONFIG")

# wrong SED-EXPRESSION PATTERN: the configuration, so changed, is refused as wrong usage.
wrong() {
  sed "$1" <<<"$good" >"$CONFIG"
  refused 2 "$2" on alpha create
  refused 2 "$2" on alpha up
  [[ ! -e $(disk_of alpha) ]] || fail 'a disk was made'
}

wrong 's/^size = /siez = /' "$CONFIG:[0-9]+.*siez.*size"
wrong 's/^size = .*/size = many/' "$CONFIG:3.*many"
wrong 's/^size = .*/size = 1000/' "$CONFIG:3"
wrong '/^size/a protocol = D' "$CONFIG:4.*D"
wrong '/^size/a peer-timeout = 1ms' "$CONFIG:4"
wrong 's/node.beta/node.alpha/' 'alpha'
wrong 's/node.beta/nod.beta/' "$CONFIG:[0-9]+"
wrong 's/^address = .*/address = nowhere/' "$CONFIG:[0-9]+"
wrong '/^disk/d' 'disk'
wrong "s/^name = .*/name = other/" 'other'

rm "$CONFIG"
refused 2 "$CONFIG" on alpha status
echo "$good" >"$CONFIG"
refused 2 'gamma' on gamma create
refused 2 'frobnicate' on alpha frobnicate
refused 2 'wodka' on alpha create --wodka
refused 4 '' on alpha promote
