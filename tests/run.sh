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
