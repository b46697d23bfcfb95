#!/usr/bin/env bash
# Installs what is needed, builds, and runs all tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash bench/install.sh bench/packages.txt tests/packages.txt
echo "Building (Release, warnings are errors) ..."
cmake --preset release >/dev/null
cmake --build --preset release
echo "Testing ..."
ctest --test-dir build/release --output-on-failure
echo "Fuzzing the parsers, five seconds each ..."
cmake -S tests/fuzz -B build/fuzz -G Ninja >/dev/null
cmake --build build/fuzz
ctest --test-dir build/fuzz -j2 --output-on-failure
