#!/bin/bash
# Runs shellcheck over every bash script of the repository: shell_scripts.sh REPOSITORY
set -euo pipefail

cd "$1"
if ! command -v shellcheck >/dev/null; then
  echo "skipped: shellcheck is not installed"
  exit 77
fi
mapfile -t scripts < <(grep -rlE --exclude-dir=.git --exclude-dir=build '^(#!/bin/bash|# shellcheck shell=bash)' .)
shellcheck -x "${scripts[@]}"
echo "${#scripts[@]} scripts are clean"
