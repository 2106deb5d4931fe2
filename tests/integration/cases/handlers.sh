#!/bin/bash
# Commands of [handlers]: each is run once for its event, is told what happened, and holds nothing up.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
mkdir "$WORK/events"
cat >"$WORK/handler" <<SCRIPT
#!/bin/sh
# Each call leaves its environment in a file of its own, under its name only once it is whole.
echo "\$LOCKSTEP_EVENT on \$LOCKSTEP_NODE"
env >"$WORK/events/part.\$\$" && mv "$WORK/events/part.\$\$" "$WORK/events/\$LOCKSTEP_NODE.\$LOCKSTEP_EVENT.\$\$"
[ ! -e "$WORK/hangs" ] || exec sleep 1000
SCRIPT
chmod +x "$WORK/handler"
pair_write_configuration "$SIZE" 'peer-timeout = 500ms'
{
  echo
  echo '[handlers]'
  for event in after-resync-target split-brain peer-lost peer-connected promoted demoted; do
    echo "$event = $WORK/handler"
  done
  echo 'timeout = 1s'
} >>"$CONFIG"

calls() { find "$WORK/events" -name "$1.$2.*" | wc -l; }
called() { (($(calls "$1" "$2") == $3)); }
# told NODE EVENT NAME=VALUE...: the handler was run once for that event, and found these; its files are put aside.
told() {
  local node=$1 event=$2 word file
  shift 2
  wait_until 10 called "$node" "$event" 1 || fail "$event was run $(calls "$node" "$event") times on $node"
  file=$(echo "$WORK/events/$node.$event."*)
  for word in "$@"; do
    grep -qx "LOCKSTEP_$word" "$file" || fail "$event on $node was not told $word: $(cat "$file")"
  done
  say "$event on $node was told: $*"
  mkdir -p "$WORK/seen" && mv "$file" "$WORK/seen/"
}

create_pair
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
told alpha peer-connected PEER=beta CONNECTION_STATE=Connected OLD_CONNECTION_STATE=Connecting PEER_ROLE=Secondary
told beta peer-connected PEER=alpha NODE=beta RESOURCE=pgdata "CONFIG=$CONFIG" "RUN_DIR=$RUN_DIR"
order alpha promote
told alpha promoted ROLE=Primary OLD_ROLE=Secondary DISK_STATE=UpToDate "GENERATION=$(status_of alpha .generation)"
if grep -q '^HOME=' "$WORK/seen/"*; then fail 'the daemon passes its own environment on'; fi

say 'the Secondary is away for a while, and back'
kill_node beta
told alpha peer-lost PEER=beta CONNECTION_STATE=Connecting OLD_CONNECTION_STATE=Connected OLD_PEER_DISK_STATE=UpToDate
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
start_node beta
order alpha wait --for synced --timeout 30
told alpha peer-connected PEER=beta
told beta peer-connected PEER=alpha
told beta after-resync-target PEER=alpha DISK_STATE=UpToDate OLD_DISK_STATE=Inconsistent \
  REPLICATION_STATE=Established OLD_REPLICATION_STATE=SyncTarget

say 'handlers that hang: clients go on, and each is ended at its deadline'
touch "$WORK/hangs"
order alpha switchover --to beta
sector_client write "$(uri_of beta)" --offset 4096 --length 4096 --sequence 2 --flush yes
told alpha demoted ROLE=Secondary OLD_ROLE=Primary
told beta promoted
was_killed() { grep -q "handler $2.* had no end within 1000 ms and was killed" "$RUN_DIR/$RESOURCE.$1.log"; }
wait_until 10 was_killed alpha demoted || fail 'the handler of demoted was not ended'
wait_until 10 was_killed beta promoted || fail 'the handler of promoted was not ended'
rm "$WORK/hangs"
expect_equal_images beta

say 'a split brain is told on both nodes'
alpha_pid=$(daemon_pid alpha)
beta_pid=$(daemon_pid beta)
end_of_this_case() { kill -CONT "$alpha_pid" "$beta_pid" 2>/dev/null; }
kill -STOP "$alpha_pid"
sector_client write "$(uri_of beta)" --offset 8192 --length 4096 --sequence 3 --flush yes
told beta peer-lost
kill -STOP "$beta_pid"
kill -CONT "$alpha_pid"
told alpha peer-lost
order alpha promote --peer-fenced
told alpha promoted
sector_client write "$(uri_of alpha)" --offset 16384 --length 4096 --sequence 4 --flush yes
kill -CONT "$beta_pid"
told alpha split-brain PEER=beta REASON=split-brain
told beta split-brain PEER=alpha REASON=split-brain

say 'what a handler prints is in the log'
grep -q 'handler split-brain says: split-brain on alpha' "$RUN_DIR/$RESOURCE.alpha.log" || fail 'its words are not in the log'

say 'a program that is not there is told, and nothing else happens'
order alpha demote
order alpha down
sed -i "s|^promoted = .*|promoted = /nowhere/at/all|" "$CONFIG"
start_node alpha
order alpha promote --peer-fenced
grep -q 'handler promoted: cannot run /nowhere/at/all' "$RUN_DIR/$RESOURCE.alpha.log" || fail 'nothing in the log'
sed 's/^split-brain/split-brian/' "$CONFIG" >"$WORK/typo.conf"
line=$(grep -n split-brian "$WORK/typo.conf" | cut -d: -f1)
CONFIG=$WORK/typo.conf refused 2 "typo.conf:$line: unknown key 'split-brian' in .handlers.: did you mean 'split-brain'" \
  on alpha status
