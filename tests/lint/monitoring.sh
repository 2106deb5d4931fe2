#!/bin/bash
# Fails when docs/monitoring names a metric that the daemon does not print, or is silent about one that it prints.
# usage: monitoring.sh SOURCE_FOLDER
set -euo pipefail
cd "$1"
printed=$(grep -ohE '(family|one|states|numbers|durations)\("[a-z_]+"' tools/metrics_text.cpp |
  sed -E 's/.*"([a-z_]+)"/lockstep_\1/' | sort -u)
(($(wc -l <<<"$printed") > 20)) || { echo "only these metrics were found in the code: $printed" >&2 && exit 1; }
status=0
while IFS= read -r name; do
  base=$(sed -E 's/_(bucket|sum|count)$//' <<<"$name")
  grep -qx "$base" <<<"$printed" || { echo "alerts.yml speaks of $name, which nobody prints" >&2 && status=1; }
done < <(grep -oE 'lockstep_[a-z_]+' docs/monitoring/alerts.yml | sort -u)
while IFS= read -r name; do
  grep -qwF "$name" docs/monitoring/README.md || { echo "docs/monitoring/README.md is silent about $name" >&2 && status=1; }
done <<<"$printed"
exit "$status"
