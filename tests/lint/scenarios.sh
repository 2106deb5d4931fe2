#!/bin/bash
# Fails when docs/testing.md names, for a scenario, a test that is not there.
# usage: scenarios.sh SOURCE_FOLDER
set -euo pipefail
cd "$1"

section=$(sed -n '/^### Scenarios$/,/^## /p' docs/testing.md)
invariants=$(sed -n '/^### Invariants$/,/^### /p' docs/testing.md)
rows=$(grep -cE '^\| [^*-].* \| `' <<<"$section")
if ((rows < 30)); then
  echo "docs/testing.md: only $rows scenarios have a test" >&2
  exit 1
fi
if bare=$(grep -E '^\| [^*-].* \| *\|$' <<<"$section"); then
  printf 'docs/testing.md: a scenario without a test: %s\n' "$bare" >&2
  exit 1
fi

is_there() {
  local kind=$1 name=$2
  case $kind in
    unit) grep -rqF "TEST_CASE(\"$name\"" tests/unit ;;
    case) [[ -f tests/integration/cases/$name.sh ]] ;;
    mutant) grep -qE "^$name +(quick|slow) " tests/sim/mutants.txt ;;
    invariant) grep -qE "^\| ([0-9]+, )*$name(, [0-9]+)* \|" <<<"$invariants" ;;
    ctest) grep -rqE "add_test\(NAME $name( |$)" --include=CMakeLists.txt tests ;;
    *) return 1 ;;
  esac
}

missing=0
named=0
# shellcheck disable=SC2016  # the backquotes are the document's
while IFS= read -r reference; do
  named=$((named + 1))
  if ! is_there "${reference%%: *}" "${reference#*: }"; then
    printf 'docs/testing.md names a test that is not there: %s\n' "$reference" >&2
    missing=$((missing + 1))
  fi
done < <(grep -oE '`[a-z]+: [^`]+`' <<<"$section" | tr -d '`')
printf '%d scenarios, %d tests named\n' "$rows" "$named"
((missing == 0))
