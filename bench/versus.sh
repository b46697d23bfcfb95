#!/usr/bin/env bash
# Two programs measured in turn on this machine, and compared: the honest way to
# hold one build against another, for what moves from run to run then moves both.
#
#   bash bench/versus.sh OLD NEW [ROUNDS [COMPARE OPTIONS...]]
#
# OLD and NEW are `saccade` programs, e.g. of two work trees. A round is a run of
# each, the other first in every second one. Two rounds unless said otherwise.
# OUT names a folder to keep the runs in; DIFF has options for `saccade diff`,
# whose exit code this ends with.
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: versus.sh OLD NEW [ROUNDS [COMPARE OPTIONS...]]" >&2
  exit 2
fi
old=$1 new=$2 rounds=${3:-2}
shift $(($# < 3 ? $# : 3))
options=("$@")
[ ${#options[@]} -gt 0 ] || options=(--measure speed,memory)
if [ -n "${OUT:-}" ]; then
  out=$OUT
else
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"

measure() { # FOLDER PROGRAM
  echo "measuring $1" >&2
  "$2" compare "${options[@]}" --out "$out/$1" > "$out/$1.txt" 2>&1 ||
    { cat "$out/$1.txt" >&2; exit 2; }
}


a=() b=()
for round in $(seq "$rounds"); do
  [ $((round % 2)) -eq 1 ] && measure "old-$round" "$old"
  measure "new-$round" "$new"
  [ $((round % 2)) -eq 0 ] && measure "old-$round" "$old"
  a+=("$out/old-$round") b+=("$out/new-$round")
done
# shellcheck disable=SC2086  # words are options
"$new" diff "${a[@]}" --vs "${b[@]}" ${DIFF:-}
