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
echo "Fuzzing all parsers, five seconds each ..."
# Without optimising: the compiler takes longer than the fuzzers.
cmake --preset fuzz \
  -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O0 -gline-tables-only" >/dev/null
cmake --build --preset fuzz
ctest --test-dir build/fuzz --output-on-failure
