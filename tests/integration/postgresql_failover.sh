#!/bin/bash
# Fails a PostgreSQL over twice, there and back, with the programs of a build: postgresql_failover.sh BUILD
set -euo pipefail

skip() {
  echo "skipped: $1"
  exit 77
}

((EUID == 0)) || skip 'needs root, for loop devices and mounts'
[[ -c /dev/fuse ]] || skip '/dev/fuse is missing'
[[ -c /dev/loop-control ]] || skip '/dev/loop-control is missing'
[[ -x /usr/lib/postgresql/15/bin/initdb ]] || skip 'PostgreSQL 15 is not installed'

exec "$(dirname "$0")/../../tools/quickstart" --build "$1" --rounds 2 --commits 500 --size 512M
