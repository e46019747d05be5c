#!/usr/bin/env bash
# The main job, twice: the demo model as it is (the arms AGREE), and with the planted fault of report B3.41 (they diverge, and
# the first wrong stage is ffn_norm). Installs what is missing and builds first. Reports go below artifacts/.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-deps.sh
cmake --preset release >/dev/null
cmake --build --preset release --target greta

mkdir -p artifacts
runs=$(mktemp -d artifacts/demo-XXXXXX)

expect() {  # expect EXIT_CODE COMMAND...
  local wanted=$1 got=0
  shift
  echo "\$ $*"
  "$@" || got=$?
  if [ "$got" -ne "$wanted" ]; then
    echo "demo.sh: '$*' ended with exit code $got, not $wanted" >&2
    exit 1
  fi
  echo
}

echo; echo "== 1. The demo model as it is: prefill and decode must agree"
expect 0 build/release/greta isolate --out "$runs/healthy"
echo "== 2. With the fault of report B3.41 planted in decode: ffn_norm of layer 0 reads token 0's row"
expect 1 build/release/greta isolate --fault b3_41 --out "$runs/b3_41"
if ! awk -F'\t' 'NR > 2 && $3 != "ffn_norm" { wrong = 1 } END { exit wrong || NR < 3 }' "$runs/b3_41/b3_41_analysis.txt"; then
  echo "demo.sh: the first mismatching stage is not ffn_norm; see $runs/b3_41/report.md" >&2
  exit 1
fi
echo "Reports: $runs/healthy/report.md"
echo "         $runs/b3_41/report.md"
