#!/usr/bin/env bash
# Installs what is needed, builds, and compares all variants: about five
# minutes of measuring. Ends with the verdict and the path of the report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash bench/install.sh bench/packages.txt
echo "Building (Release) ..."
cmake --preset release >/dev/null
cmake --build --preset release --target saccade_program
exec build/release/saccade compare --profile quick --out runs/quick "$@"
