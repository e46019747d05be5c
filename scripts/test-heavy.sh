#!/usr/bin/env bash
# Builds release and runs the full sweeps (ctest label `heavy`). Arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-deps.sh
cmake --preset release
cmake --build --preset release
# Not through the preset, which leaves `heavy` out. One at a time: the sweeps use all cores themselves.
exec ctest --test-dir build/release -L heavy --no-tests=error --output-on-failure "$@"
