#!/usr/bin/env bash
# usage: bisect-example.sh [GRETA]
# A worked example of `greta isolate --git-bisect` (docs/bisect.md): makes a repository whose commits are versions of an engine, one
# of them with a bug, lets `git bisect run` look for it, and holds the answer to the truth. Exit 1 where another commit is named.
# Everything lies in a temporary directory, which is removed at the end.
set -euo pipefail
greta=$(realpath "${1:-$(dirname "$0")/../build/release/greta}")
work=$(mktemp -d "${TMPDIR:-/tmp}/greta-bisect-XXXXXX")
trap 'rm -rf "$work"' EXIT
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=engineer GIT_AUTHOR_EMAIL=engineer@example.org GIT_COMMITTER_NAME=engineer GIT_COMMITTER_EMAIL=engineer@example.org
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'  # equal hashes, so git chooses equally

"$greta" models synth --shape tiny --layers 2 --seed 7 --out "$work/model.gguf" >/dev/null 2>&1
git init -q -b main "$work/engine"
cd "$work/engine"

# The "engine": build.sh joins what src/ says of arm B to an experiment. A real one would compile here.
mkdir src
cat >build.sh <<'EOF'
#!/bin/sh
set -e
{ echo 'id = "bisect"'
  cat src/mode
  printf '[[prompts]]\nid = "p"\ntext = "The quick brown fox jumps over the lazy dog"\n[arms.b]\n'
  cat src/engine
} >experiment.toml
EOF
# One step of the bisection: 0 good, 1 bad, 125 cannot be told (skipped), 128 and more stop it.
cat >../step.sh <<EOF
#!/bin/sh
./build.sh || exit 125
exec "$greta" isolate experiment.toml --model "$work/model.gguf" --git-bisect --out "\$(mktemp -d "$work/run-XXXXXX")"
EOF
chmod +x build.sh ../step.sh
echo experiment.toml >.gitignore

commit() {  # commit SUBJECT: everything, and nothing of it need have changed
  git add -A
  git commit -q --allow-empty -m "$1"
}
echo 'exp = "E1"' >src/mode
: >src/engine
commit "Prefill and decode"
good=$(git rev-parse HEAD)
echo 'chunk = 4' >src/engine
commit "Prefill in chunks of 4 rows"
echo 'chunk = 3' >src/engine
commit "Chunks of 3 rows"
echo 'threads = 1' >>src/engine
commit "One thread"
echo 'chunk = 2' >src/engine
commit "Chunks of 2 rows, as many threads as there are cores"
sed -i 's/^set -e$/set -e; exit 1  # half a change/' build.sh
commit "Half of a change: does not build"
sed -i 's/^set -e; exit 1.*/set -e/' build.sh
commit "The other half"
echo 'fault = "rmsnorm-epsilon@decode:layer=1:stage=ffn_norm:eps=1e-4"' >>src/engine
commit "Faster norm before the MLP in decode"
guilty=$(git rev-parse HEAD)
echo '# tidied' >>src/engine
commit "Tidy"
sed -i 's/chunk = 2/chunk = 5/' src/engine
commit "Chunks of 5 rows"
commit "Release"

git bisect start HEAD "$good" >/dev/null
git bisect run ../step.sh >"$work/bisect.log" 2>&1 || { cat "$work/bisect.log" >&2; exit 1; }
# git names commits; what it tried and how that ended stands in its log.
git bisect log | sed -n -E 's/^# (good|bad|skip): \[[0-9a-f]+\] /\1  /p'
found=$(git rev-parse refs/bisect/bad)
echo "first bad commit: $(git log -1 --format=%s "$found")"
if [ "$found" != "$guilty" ]; then
  echo "bisect-example.sh: the guilty one is '$(git log -1 --format=%s "$guilty")'" >&2
  exit 1
fi
# What is wrong in it, as greta saw it there.
git checkout -q "$found"
../step.sh 2>&1 | grep -E '^(first|verdict|cause) ' || true
