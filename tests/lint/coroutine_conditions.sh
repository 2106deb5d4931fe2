#!/bin/bash
# GCC 12 miscompiles a co_await inside the condition of an if, while, for or switch: the result is named first.
# Without arguments: looks at the repository. With files: at those.
set -euo pipefail

find_awaits() {
  perl -0777 -ne '
    while (/\b(if|while|for|switch)\s*(?:constexpr\s*)?(\((?:[^()]++|(?2))*\))/g) {
      my ($at, $condition) = ($-[0], $2);
      next unless $condition =~ /\bco_await\b/;
      my $line = 1 + (substr($_, 0, $at) =~ tr/\n//);
      print "$ARGV:$line: co_await in a condition: name its result first\n";
    }' "$@"
}

if (($#)); then
  found=$(find_awaits "$@")
else
  cd "$(dirname "$(readlink -f "$0")")/../.."
  bad=$(mktemp --suffix=.cpp)
  trap 'rm -f "$bad"' EXIT
  printf 'if (ready(1) && (co_await next()).ok()) go();\n' >"$bad"
  [[ -n $(find_awaits "$bad") ]] || { echo "the check is blind: it does not find its own bad example" >&2 && exit 1; }
  found=$(git ls-files '*.cpp' '*.h' | xargs bash "$0" || true)
fi
[[ -z $found ]] || { echo "$found" && exit 1; }
