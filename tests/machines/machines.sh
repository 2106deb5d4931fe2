# shellcheck shell=bash
# Machines for tests that want a whole one: systemd-nspawn containers with the Debian package installed, each with its own
# init, disk and network; the test sources this file and reads as a story.
#
# Their common base is made by debootstrap at the first run and kept in build/machines. Everything of a run (folders,
# network name spaces, machines) is removed at its end, whatever happens. Needs root.
set -euo pipefail

repository=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")
base=$repository/build/machines/base
base_packages=(dbus e2fsprogs fuse3 iproute2 jq libnbd-bin procps systemd systemd-sysv)
WORK=
loops_before=
one_run=

say() { printf -- '-- %4d s: %s\n' "$SECONDS" "$*"; }
fail() {
  echo "FAILED at ${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}: $*" >&2
  exit 1
}
skip() {
  echo "skipped: $*"
  exit 77
}

# wait_until SECONDS COMMAND...
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

name_spaces=()

# Loop devices whose file cannot be reached from here.
dead_loops() {
  local device file
  while read -r device file; do [[ -e $file ]] || echo "$device"; done < <(losetup --noheadings --output NAME,BACK-FILE) | sort
}

end_machines() {
  local status=$? name mount_point
  trap '' INT TERM
  if ((status != 0 && status != 77)) && declare -F at_failure >/dev/null; then at_failure >&2 || true; fi
  for name in "$WORK"/*/nspawn; do
    [[ ! -e $name ]] || power_off "$(basename "${name%/nspawn}")" || true
  done
  while read -r name; do kill "$name" 2>/dev/null || true; done < <(jobs -p)  # a power switch, a client
  # A machine that was switched off leaves its loop devices on the host, whose kernel they were: what they stood on is
  # gone with the machine's name space.
  while read -r name; do losetup --detach "$name" || true; done < <(comm -13 <(echo "$loops_before") <(dead_loops))
  while read -r mount_point; do umount -l "$mount_point" || true; done < <(
    awk -v below="$WORK/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | tac)
  for name in "${name_spaces[@]}"; do ip netns delete "$name" || true; done
  [[ -z $WORK ]] || rm -rf --one-file-system "$WORK"
  exit "$status"
}

# need_machines [PACKAGE...]: everything that machines need, these Debian packages in them; else the test is skipped.
need_machines() {
  local program wanted have
  ((EUID == 0)) || skip 'needs root'
  for program in systemd-nspawn debootstrap nsenter ip; do
    command -v "$program" >/dev/null || skip "no $program (packages systemd-container, debootstrap, util-linux, iproute2)"
  done
  grep -q overlay /proc/filesystems || skip 'no overlay file system'
  package=$(find "$repository/build/package" -name 'lockstep_*.deb' 2>/dev/null | head -n 1)
  [[ -n $package ]] || skip 'no package in build/package: run tools/package'
  # Loop devices are the kernel's, and known by what was there before: two runs would take each other's.
  exec {one_run}>"/run/lock/lockstep-machines"
  flock --nonblock "$one_run" || skip 'another of these tests runs'
  WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/lockstep-machines.XXXXXX")
  loops_before=$(dead_loops)
  trap end_machines EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP

  wanted=$(printf '%s\n' "${base_packages[@]}" "$@" | sort -u)
  have=$(cat "$base.packages" 2>/dev/null || true)
  if [[ -n $(comm -23 <(echo "$wanted") <(echo "$have")) ]]; then
    make_base "$(printf '%s\n%s\n' "$wanted" "$have" | sort -u)"
  fi

  # A layer above it with the package: what it depends on comes along.
  mkdir -p "$WORK"/layer/{upper,work,root}
  mount -t overlay overlay -o "lowerdir=$base,upperdir=$WORK/layer/upper,workdir=$WORK/layer/work" "$WORK/layer/root"
  cp "$package" "$WORK/layer/root/var/tmp/lockstep.deb"
  in_root "$WORK/layer/root" apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends /var/tmp/lockstep.deb \
    >"$WORK/install.log" 2>&1 || fail "the package cannot be installed: $(tail -n 3 "$WORK/install.log")"
  rm "$WORK/layer/root/usr/sbin/policy-rc.d"
  umount "$WORK/layer/root"

  # Their network: a switch in a name space of its own, which nobody else sees.
  hub=lockstep-hub-${WORK##*.}
  ip netns add "$hub"
  name_spaces+=("$hub")
  ip -n "$hub" link add switch type bridge
  ip -n "$hub" link set switch up
}

in_root() {
  local root=$1
  shift
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    chroot "$root" "$@" </dev/null
}

make_base() {
  local packages mirror
  mapfile -t packages <<<"$1"
  mirror=$(apt-cache policy | awk '$3 ~ /main$/ && $2 ~ /^http/ && $2 !~ /security/ { print $2; exit }')
  say 'the base of all machines (once)'
  rm -rf --one-file-system "$base" "$base.packages"
  mkdir -p "${base%/*}"
  debootstrap --variant=minbase "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$base" "$mirror" >"$WORK/base.log" 2>&1 ||
    fail "debootstrap: $(tail -n 1 "$WORK/base.log")"
  cp /etc/resolv.conf "$base/etc/"
  printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
  chmod 755 "$base/usr/sbin/policy-rc.d"
  in_root "$base" apt-get -qq update
  # PostgreSQL's package would make a cluster of its own.
  if [[ " ${packages[*]} " == *' postgresql-15 '* ]]; then
    in_root "$base" apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends postgresql-common >"$WORK/base.log" 2>&1
    sed -i 's/^#*create_main_cluster *=.*/create_main_cluster = false/' "$base/etc/postgresql-common/createcluster.conf"
  fi
  in_root "$base" apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${packages[@]}" \
    >"$WORK/base.log" 2>&1 || fail "the base's packages: $(tail -n 3 "$WORK/base.log")"
  # Nothing runs in a machine that its test has not started.
  systemctl --root="$base" --quiet disable corosync pacemaker postgresql 2>/dev/null || true
  rm -f "$base/etc/machine-id"
  printf '%s\n' "${packages[@]}" >"$base.packages"
}

