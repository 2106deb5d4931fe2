#!/bin/bash
# The negative control of the PostgreSQL failover: with a Primary that replicates only the beginning of the load, and a
# Secondary that is promoted in spite of that, the same quickstart must find lost commits: loss_is_found.sh BUILD
set -euo pipefail

real=$(readlink -f "$1")
for needed in /dev/fuse /dev/loop-control /usr/lib/postgresql/15/bin/initdb; do
  [[ -e $needed ]] || { echo "skipped: $needed is missing" && exit 77; }
done
((EUID == 0)) || { echo "skipped: needs root, for loop devices and mounts" && exit 77; }

TMPDIR=$(mktemp -d "${TMPDIR:-/var/tmp}/lockstep-control.XXXXXX")
export TMPDIR REAL_LOCKSTEP=$real/tools/lockstep
trap 'rm -rf "$TMPDIR"' EXIT
chmod 711 "$TMPDIR"
mkdir -p "$TMPDIR/build/tools" "$TMPDIR/build/tests/integration"
ln -s "$real/tools/lockstepd" "$TMPDIR/build/tools/"
ln -s "$real/tests/integration/commit_ledger" "$TMPDIR/build/tests/integration/"

# The quickstart calls: lockstep VERB RESOURCE --config FILE --node NODE --run-dir FOLDER [OPTIONS]
cat >"$TMPDIR/build/tools/lockstep" <<'SABOTEUR'
#!/bin/bash
verb=$1 place=("${@:2:7}") work=$(dirname -- "$4") node=$6
loaded() { (($(cat "$work"/ledger/client-*.ledger 2>/dev/null | wc -l) > 200)); }
if [[ $verb == promote && $node == beta ]]; then
  generation=$("$REAL_LOCKSTEP" status "${place[@]}" --json | jq -r '.[0].generation')
  exec "$REAL_LOCKSTEP" promote "${place[@]}" --force-data-loss "$generation"
fi
"$REAL_LOCKSTEP" "$@" || exit $?
if [[ $verb == promote ]]; then
  (
    for ((attempt = 0; attempt < 600; attempt++)); do
      loaded && exec "$REAL_LOCKSTEP" disconnect "${place[@]}"
      sleep 0.1
    done
  ) </dev/null >/dev/null 2>&1 &
fi
SABOTEUR
chmod +x "$TMPDIR/build/tools/lockstep"

status=0
"$(dirname "$0")/../../tools/quickstart" --build "$TMPDIR/build" --commits 1500 --size 512M 2>"$TMPDIR/stderr" ||
  status=$?
cat "$TMPDIR/stderr"
((status == 1)) || { echo "exit status $status instead of 1" && exit 1; }
grep -qE 'FAILED: .* [1-9][0-9]* lost' "$TMPDIR/stderr" ||
  { echo "the quickstart did not find the lost commits" && exit 1; }
[[ -n $(find "$TMPDIR" -path '*/beta/disk.img') ]] || { echo "the evidence was not kept" && exit 1; }
