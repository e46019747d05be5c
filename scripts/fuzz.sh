#!/usr/bin/env bash
# Fuzzes: scripts/fuzz.sh MINUTES [TARGET...] runs each target (default: all of fuzz/) for MINUTES under libFuzzer with ASan and
# UBSan, and prints executions, executions a second, coverage, corpus and findings. Exit 1 where there is a finding, 2 where
# something could not be run. docs/fuzzing.md says more.
#   JOBS=N       targets at the same time (default: the number of processors)
#   FUZZ_DIR=DIR logs, corpora that grow and findings (default: artifacts/fuzz)
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A max_len=([gguf]=16384 [tokenizer]=8192 [jsonl]=32768 [run_directory]=32768 [experiment]=8192 [gate]=8192 [safetensors]=8192
                    [scene]=32768 [name_map]=2048 [fault_spec]=512)
all=(gguf jsonl experiment gate run_directory scene tokenizer safetensors fault_spec name_map)

usage() { echo "fuzz.sh: $1; usage: scripts/fuzz.sh MINUTES [TARGET...], targets: ${all[*]}" >&2; exit 2; }
minutes=${1:-}
[[ $minutes =~ ^[1-9][0-9]{0,4}$ ]] || usage "'$minutes' is no number of minutes"
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do [ -n "${max_len[$target]:-}" ] || usage "target '$target' is not known"; done
jobs=${JOBS:-$(nproc)}
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage "JOBS='$jobs' is no number"

scripts/install-deps.sh --fuzz
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${targets[@]/#/fuzz_}"

out=$(realpath -m "${FUZZ_DIR:-artifacts/fuzz}")
stamp=$(date +%Y%m%d-%H%M%S)
findings=$out/findings/$stamp
mkdir -p "$out/logs" "$findings"

run_target() {  # run_target TARGET: its log is $out/logs/TARGET.log
  local target=$1 corpus=$out/corpus/$1
  mkdir -p "$corpus" "$findings/$target"
  local seeds=()
  for seed in "fuzz/corpus/$target" "tests/fuzz/$target"; do [ ! -d "$seed" ] || seeds+=("$seed"); done
  # Leaks are looked for at the end; an allocation of more than 64 MiB for an input of some KiB is a finding.
  UBSAN_OPTIONS=print_stacktrace=1 nice -n "${NICE:-0}" "build/fuzz/fuzz_$target" -max_total_time=$((minutes * 60)) \
    -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=64 -max_len="${max_len[$target]}" -dict="fuzz/dictionaries/$target.dict" \
    -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$findings/$target/" \
    "$corpus" "${seeds[@]}" >"$out/logs/$target.log" 2>&1 || true
}

status_of() {  # status_of TARGET: one row of the table; 1 where it found something, 2 where it did not run
  local target=$1 log=$out/logs/$1.log
  # A fuzzer that dies prints no statistics: what it last said stands then.
  local executions last coverage features files rate found
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  last=$(grep -aE '^#[0-9]+\s.* cov: ' "$log" | tail -1 || true)
  [ -n "$executions" ] || executions=$(sed -nE 's/^#([0-9]+).*/\1/p' <<<"$last")
  rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  [ -n "$rate" ] || rate=$(sed -nE 's/.* exec\/s: ([0-9]+).*/\1/p' <<<"$last")
  coverage=$(sed -nE 's/.* cov: ([0-9]+).*/\1/p' <<<"$last")
  features=$(sed -nE 's/.* ft: ([0-9]+).*/\1/p' <<<"$last")
  files=$(sed -nE 's/.* corp: ([^ ]+).*/\1/p' <<<"$last")
  found=$(find "$findings/$target" -type f ! -name 'slow-unit-*' | wc -l)
  printf '%-14s %12s %8s %8s %9s %14s %9s\n' "$target" "${executions:--}" "${rate:--}" "${coverage:--}" "${features:--}" "${files:--}" "$found"
  [ "$found" -eq 0 ] || return 1
  grep -aq '^Done ' "$log" || return 2
}

echo "fuzz.sh: ${targets[*]}: $minutes minutes each, $jobs at a time; logs: $out/logs"
running=0
for target in "${targets[@]}"; do
  if [ "$running" -ge "$jobs" ]; then
    wait -n
    running=$((running - 1))
  fi
  run_target "$target" &
  running=$((running + 1))
done
wait

result=0
printf '%-14s %12s %8s %8s %9s %14s %9s\n' target executions exec/s coverage features corpus findings
for target in "${targets[@]}"; do
  code=0
  status_of "$target" || code=$?
  if [ "$code" -eq 2 ]; then
    echo "fuzz.sh: $target did not run to its end; see $out/logs/$target.log" >&2
    result=2
  elif [ "$code" -eq 1 ] && [ "$result" -eq 0 ]; then
    result=1
  fi
done
for artefact in "$findings"/*/*; do
  [ -f "$artefact" ] || continue
  target=$(basename "$(dirname "$artefact")")
  echo "finding: $artefact"
  echo "  replay:   build/fuzz/fuzz_$target $artefact"
  echo "  minimise: build/fuzz/fuzz_$target -minimize_crash=1 -max_total_time=60 -exact_artifact_path=tests/fuzz/$target/NAME $artefact"
done
exit "$result"
