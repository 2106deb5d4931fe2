#!/bin/bash
# The export as clients see it: closed on a Secondary, which names the Primary; open as soon as promote has answered;
# what is out of sync is told to who asks; TLS lets in who has a key.
source "$(dirname "$0")/../case.sh"
command -v nbdinfo >/dev/null || skip 'no nbdinfo'

pair_create_workspace
key=00112233445566778899aabbccddeeff
printf 'alice:%s\nbob:%s\n' $key $key >"$WORK/keys.psk"
chmod 600 "$WORK/keys.psk"
pair_write_configuration 16M 'tls = require' "tls-psk-file = $WORK/keys.psk" 'tls-allow = alice'
sed -i "/^\[node.alpha\]/a nbd = tcp:${ADDRESS[alpha]%:*}:10809" "$CONFIG"
create_pair
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30

say 'no Primary yet, then one: the export is open when promote has answered'
refused_client() { if sector_client flush "$(uri_of "$1")" 2>/dev/null; then fail "$1 serves its export"; fi; }
refused_client alpha
order alpha promote
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
refused_client beta
[[ $(on beta explain) == *alpha* ]] || fail 'the Secondary does not name the Primary'

say 'TLS on the network, and who it lets in'
secure="nbds://alice@${ADDRESS[alpha]%:*}:10809/$RESOURCE?tls-psk-file=$WORK/keys.psk"
[[ $(status_of alpha '[.nbd[].uri | select(startswith("nbds:"))] | length') == 1 ]] || fail 'the URI does not say TLS'
[[ $(nbdinfo --size "$secure") == 16777216 ]] || fail 'no TLS'
if nbdinfo "${secure/alice@/bob@}" >/dev/null 2>&1; then fail 'bob is let in'; fi
if nbdinfo "nbd://${ADDRESS[alpha]%:*}:10809/$RESOURCE" >/dev/null 2>&1; then fail 'a plain client is let in'; fi
if grep -rq "$key" "/proc/$(daemon_pid alpha)/cmdline" "/proc/$(daemon_pid alpha)/environ"; then fail 'a visible key'; fi

say 'what is out of sync with a peer'
map() { nbdinfo --map="$1" "$(uri_of alpha)" | awk '{ print $1, $2, $3 }'; }
[[ $(map lockstep:dirty) == '0 16777216 0' ]] || fail "dirty: $(map lockstep:dirty)"
order beta disconnect
wait_until 10 peer_is_lost alpha
sector_client write "$(uri_of alpha)" --offset 1048576 --length 8192 --sequence 2 --flush yes
[[ $(map lockstep:dirty) == $'0 1048576 0\n1048576 8192 1\n1056768 15720448 0' ]] || fail "dirty: $(map lockstep:dirty)"
[[ $(map base:allocation) == *' 0' || $(map base:allocation) == *' 2' ]] || fail "allocation: $(map base:allocation)"
order beta connect
order alpha wait --for synced --timeout 30
[[ $(map lockstep:dirty) == '0 16777216 0' ]] || fail "dirty: $(map lockstep:dirty)"
