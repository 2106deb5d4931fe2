#!/bin/bash
# systemd's own opinion of the units: nothing to complain of, and the daemon's exposure below 3.0 of 10.
# usage: service_units.sh SOURCE_FOLDER
set -euo pipefail
cd "$1/tools/systemd"
command -v systemd-analyze >/dev/null || { echo 'skipped: systemd-analyze is not installed' && exit 77; }
limit=3.0

work=$(mktemp -d "${TMPDIR:-/var/tmp}/lockstep-units.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/sbin" "$work/units"
for program in lockstepd lockstep lockstep-attach lockstep-detach; do
  printf '#!/bin/sh\n' >"$work/sbin/$program"
  chmod 755 "$work/sbin/$program"
done
for file in *.in; do
  sed "s,@CMAKE_INSTALL_FULL_SBINDIR@,$work/sbin,g" "$file" >"$work/units/${file%.in}"
done
cp ./*.target examples/*.mount "$work/units/"
# Under another name than its file has here, and as an addition to a unit that this host may not have.
{
  printf '[Service]\nType=oneshot\nExecStart=/bin/true\n'
  cat examples/postgresql@15-main.conf
} >"$work/units/postgresql@15-main.service"

# The names by which others refer to them need instances.
for file in "$work"/units/lockstep*@.*; do cp "$file" "${file/@/@pgdata}"; done
cd "$work/units"
export SYSTEMD_UNIT_PATH=$work/units:
said=$(systemd-analyze verify --man=no --recursive-errors=yes ./*pgdata* ./postgresql@15-main.service 2>&1) || {
  printf '%s\n' "$said" >&2
  exit 1
}
# Of this host's other units nothing is said here; of ours, warnings count, too.
if complaints=$(grep -E 'lockstep|pgdata|postgresql@15' <<<"$said"); then
  printf '%s\n' "$complaints" >&2
  exit 1
fi

exposure=$(systemd-analyze security --offline=true --no-pager ./lockstepd@pgdata.service |
  sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
[[ -n $exposure ]] || { echo 'systemd-analyze gives no exposure' >&2 && exit 1; }
awk -v is="$exposure" -v limit="$limit" 'BEGIN { exit !(is < limit) }' ||
  { echo "the exposure of lockstepd@.service is $exposure, and must be below $limit" >&2 && exit 1; }
echo "the units are clean; exposure $exposure"
