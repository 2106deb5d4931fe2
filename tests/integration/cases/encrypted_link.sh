#!/bin/bash
# The replication link under TLS: with a key that both nodes share, then with a certificate for each node. Nothing that is
# written can be read on the wire; a node with another key, or with another node's certificate, gets no link.
source "$(dirname "$0")/../case.sh"
for program in psktool certtool; do
  command -v "$program" >/dev/null || skip "no $program"
done

pair_create_workspace
psktool -u "$RESOURCE" -p "$WORK/link.key" >/dev/null 2>&1
psktool -u "$RESOURCE" -p "$WORK/other.key" >/dev/null 2>&1
pair_write_configuration "$SIZE" "secret-file = $WORK/link.key"
create_pair

say 'a key that everybody can read is refused'
chmod 644 "$WORK/link.key"
refused 1 "every user can read it: chmod 600" on alpha up
chmod 600 "$WORK/link.key" "$WORK/other.key"

start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
order alpha promote
grep -q 'link with beta is up (.*TLS1.3' "$RUN_DIR/$RESOURCE.alpha.log" || fail 'the log does not speak of TLS'
start_load alpha 2
finish_load
expect_equal_images alpha
check_ledger alpha beta

say 'another key'
order beta down
sed "s|$WORK/link.key|$WORK/other.key|" "$CONFIG" >"$WORK/beta.conf"
"$PROGRAMS/lockstep" up "$RESOURCE" --config "$WORK/beta.conf" --node beta --run-dir "$RUN_DIR"
explains() { < <(on alpha explain) grep -q "same 'secret-file'"; }
wait_until 20 explains || fail "alpha says: $(on alpha explain)"
[[ $(status_of alpha '.peers[0]["connection-state"]') == Connecting ]] || fail 'there is a link'
"$PROGRAMS/lockstep" down "$RESOURCE" --config "$WORK/beta.conf" --node beta --run-dir "$RUN_DIR"
start_node beta
order alpha wait --for synced --timeout 30
order alpha down
order beta down

say 'certificates'
authority() { # FOLDER
  mkdir -p "$1"
  certtool --generate-privkey --key-type=ed25519 --outfile "$WORK/ca-key.pem" 2>/dev/null
  printf 'cn = "cluster"\nca\ncert_signing_key\n' >"$WORK/ca.info"
  certtool --generate-self-signed --load-privkey "$WORK/ca-key.pem" --template "$WORK/ca.info" \
    --outfile "$1/ca-cert.pem" 2>/dev/null
}
certify() { # FOLDER NODE
  local kind
  mkdir -p "$1"
  cp -n "$WORK/pki/ca-cert.pem" "$1/" || true
  for kind in server client; do
    certtool --generate-privkey --key-type=ed25519 --outfile "$1/$kind-key.pem" 2>/dev/null
    printf 'cn = "%s"\ndns_name = "%s"\ntls_www_%s\nsigning_key\n' "$2" "$2" "$kind" >"$WORK/node.info"
    certtool --generate-certificate --load-ca-certificate "$1/ca-cert.pem" --load-ca-privkey "$WORK/ca-key.pem" \
      --load-privkey "$1/$kind-key.pem" --template "$WORK/node.info" --outfile "$1/$kind-cert.pem" 2>/dev/null
  done
  chmod 600 "$1"/*-key.pem
}
authority "$WORK/pki"
certify "$WORK/pki.alpha" alpha
certify "$WORK/pki.beta" beta
certify "$WORK/pki.stranger" gamma
pair_write_configuration "$SIZE"
sed -i "/^\[node.alpha\]/a link-certificates = $WORK/pki.alpha" "$CONFIG"
sed -i "/^\[node.beta\]/a link-certificates = $WORK/pki.beta" "$CONFIG"
start_node alpha
start_node beta
order alpha wait --for synced --timeout 30
order alpha promote
start_load alpha 1
finish_load
expect_equal_images alpha
check_ledger alpha beta

say "another node's certificate"
order alpha down
sed "s|$WORK/pki.alpha|$WORK/pki.stranger|" "$CONFIG" >"$WORK/alpha.conf"
"$PROGRAMS/lockstep" up "$RESOURCE" --config "$WORK/alpha.conf" --node alpha --run-dir "$RUN_DIR"
stranger_is_noticed() { grep -q 'the certificate that was shown to beta is not of node alpha' "$RUN_DIR/$RESOURCE.beta.log"; }
wait_until 20 stranger_is_noticed || fail 'beta does not notice'
[[ $(status_of beta '.peers[0]["connection-state"]') == Connecting ]] || fail 'there is a link'
"$PROGRAMS/lockstep" down "$RESOURCE" --config "$WORK/alpha.conf" --node alpha --run-dir "$RUN_DIR"
