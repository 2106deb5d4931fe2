# shellcheck shell=bash
# Files that fail on demand, under the daemons that are tested: nbdkit's error filter over the real file, and nbdfuse to
# make a file of it again. The daemon knows nothing of it.
#
# Sourced after case.sh, by a case that then ends with what end_of_this_case removes.

failing=()

require_failing_disks() {
  local program
  for program in nbdkit nbdfuse fusermount3; do
    command -v "$program" >/dev/null || skip "$program is not installed"
  done
  [[ -w /dev/fuse ]] || skip '/dev/fuse is missing'
}

# make_failing NODE NAME: the file $WORK/NODE/NAME fails from break_file to mend_file. Its node must be down.
make_failing() {
  local file=$WORK/$1/$2
  mv "$file" "$file.real"
  : >"$file"
  nbdkit --exit-with-parent --filter=error -f -U "$file.socket" file "$file.real" \
    error=EIO error-rate=100% error-file="$file.broken" 2>>"$WORK/nbdkit.out" &
  helpers+=("$!")
  disown "$!"
  wait_until 10 test -S "$file.socket" || fail 'nbdkit does not start'
  nbdfuse "$file" --unix "$file.socket" 2>>"$WORK/nbdfuse.out" &
  helpers+=("$!")
  disown "$!"
  failing+=("$file")
  wait_until 10 mountpoint -q "$file" || fail 'nbdfuse does not start'
}
break_file() { : >"$WORK/$1/$2.broken"; }
mend_file() { rm -f "$WORK/$1/$2.broken"; }

# start_pair_on_failing_disk [LINE...]: as start_pair, and alpha's disk can fail.
start_pair_on_failing_disk() {
  require_failing_disks
  pair_create_workspace
  pair_write_configuration "$SIZE" "$@"
  create_pair
  make_failing alpha disk.img
  start_node alpha
  start_node beta
  order alpha wait --for synced --timeout 30
  order alpha promote
}

end_of_this_case() {
  local file
  pair_stop
  for file in "${failing[@]}"; do fusermount3 -u -z "$file" 2>/dev/null || true; done
}
