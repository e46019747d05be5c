#!/usr/bin/env bash
# Runs experiment b3_41 on another machine and brings its run back to
# artifacts_remote/DATE/b3_41/root/gretacore/artifacts/alignment/DATE. A front of `greta remote`.
set -euo pipefail

usage="usage: run_b3_41_mi300x.sh HOST [DATE] [--model REMOTE_PATH] [--backend auto] [more options of greta remote]"
case ${1:-} in
  "" ) echo "$usage" >&2; exit 2 ;;
  -h | --help) echo "$usage"; exit 0 ;;
esac
host=$1
shift
date=()
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  date=(--date "$1")
  shift
fi

root=$(cd "$(dirname "$0")/../.." && pwd)
greta=${GRETA:-$root/build/release/greta}
[ -x "$greta" ] || { echo "run_b3_41_mi300x.sh: $greta is not built; run $root/scripts/demo.sh first" >&2; exit 2; }
exec "$greta" remote "$host" b3_41 "${date[@]}" "$@"