# make_machine NAME ADDRESS...: its disk and network, so that it can be booted.
make_machine() {
  local name=$1 address space
  shift
  space=lockstep-$name-${WORK##*.}
  mkdir -p "$WORK/$name"/{upper,work,root}
  mount -t overlay overlay -o "lowerdir=$WORK/layer/upper:$base,upperdir=$WORK/$name/upper,workdir=$WORK/$name/work" \
    "$WORK/$name/root"
  echo "$name" >"$WORK/$name/root/etc/hostname"
  # Without one, systemd takes a boot for the first, and enables every service.
  tr -d - </proc/sys/kernel/random/uuid >"$WORK/$name/root/etc/machine-id"
  ip netns add "$space"
  name_spaces+=("$space")
  ip -n "$hub" link add "$name" type veth peer name host0 netns "$space"
  ip -n "$hub" link set "$name" master switch up
  ip -n "$space" link set lo up
  for address in "$@"; do ip -n "$space" address add "$address/24" dev host0; done
  ip -n "$space" link set host0 up
}

has_booted() { on "$1" systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; }

# The processes outside and inside by which a machine is known; a subshell may have booted it.
nspawn_of() { cat "$WORK/$1/nspawn" 2>/dev/null; }
init_of() { local outside && outside=$(nspawn_of "$1") && pgrep -P "$outside" | head -n 1; }

# boot NAME [NSPAWN-OPTION...]: until all that is enabled there has started.
boot() {
  local name=$1
  shift
  systemd-nspawn --quiet --directory="$WORK/$name/root" --machine="$name-${WORK##*.}" --register=no --keep-unit --boot \
    --network-namespace-path="/run/netns/lockstep-$name-${WORK##*.}" --capability=all --bind=/dev/fuse \
    --console=read-only "$@" </dev/null >"$WORK/$name/console" 2>&1 &
  echo $! >"$WORK/$name/nspawn"
  wait_until 30 init_of "$name" >/dev/null || fail "$name has no init: $(cat "$WORK/$name/console")"
  wait_until 90 has_booted "$name" || fail "$name does not boot: $(on "$name" systemctl list-jobs --no-pager)"
  # The loop devices are the host's; which one is free the kernel says.
  # shellcheck disable=SC2016 # expanded in there
  on "$name" sh -c 'mknod -m 660 /dev/loop-control c 10 237 2>/dev/null; for i in $(seq 0 63); do
    mknod -m 660 /dev/loop$i b 7 $i 2>/dev/null; done; true'
  [[ $(on "$name" hostname) == "$name" ]] || fail "$name calls itself otherwise"
}

# The machine stops dead: everything in it is killed in one go.
power_off() {
  local name=$1 outside init
  outside=$(nspawn_of "$name") || return 0
  init=$(init_of "$name") || true
  [[ -z $init ]] || kill -KILL "$init" 2>/dev/null || true
  wait_until 20 is_gone "$outside" || return 1
  rm -f "$WORK/$name/nspawn"
}
is_gone() { ! kill -0 "$1" 2>/dev/null || [[ $(ps -o stat= -p "$1") == Z* ]]; }
is_on() { [[ -e $WORK/$1/nspawn ]] && ! is_gone "$(nspawn_of "$1")"; }

# on NAME COMMAND...: in the machine.
on() {
  local name=$1 init
  shift
  init=$(init_of "$name") || return 1
  nsenter --target "$init" --mount --uts --ipc --net --pid --root env -i --chdir=/ PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root LC_ALL=C.UTF-8 "$@" </dev/null
}

# into NAME PATH: standard input becomes that file of the machine, which need not run.
into() {
  mkdir -p "$WORK/$1/root${2%/*}"
  cat >"$WORK/$1/root$2"
}

# Cuts the machine off the others, and back.
unplug() { ip -n "$hub" link set "$1" down; }
plug() { ip -n "$hub" link set "$1" up; }

# status_of NAME JQ-FILTER, has NAME JQ-FILTER VALUE: of resource pgdata there.
status_of() { on "$1" lockstep status pgdata --json 2>/dev/null | jq -r ".[0] | $2"; }
has() { [[ $(status_of "$1" "$2" 2>/dev/null) == "$3" ]]; }
becomes() {
  local seconds=$1
  shift
  wait_until "$seconds" has "$@" || fail "$2 on $1 is '$(status_of "$1" "$2")' and not '$3' after $seconds s"
}
