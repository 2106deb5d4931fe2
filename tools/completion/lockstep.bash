# Completion of verbs, resources, nodes and options of lockstep(8), for bash. -*- shell-script -*-

# The word behind option $1 on the line, or the text $2.
_lockstep_option_value() {
  local i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    [[ ${COMP_WORDS[i]} == "$1" ]] && { echo "${COMP_WORDS[i + 1]}"; return; }
  done
  echo "$2"
}

_lockstep_resources() {
  local file name folder
  for file in /etc/lockstep/*.conf; do
    [[ -e $file ]] && basename "$file" .conf
  done
  # Also what runs with a configuration elsewhere.
  folder=$(_lockstep_option_value --run-dir "${LOCKSTEP_RUN_DIR:-/run/lockstep}")
  for file in "$folder"/*.sock; do
    [[ -S $file ]] || continue
    name=$(basename "$file" .sock)
    echo "${name%.*}"
  done
}

# The nodes of the resource $1.
_lockstep_nodes() {
  local file
  file=$(_lockstep_option_value --config "/etc/lockstep/$1.conf")
  [[ -r $file ]] && sed -n 's/^[[:space:]]*\[node\.\([A-Za-z0-9_.-]*\)\].*/\1/p' "$file"
}

# Made of tools/verb_table.cpp by 'cmake --build --preset dev --target manual': begin verbs
_lockstep_verbs='create up down reload status events wait explain audit dump-metadata metrics promote demote switchover
  connect disconnect resync pause-resync resume-resync invalidate invalidate-peer verify suspend resume detach attach
  resize outdate'
_lockstep_common_options='--config --node --run-dir --json --help'
# The options of the verb $1.
_lockstep_options_of() {
  case $1 in
    '') echo '--version' ;;
    create) echo '--existing-data --force --generation --dry-run' ;;
    up) echo '--timeout --dry-run' ;;
    down) echo '--timeout --dry-run' ;;
    reload) echo '--dry-run' ;;
    status) echo '--watch' ;;
    wait) echo '--for --timeout' ;;
    promote) echo '--peer-fenced --force-data-loss --generation --dry-run' ;;
    demote) echo '--force --dry-run' ;;
    switchover) echo '--to --dry-run' ;;
    connect) echo '--dry-run' ;;
    disconnect) echo '--dry-run' ;;
    resync) echo '--discard-my-data --dry-run' ;;
    pause-resync) echo '--dry-run' ;;
    resume-resync) echo '--dry-run' ;;
    invalidate) echo '--generation --dry-run' ;;
    invalidate-peer) echo '--generation --dry-run' ;;
    verify) echo '--repair --dry-run' ;;
    suspend) echo '--dry-run' ;;
    resume) echo '--alone --generation --dry-run' ;;
    detach) echo '--dry-run' ;;
    attach) echo '--dry-run' ;;
    resize) echo '--dry-run' ;;
    outdate) echo '--dry-run' ;;
  esac
}
# What stands behind the option $1; nothing behind one that stands alone.
_lockstep_value_of() {
  case $1 in
    --config) echo 'FILE' ;;
    --node) echo 'NAME' ;;
    --run-dir) echo 'DIR' ;;
    --generation) echo 'GENERATION' ;;
    --timeout) echo 'SECONDS' ;;
    --for) echo 'CONDITION' ;;
    --force-data-loss) echo 'GENERATION' ;;
    --to) echo 'NODE' ;;
    --discard-my-data) echo 'GENERATION' ;;
  esac
}
# The words that may stand for the value $1.
_lockstep_choices_of() {
  case $1 in
    CONDITION) echo 'up connected synced role=Primary role=Secondary promotable verified' ;;
  esac
}
_lockstep_takes_peer() {
  case $1 in
    connect | disconnect | resync | pause-resync | resume-resync | invalidate-peer | verify) return 0 ;;
  esac
  return 1
}
# end verbs

_lockstep() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local verb='' resource='' plain=0 value i
  COMPREPLY=()

  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      -*) [[ -z $(_lockstep_value_of "${COMP_WORDS[i]}") ]] || ((++i)) ;;
      *)
        ((++plain))
        ((plain == 1)) && verb=${COMP_WORDS[i]}
        ((plain == 2)) && resource=${COMP_WORDS[i]}
        ;;
    esac
  done

  value=$(_lockstep_value_of "$previous")
  case $value in
    '') ;;
    FILE) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    DIR) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    NAME | NODE) mapfile -t COMPREPLY < <(compgen -W "$(_lockstep_nodes "$resource")" -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$(_lockstep_choices_of "$value")" -- "$current") ;;
  esac
  [[ -z $value ]] || return 0

  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$_lockstep_common_options $(_lockstep_options_of "$verb")" -- "$current")
    return
  fi
  case $plain in
    0) mapfile -t COMPREPLY < <(compgen -W "$_lockstep_verbs" -- "$current") ;;
    1) mapfile -t COMPREPLY < <(compgen -W "$(_lockstep_resources)" -- "$current") ;;
    2) ! _lockstep_takes_peer "$verb" || mapfile -t COMPREPLY < <(compgen -W "$(_lockstep_nodes "$resource")" -- "$current") ;;
  esac
}
complete -F _lockstep lockstep
