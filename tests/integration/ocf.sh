# shellcheck shell=bash
# Pacemaker's agent of this repository, called as a cluster does. Sourced after case.sh.

[[ -e /usr/lib/ocf/lib/heartbeat/ocf-shellfuncs ]] || skip 'no ocf-shellfuncs (package resource-agents)'
command -v jq >/dev/null || skip 'no jq'

export LOCKSTEP=$PROGRAMS/lockstep
# shellcheck disable=SC2154 # of case.sh
program=$integration/../../pacemaker/resource
agent_config=

# agent NODE ACTION: prints the exit status.
agent() {
  local status=0
  OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=$RESOURCE OCF_RESKEY_resource=$RESOURCE OCF_RESKEY_config=${agent_config:-$CONFIG} \
    OCF_RESKEY_node=$1 OCF_RESKEY_run_dir=$RUN_DIR OCF_RESKEY_CRM_meta_timeout=${seconds:-20}000 \
    "$program" "$2" >"$WORK/said" 2>&1 || status=$?
  echo "$status"
}
# gives STATUS NODE ACTION
gives() {
  local wanted=$1 status
  shift
  status=$(agent "$@")
  [[ $status == "$wanted" ]] || fail "$* gave $status instead of $wanted: $(cat "$WORK/said")"
}
