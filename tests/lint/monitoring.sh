#!/bin/bash
# Fails when docs/monitoring names a metric that the daemon does not print, or is silent about one that it prints.
# usage: monitoring.sh SOURCE_FOLDER
set -euo pipefail
cd "$1"
printed=$(grep -ohE '(family|one|states|numbers|durations)\("[a-z_]+"' tools/metrics_text.cpp |
  sed -E 's/.*"([a-z_]+)"/lockstep_\1/' | sort -u)
(($(wc -l <<<"$printed") > 20)) || { echo "only these metrics were found in the code: $printed" >&2 && exit 1; }
status=0
for document in alerts.yml grafana.json; do
  while IFS= read -r name; do
    base=$(sed -E 's/_(bucket|sum|count)$//' <<<"$name")
    grep -qx "$base" <<<"$printed" || { echo "$document speaks of $name, which nobody prints" >&2 && status=1; }
  done < <(grep -oE 'lockstep_[a-z_]+' "docs/monitoring/$document" | sort -u)
done
# Each number on the dashboard is asked for with a data source and a resource that the reader chooses.
if command -v jq >/dev/null; then
  jq -e '[.panels[] | select(.type != "row") | .targets[]] as $targets | ($targets | length) > 20 and
    ($targets | all((.expr | test("resource=~.\\$resource")) and .datasource.uid == "${datasource}")) and
    ([.panels[].id] | length == (unique | length))' docs/monitoring/grafana.json >/dev/null ||
    { echo 'grafana.json: a panel has no query, another data source, or the number of another' >&2 && status=1; }
fi
while IFS= read -r name; do
  grep -qwF "$name" docs/monitoring/README.md || { echo "docs/monitoring/README.md is silent about $name" >&2 && status=1; }
done <<<"$printed"
exit "$status"
