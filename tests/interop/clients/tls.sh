#!/bin/bash
# TLS with credentials as docs/nbd-support.md makes them: certificates by certtool, keys by psktool.
source "$(dirname "$0")/../server.sh"
needs certtool psktool nbdinfo nbdcopy

# authority FOLDER; certificate FOLDER NAME server|client
authority() {
  mkdir -p "$1"
  certtool --generate-privkey --key-type=ed25519 --outfile "$1/ca-key.pem" 2>/dev/null
  printf 'cn = "the authority"\nca\ncert_signing_key\n' >"$1/ca.info"
  certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template "$1/ca.info" --outfile "$1/ca-cert.pem" \
    2>/dev/null
}
certificate() {
  certtool --generate-privkey --key-type=ed25519 --outfile "$1/$3-key.pem" 2>/dev/null
  printf 'cn = "%s"\ndns_name = "%s"\nip_address = "127.0.0.1"\ntls_www_%s\nsigning_key\n' "$2" "$2" "$3" >"$1/$3.info"
  certtool --generate-certificate --load-ca-certificate "$1/ca-cert.pem" --load-ca-privkey "$1/ca-key.pem" \
    --load-privkey "$1/$3-key.pem" --template "$1/$3.info" --outfile "$1/$3-cert.pem" 2>/dev/null
  chmod 600 "$1/$3-key.pem"
}
stop_server() {
  kill -TERM "$server_pid"
  wait "$server_pid"
  server_pid=
  rm -f "$WORK/addresses"
}

authority "$WORK/pki"
certificate "$WORK/pki" localhost server
certificate "$WORK/pki" carol client
authority "$WORK/other"
certificate "$WORK/other" carol client
psktool -u alice -p "$WORK/keys.psk" >/dev/null
psktool -u bob -p "$WORK/keys.psk" >/dev/null
chmod 600 "$WORK/keys.psk"
dd if=/dev/urandom of="$WORK/data" bs=1M count=16 status=none

# Certificates: the server's only.
start_server 16M --tls require --tls-certificates "$WORK/pki"
mkdir "$WORK/client"
cp "$WORK/pki/ca-cert.pem" "$WORK/client"
nbdinfo --size "nbds://localhost:$PORT/memory?tls-certificates=$WORK/client" >/dev/null
nbdinfo --size "nbds+unix://localhost/memory?socket=$SOCKET&tls-certificates=$WORK/client" >/dev/null
nbdcopy --connections=4 "$WORK/data" "nbds://localhost:$PORT/memory?tls-certificates=$WORK/client"
nbdcopy "nbds://localhost:$PORT/memory?tls-certificates=$WORK/client" - | cmp - "$WORK/data"
refused 'TLS' nbdinfo "nbd://localhost:$PORT/memory"
refused 'certificate' nbdinfo "nbds://localhost:$PORT/memory?tls-certificates=$WORK/other"
stop_server

# Certificates of both sides, and a list of names.
start_server 16M --tls on --tls-certificates "$WORK/pki" --tls-verify-peer --tls-allow carol
nbdinfo --size "nbds://localhost:$PORT/memory?tls-certificates=$WORK/pki" >/dev/null
refused '' nbdinfo "nbds://localhost:$PORT/memory?tls-certificates=$WORK/client"
refused 'TLS' nbdinfo "nbd://localhost:$PORT/memory"
cp "$WORK/pki/ca-cert.pem" "$WORK/other/"
refused '' nbdinfo "nbds://localhost:$PORT/memory?tls-certificates=$WORK/other"
stop_server

# Pre-shared keys.
start_server 16M --tls require --tls-psk-file "$WORK/keys.psk" --tls-allow alice
nbdinfo --size "nbds://alice@localhost:$PORT/memory?tls-psk-file=$WORK/keys.psk" >/dev/null
nbdinfo --size "nbds+unix://alice@/memory?socket=$SOCKET&tls-psk-file=$WORK/keys.psk" >/dev/null
nbdcopy "$WORK/data" "nbds+unix://alice@/memory?socket=$SOCKET&tls-psk-file=$WORK/keys.psk"
refused "" nbdinfo "nbds://bob@localhost:$PORT/memory?tls-psk-file=$WORK/keys.psk"
psktool -u alice -p "$WORK/wrong.psk" >/dev/null
refused '' nbdinfo "nbds://alice@localhost:$PORT/memory?tls-psk-file=$WORK/wrong.psk"
stop_server

# Both kinds at once: each client uses what it has.
start_server 16M --tls require --tls-certificates "$WORK/pki" --tls-psk-file "$WORK/keys.psk"
nbdinfo --size "nbds://localhost:$PORT/memory?tls-certificates=$WORK/client" >/dev/null
nbdinfo --size "nbds://bob@localhost:$PORT/memory?tls-psk-file=$WORK/keys.psk" >/dev/null

# Nothing secret where others look.
key=$(cut -d: -f2 "$WORK/keys.psk" | head -1)
! grep -q "$key" "$WORK/server.log" "/proc/$server_pid/cmdline" "/proc/$server_pid/environ" || fail 'a key is visible'
