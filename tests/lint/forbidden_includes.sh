#!/bin/bash
# Finds includes that break the rooms' borders: forbidden_includes.sh [REPOSITORY]
#
# A pure room may use the standard library without its clocks, threads, randomness and input/output, and the pure rooms
# below it; no system header. Every room includes only itself and rooms below it. One file includes liburing.
# Prints FILE:LINE: TEXT: RULE for each breach and exits with 1.
set -euo pipefail

cd "${1:-$(dirname "$0")/../..}"
breaches=0

# What the standard library has of clocks, threads, randomness and input/output.
impure_standard='chrono|ctime|thread|mutex|shared_mutex|condition_variable|future|stop_token|semaphore|latch|barrier|random|filesystem|fstream|iostream|csignal|execution|syncstream'
# Processor instructions are no system calls: CRC32C uses them.
instruction_headers='(nmmintrin|immintrin|arm_acle)\.h'

breach() { # breach FILE:LINE:TEXT RULE
  printf '%s: %s\n' "$1" "$2"
  breaches=$((breaches + 1))
}

# includes FILE...: FILE:LINE:<name> or FILE:LINE:"name", a line each.
includes() { grep -HnoE '^ *# *include *[<"][^>"]+[>"]' "$@" /dev/null | sed -E 's/# *include *//; s/: */:/2' || true; }

# check_pure FOLDERS FILE...: each file, and each file of its own room that it includes, keeps the rules of a pure room.
# FOLDERS: an expression for the beginnings of the includes that are pure by themselves.
check_pure() {
  local folders=$1 own_room where name
  shift
  local -A seen=()
  local queue=("$@")
  while ((${#queue[@]})); do
    local file=${queue[0]}
    queue=("${queue[@]:1}")
    [[ -z ${seen[$file]:-} && -e $file ]] || continue
    seen[$file]=yes
    own_room=$(dirname "$file")
    while IFS= read -r where; do
      name=${where%?} name=${name##*[<\"]}
      if [[ $where == *'<'* ]]; then
        if [[ $name =~ ^($impure_standard)$ ]]; then
          breach "$where" 'a pure room uses no clocks, threads, randomness or input/output'
        elif [[ $name == */* || $name == *.h ]] && ! [[ $name =~ ^$instruction_headers$ ]]; then
          breach "$where" 'a pure room includes no system header'
        fi
      elif [[ $name =~ ^$folders ]]; then
        :
      elif [[ $(dirname "$name") == "$own_room" ]]; then
        queue+=("$name" "${name%.h}.cpp")
      else
        breach "$where" "a pure room in $own_room does not include this"
      fi
    done < <(includes "$file")
  done
}

# check_room FOLDER ALLOWED: quoted includes of the folder's files begin with one of these rooms.
check_room() {
  local folder=$1 allowed=$2 where name files
  mapfile -t files < <(find "$folder" -name '*.h' -o -name '*.cpp')
  while IFS= read -r where; do
    name=${where%?} name=${name##*[<\"]}
    [[ $where != *\"* || $name =~ ^($allowed)/ ]] || breach "$where" "$folder may include only $allowed"
  done < <(includes "${files[@]}")
}

# The sources that a CMake target names: pure_sources FOLDER TARGET
pure_sources() {
  tr '\n' ' ' <"$1/CMakeLists.txt" |
    sed -nE "s/.*lockstep_room\($2 +SOURCES +([^)]*)\).*/\1/p" | sed 's/LINKS.*//' | tr -s ' ' '\n' | sed "s,^.,$1/&,"
}

sources_and_headers() {
  local source
  for source in "$@"; do printf '%s\n' "$source" "${source%.cpp}.h"; done
}

mapfile -t protocol < <(pure_sources nbd-server lockstep_nbd_protocol)
mapfile -t codec < <(pure_sources replicator lockstep_replicator_codec)
if ((${#protocol[@]} == 0 || ${#codec[@]} == 0)); then
  echo "the pure targets lockstep_nbd_protocol and lockstep_replicator_codec are not found" >&2
  exit 2
fi
mapfile -t protocol < <(sources_and_headers "${protocol[@]}")
mapfile -t codec < <(sources_and_headers "${codec[@]}")

check_pure 'io/base/' io/base/*.h io/base/*.cpp
check_pure '(io/base|replicator/core)/' replicator/core/*.h replicator/core/*.cpp
check_pure 'io/base/' "${protocol[@]}"
check_pure '(io/base|replicator/core)/' "${codec[@]}"

check_room io/base 'io/base'
check_room io 'io'
check_room nbd-server 'io|nbd-server'
check_room replicator/core 'io/base|replicator/core'
check_room replicator 'io|replicator'

mapfile -t all_files < <(find io nbd-server replicator tools tests -name '*.h' -o -name '*.cpp')
while IFS= read -r where; do
  [[ $where == io/loop.cpp:* ]] || breach "$where" 'only io/loop.cpp includes liburing'
done < <(includes "${all_files[@]}" | grep liburing)

if ((breaches)); then
  echo "$breaches forbidden includes"
  exit 1
fi
