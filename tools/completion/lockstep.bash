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

_lockstep() {
  local verbs='create up down status events wait promote demote switchover connect disconnect resync pause-resync
    resume-resync invalidate invalidate-peer verify suspend resume outdate resize detach attach reload explain audit
    dump-metadata metrics'
  local common='--config --node --run-dir --json --help'
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local verb='' resource='' options='' plain=0 i
  COMPREPLY=()

  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      --config | --node | --run-dir | --for | --timeout | --to | --force-data-loss | --discard-my-data | --generation) ((++i)) ;;
      -*) ;;
      *)
        ((++plain))
        ((plain == 1)) && verb=${COMP_WORDS[i]}
        ((plain == 2)) && resource=${COMP_WORDS[i]}
        ;;
    esac
  done

  case $previous in
    --config)
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    --run-dir)
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      return
      ;;
    --node | --to)
      mapfile -t COMPREPLY < <(compgen -W "$(_lockstep_nodes "$resource")" -- "$current")
      return
      ;;
    --for)
      mapfile -t COMPREPLY < <(
        compgen -W 'up connected synced role=Primary role=Secondary promotable verified' -- "$current")
      return
      ;;
    --timeout | --force-data-loss | --discard-my-data | --generation) return ;;
  esac

  if [[ $current == -* ]]; then
    case $verb in
      '') options='--version' ;;
      create) options='--existing-data --force --generation --dry-run' ;;
      up | down) options='--timeout --dry-run' ;;
      status) options='--watch' ;;
      wait) options='--for --timeout' ;;
      promote) options='--peer-fenced --force-data-loss --generation --dry-run' ;;
      demote) options='--force --dry-run' ;;
      switchover) options='--to --dry-run' ;;
      resync) options='--discard-my-data --dry-run' ;;
      verify) options='--repair --dry-run' ;;
      resume) options='--alone --generation --dry-run' ;;
      invalidate | invalidate-peer) options='--generation --dry-run' ;;
      connect | disconnect | pause-resync | resume-resync | suspend | outdate | resize | detach | attach | reload)
        options='--dry-run'
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$common $options" -- "$current")
    return
  fi
  case $plain in
    0) mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$current") ;;
    1) mapfile -t COMPREPLY < <(compgen -W "$(_lockstep_resources)" -- "$current") ;;
    2)
      case $verb in
        connect | disconnect | resync | pause-resync | resume-resync | invalidate-peer | verify)
          mapfile -t COMPREPLY < <(compgen -W "$(_lockstep_nodes "$resource")" -- "$current")
          ;;
      esac
      ;;
  esac
}
complete -F _lockstep lockstep
