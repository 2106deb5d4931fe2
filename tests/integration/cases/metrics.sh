#!/bin/bash
# `lockstep metrics`: the text that Prometheus reads, on either node, with the numbers that status tells.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
pair_write_configuration "$SIZE"
http=${ADDRESS[alpha]%:*}:9477
sed -i "/^\[node.alpha\]/a metrics = $http" "$CONFIG"
create_pair
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
order alpha promote
start_load alpha 1
finish_load

# value NODE NAME-WITH-LABELS: of the one sample of it.
value() { awk -v sample="$2" '$1 == sample { print $2 }' "$WORK/$1.metrics"; }
expect() {
  local got
  got=$(value "$1" "$2")
  [[ $got == "$3" ]] || fail "$2 on $1 is '$got' instead of '$3'"
}
for node in alpha beta; do
  on "$node" metrics >"$WORK/$node.metrics"
  # Each line is a comment, or a sample with a number; every family says what it is before its first sample.
  awk '/^# (HELP|TYPE) lockstep_[a-z_]+ ./ { if ($2 == "TYPE") typed[$3] = 1; next }
       !/^lockstep_[a-z_]+\{([a-z_]+="[^"]*",?)+\} -?[0-9.]+(e[-+]?[0-9]+)?$/ { print "no sample: " $0; bad = 1; next }
       { name = $1; sub(/\{.*/, "", name); base = name; sub(/_(bucket|sum|count)$/, "", base)
         if (!(name in typed) && !(base in typed)) { print "without a type: " name; bad = 1 } }
       END { exit bad }' "$WORK/$node.metrics" || fail "the text of $node is malformed"
  if command -v promtool >/dev/null; then
    promtool check metrics <"$WORK/$node.metrics" || fail 'promtool finds fault with it'
  fi
done

alpha="resource=\"$RESOURCE\",node=\"alpha\""
expect alpha "lockstep_role{$alpha,role=\"Primary\"}" 1
expect alpha "lockstep_role{$alpha,role=\"Secondary\"}" 0
expect beta "lockstep_role{resource=\"$RESOURCE\",node=\"beta\",role=\"Secondary\"}" 1
expect alpha "lockstep_disk_state{$alpha,state=\"UpToDate\"}" 1
expect alpha "lockstep_peer_replication_state{$alpha,peer=\"beta\",state=\"Established\"}" 1
writes=$(status_of alpha .writes)
expect alpha "lockstep_writes_total{$alpha}" "$writes"
expect alpha "lockstep_request_duration_seconds_count{$alpha,operation=\"write\"}" "$writes"
expect alpha "lockstep_request_duration_seconds_bucket{$alpha,operation=\"write\",le=\"+Inf\"}" "$writes"
(($(value alpha "lockstep_peer_write_duration_seconds_count{$alpha,peer=\"beta\"}") > 0)) || fail 'no write to the peer was timed'
(($(value alpha "lockstep_local_flush_duration_seconds_count{$alpha}") > 0)) || fail 'no flush was timed'

say 'over HTTP'
# ask METHOD TARGET: the whole response of alpha.
ask() {
  exec 3<>"/dev/tcp/${http%:*}/${http#*:}"
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n' "$1" "$2" >&3
  cat <&3
  exec 3<&-
}
ask GET /metrics >"$WORK/response"
head -1 "$WORK/response" | grep -q '^HTTP/1.1 200 OK' || fail "$(head -1 "$WORK/response")"
sed '1,/^\r$/d' "$WORK/response" | grep -v _bucket >"$WORK/by.http"
on alpha metrics | grep -v _bucket >"$WORK/by.verb"
diff <(awk '{print $1}' "$WORK/by.http") <(awk '{print $1}' "$WORK/by.verb") || fail 'HTTP tells other things than the verb'
ask GET / | grep -q '^HTTP/1.1 404 ' || fail 'another path is served'
ask POST /metrics | grep -q '^HTTP/1.1 405 ' || fail 'another method is served'
ask 'NONSENSE' '' | grep -q '^HTTP/1.1 40[04] ' || fail 'nonsense is served'

say 'the peer is gone'
kill_node beta
becomes 10 alpha .degraded true
on alpha metrics >"$WORK/alpha.metrics"
expect alpha "lockstep_degraded{$alpha}" 1
expect alpha "lockstep_peer_connection_state{$alpha,peer=\"beta\",state=\"Connected\"}" 0
