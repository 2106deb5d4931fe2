#!/bin/bash
# Orders to change roles: refused while clients are attached or the state forbids, done in one go otherwise.
source "$(dirname "$0")/../case.sh"

start_pair
say 'two Primaries'
refused 3 '' on beta promote
refused 3 '' on beta promote --peer-fenced
has beta .role Secondary

say 'the Secondary serves no client'
if sector_client flush "$(uri_of beta)" 2>"$WORK/refusal"; then fail 'the Secondary serves its export'; fi
say "$(cat "$WORK/refusal")"

say 'clients hold the role'
coproc holder { exec "$SECTOR_CLIENT" hold "$(uri_of alpha)"; }
read -r -u "${holder[0]}" word
[[ $word == connected ]]
becomes 5 alpha '.nbd[0].clients' 1
refused 3 'client' on alpha demote
refused 3 'client' on alpha switchover --to beta
has alpha .role Primary
has beta .role Secondary
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
eval "exec ${holder[1]}>&-"
becomes 5 alpha '.nbd[0].clients' 0

say 'there and back'
order alpha switchover --to beta
has alpha .role Secondary
has beta .role Primary
sector_client expect "$(uri_of beta)" --offset 0 --length 4096 --sequence 1
sector_client write "$(uri_of beta)" --offset 4096 --length 4096 --sequence 2 --flush yes
order beta switchover --to alpha
has alpha .role Primary
sector_client expect "$(uri_of alpha)" --offset 4096 --length 4096 --sequence 2
expect_equal_images alpha

say 'force ends the sessions'
coproc holder { exec "$SECTOR_CLIENT" hold "$(uri_of alpha)"; }
read -r -u "${holder[0]}" word
order alpha demote --force
has alpha .role Secondary
eval "exec ${holder[1]}>&-"

say 'nobody to promote'
refused 2 'gamma' on alpha switchover --to gamma
order beta down
becomes 10 alpha '.peers[0]["connection-state"]' Connecting
refused 3 'peer-fenced' on alpha promote
has alpha .role Secondary
order alpha promote --peer-fenced
has alpha .role Primary
