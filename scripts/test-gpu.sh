#!/usr/bin/env bash
# Builds for the GPUs of this machine (preset mi300x where ROCm is, else cuda) and runs the tests that need one (ctest label
# `gpu`). Arguments go to ctest. Exit 2: neither ROCm nor nvcc is here, or no GPU.
#   --sanitize   instead runs them under compute-sanitizer (CUDA): memcheck, then racecheck without those of faulty kernels
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -d "${ROCM_PATH:-/opt/rocm}" ]; then
  preset=mi300x
elif command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
  preset=cuda
else
  echo "test-gpu.sh: neither ROCm (\$ROCM_PATH, /opt/rocm) nor nvcc is here" >&2
  exit 2
fi
scripts/install-deps.sh || [ $? -eq 3 ]
cmake --preset "$preset"
cmake --build --preset "$preset" --target test_gpu
if ! "build/$preset/test_gpu" --gtest_list_tests --gtest_filter='Hardware/*' | grep -q '^Hardware/'; then
  echo "test-gpu.sh: built, but no device can be used:" >&2
  "build/$preset/test_gpu" --gtest_filter='Backends.*' 2>&1 | grep -E '^(cuda|hip): ' >&2 || true
  exit 2
fi
if [ "${1:-}" = --sanitize ]; then
  if [ "$preset" != cuda ]; then
    echo "test-gpu.sh: --sanitize needs compute-sanitizer, which is CUDA's" >&2
    exit 2
  fi
  PATH=$PATH:/usr/local/cuda/bin
  compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 1 build/cuda/test_gpu \
    --gtest_filter='Hardware/*' --gtest_brief=1  # one test provokes an error of the API
  exec compute-sanitizer --tool racecheck --error-exitcode 1 build/cuda/test_gpu \
    --gtest_filter='Hardware/*-*Fault*:*WrongKernel*' --gtest_brief=1
fi
exec ctest --test-dir "build/$preset" -L gpu --no-tests=error --output-on-failure "$@"
