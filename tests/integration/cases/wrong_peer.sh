#!/bin/bash
# Somebody else at the address, and peers that are not what the configuration says: refused, with the reason.
source "$(dirname "$0")/../case.sh"

command -v nbdkit >/dev/null || skip 'nbdkit is not installed'
pair_create_workspace
pair_write_configuration "$SIZE"
create_pair

say 'a port in use'
nbdkit --foreground --ipaddr "${ADDRESS[alpha]%:*}" --port "${ADDRESS[alpha]#*:}" null 2>/dev/null &
helpers+=($!)
occupied() { [[ -n $(ss -Htln "src ${ADDRESS[alpha]}") ]]; }
wait_until 10 occupied
refused 1 "${ADDRESS[alpha]}" on alpha up
kill "${helpers[0]}"
wait "${helpers[0]}" || true

say 'a peer of another size'
sed "s/^size = .*/size = 32M/" "$CONFIG" >"$WORK/small.conf"
start_node alpha
sum=$(sha256sum <"$(disk_of alpha)")
good=$CONFIG
CONFIG=$WORK/small.conf
rm "$(disk_of beta)" "$(disk_of beta).meta"
order beta create
start_node beta
says() { < <(on "$1" explain) grep -qiE "$2" || grep -qiE "$2" "$RUN_DIR/$RESOURCE.$1.log"; }
wait_until 15 says beta 'size' || fail "beta does not say that the sizes differ: $(on beta explain)"
CONFIG=$good
wait_until 15 says alpha 'size' || fail "alpha does not say that the sizes differ: $(on alpha explain)"
has alpha '.peers[0]["disk-state"]' DUnknown
[[ $(sha256sum <"$(disk_of alpha)") == "$sum" ]] || fail 'the disk was changed'
refused 5 '' on alpha wait --for connected --timeout 0.5
