#!/usr/bin/env bash
# Measures what `saccade versus` can be trusted with on this machine: the
# program against itself, where every verdict but "same" and "unclear" is wrong,
# and against itself with every timed pass made 5 % longer, which it should find
# where intervals allow it (half of one below 2 %).
#
#   bash bench/selfcheck.sh [VERSUS OPTIONS...]
#
# SACCADE names another program, OUT a folder to keep the runs in. About ten
# minutes. Ends with 1 when more than 5 % are wrong or less than 90 % found.
set -euo pipefail
cd "$(dirname "$0")/.."

program=${SACCADE:-build/release/saccade}
options=("$@")
if [ ${#options[@]} -eq 0 ]; then
  options=(-n 256:8k:x2 --pass forward,decode --dtype f32,bf16 --budget 6m)
fi
if [ -n "${OUT:-}" ]; then
  out=$OUT
else
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"

# Cells, those called faster or slower, those whose interval allows for 5 %, and
# those called slower among them.
rates() { # NAME [OPTION...]
  echo "measuring: $1" >&2
  "$program" versus "$program" "${options[@]}" "${@:2}" --out "$out/$1" \
    --format json > "$out/$1.json" 2> "$out/$1.txt" ||
    { cat "$out/$1.txt" >&2; exit 2; }
  awk '
    /^  "[a-z_]+":/ { times = $1 == "\"times\":" }
    !times { next }
    { gsub(/[",]/, "") }
    $1 == "ratio:" { ratio = $2 }
    $1 == "low:" { low = $2 }
    $1 == "high:" { high = $2 }
    $1 == "verdict:" {
      ++cells
      if ($2 == "faster" || $2 == "slower") ++called
      if (low != "null" && high - low < 0.04 * ratio) {
        ++allowed
        if ($2 == "slower") ++found
      }
    }
    END { print cells + 0, called + 0, allowed + 0, found + 0 }' "$out/$1.json"
}

equal=$(rates equal)
slower=$(rates slower --handicap 5%)
read -r cells wrong known _ <<< "$equal"
read -r slowed _ allowed found <<< "$slower"
if [ "$cells" -eq 0 ] || [ "$slowed" -eq 0 ]; then
  echo "no cell was measured" >&2
  exit 2
fi
echo "equal: $cells cells, $known of them known to 2 %;" \
  "$wrong called faster or slower ($((100 * wrong / cells)) %)"
echo "5 % slower: $slowed cells, in $allowed the interval allows to see it," \
  "$found of these called slower"
[ $((20 * wrong)) -le "$cells" ] && [ $((10 * found)) -ge $((9 * allowed)) ]
