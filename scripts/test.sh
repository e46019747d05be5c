#!/usr/bin/env bash
# Builds release and runs all tests but the heavy sweeps (scripts/test-heavy.sh). Arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-deps.sh
cmake --preset release
cmake --build --preset release
exec ctest --preset release --parallel "$(nproc)" "$@"
