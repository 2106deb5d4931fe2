# shellcheck shell=bash
# PostgreSQL on a mounted device, for bash scripts: a cluster of its own under $WORK, reached over a unix socket only.
# The caller sets WORK and LEDGER_PROGRAM (the path of commit_ledger), and has mounted the device on $MOUNT.

POSTGRES_PROGRAMS=/usr/lib/postgresql/15/bin

as_postgres() { (cd / && runuser -u postgres -- "$@"); }

database_prepare_folders() {
  MOUNT=$WORK/mnt
  LEDGER=$WORK/ledger
  CONNECTION="host=$WORK/postgres dbname=postgres user=postgres connect_timeout=10"
  mkdir -p "$MOUNT" "$LEDGER"
  install -d -o postgres "$WORK/postgres"
}

# Everything that stands between an acknowledged commit and stable storage is on.
database_create() {
  install -d -o postgres -m 700 "$MOUNT/data"
  as_postgres "$POSTGRES_PROGRAMS/initdb" --pgdata "$MOUNT/data" --username postgres --auth trust --data-checksums \
    --encoding UTF8 --no-locale >"$WORK/initdb.log"
  cat >>"$MOUNT/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$WORK/postgres'
fsync = on
full_page_writes = on
synchronous_commit = on
max_connections = 100
shared_buffers = 64MB
checkpoint_timeout = 30s
max_wal_size = 128MB
CONF
  # The server makes its own files durable; this one is ours.
  sync --file-system "$MOUNT"
}

database_start() {
  # Another machine has no process of the old server. Here one that was killed may still wait to be reaped, and its
  # number in the lock files would keep the new server from starting.
  if ((${#killed_database_processes[@]})) && database_is_gone; then
    rm -f "$WORK"/postgres/.s.PGSQL.5432{,.lock} "$MOUNT/data/postmaster.pid"
  fi
  as_postgres "$POSTGRES_PROGRAMS/pg_ctl" start --pgdata "$MOUNT/data" --wait --timeout 60 \
    --log "$WORK/postgres/log" >/dev/null 2>"$WORK/postgres/pg_ctl.log" && return
  echo "PostgreSQL does not start: $(tail -n 1 "$WORK/postgres/pg_ctl.log"), $(tail -n 3 "$WORK/postgres/log")" >&2
  return 1
}

database_stop() {
  as_postgres "$POSTGRES_PROGRAMS/pg_ctl" stop --pgdata "$MOUNT/data" --mode fast --wait --timeout 60 >/dev/null
}

killed_database_processes=()

# As when its machine loses power: no process of the server lives on to write or to answer.
database_kill() {
  local postmaster pids pid
  # The mount may hang, so the number comes from the lock file of the socket and not from the data folder.
  postmaster=$(head -n 1 "$WORK/postgres/.s.PGSQL.5432.lock" 2>/dev/null) || return 0
  [[ -n $postmaster && -d /proc/$postmaster ]] || return 0
  mapfile -t pids < <(pgrep -P "$postmaster")
  for pid in "$postmaster" "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  killed_database_processes=("$postmaster" "${pids[@]}")
}

database_is_gone() {
  local pid
  for pid in "${killed_database_processes[@]}"; do process_is_gone "$pid" || return 1; done
}

commit_ledger() {
  local verb=$1
  shift
  "$LEDGER_PROGRAM" "$verb" --connection "$CONNECTION" "$@"
}

# Number of commits that clients have written down so far.
ledger_count() { find "$LEDGER" -name "client-*.ledger" -exec cat {} + | wc -l; }
ledger_has() { (($(ledger_count) >= $1)); }
