#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that greta needs; those already there are left alone.
#   --check       installs nothing: lists what is missing, exit 1 (exit 3: no dpkg here, cannot tell)
#   --build-only  what building and running takes, without what only the tests use
#   --fuzz        what scripts/fuzz.sh takes besides: clang with libFuzzer and the sanitizers' runtimes
#   --list        prints the package names
set -euo pipefail

# One name a line; docs and CI read the list from here.
build_packages=(
  g++
  cmake
  ninja-build
  pkg-config
  libfmt-dev
  libspdlog-dev
  nlohmann-json3-dev
  libcli11-dev
  libexpected-dev
  libtomlplusplus-dev
  libhwy-dev
  libxxhash-dev
  libpcre2-dev
  libboost-context-dev
)
test_packages=(
  git
  libgtest-dev
  libgmock-dev
  librapidcheck-dev
  openssh-client
  openssh-server
  rsync
  python3
  python3-numpy
)

fuzz_packages=(
  clang
  libclang-rt-dev
)

check=false build_only=false list=false fuzz=false
for argument in "$@"; do
  case $argument in
    --check) check=true ;;
    --build-only) build_only=true ;;
    --fuzz) build_only=true fuzz=true ;;
    --list) list=true ;;
    *) echo "install-deps.sh: unknown option '$argument' (known: --check --build-only --fuzz --list)" >&2; exit 2 ;;
  esac
done

packages=("${build_packages[@]}")
$build_only || packages+=("${test_packages[@]}")
! $fuzz || packages+=("${fuzz_packages[@]}")
if $list; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install-deps.sh: no apt here; install the equivalents of: ${packages[*]}" >&2
  exit 3
fi

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  $check || echo "install-deps.sh: nothing is missing"
  exit 0
fi
if $check; then
  printf '%s\n' "${missing[@]}"
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install-deps.sh: not root and no sudo; as root: apt-get install --no-install-recommends ${missing[*]}" >&2; exit 2; }
  as_root=(sudo)
fi
echo "install-deps.sh: installing ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
