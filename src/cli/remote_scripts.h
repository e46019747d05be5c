// What `greta remote` runs on the other machine: POSIX sh, after lines that set $cache, $hash, $model and $directory.
#pragma once

#include <string_view>

namespace greta::cli {

// Exit codes of these scripts; the last line of their stderr says more.
inline constexpr int kModelUnreadable = 40, kToolMissing = 41, kPackagesMissing = 42, kBuildFailed = 43, kNoDirectory = 44;

/// Answers `greta-source whole` where this source was sent before, and `greta-tmp DIR`.
inline constexpr std::string_view kPrepareScript = R"sh(
if [ -n "$model" ] && ! { [ -f "$model" ] && [ -r "$model" ]; }; then exit 40; fi
command -v rsync >/dev/null || { echo rsync >&2; exit 41; }
mkdir -p "$HOME/$cache" || exit 44
[ "$(cat "$HOME/$cache/.greta-source" 2>/dev/null)" = "$hash" ] && echo greta-source whole
echo "greta-tmp ${TMPDIR:-/tmp}"
)sh";

/// A hash that has its build is not built again; the lock keeps two runs from building one tree at once.
inline constexpr std::string_view kBuildScript = R"sh(
cd "$HOME/$cache" || exit 44
echo "$hash" >.greta-source || exit 44
if command -v flock >/dev/null; then exec 9>.greta-lock && flock 9; fi
[ "$(cat .greta-built 2>/dev/null)" = "$hash" ] && [ -x build/release/greta ] && exit 0
missing=$(bash scripts/install-deps.sh --check --build-only 2>/dev/null </dev/null)
if [ $? -eq 1 ]; then echo $missing >&2; exit 42; fi
if ! { cmake --preset release -DBUILD_TESTING=OFF && cmake --build --preset release --target greta; } \
    >.greta-build.log 2>&1 </dev/null; then
  grep -iE -m 1 'error' .greta-build.log >&2 || tail -n 1 .greta-build.log >&2
  exit 43
fi
echo "$hash" >.greta-built
)sh";

/// Before the command of greta isolate: a directory of our own, in which all it writes stays.
inline constexpr std::string_view kRunBegin = R"sh(
mkdir -m 700 "$directory" && cd "$directory" || exit 44
if [ -n "$experiment" ]; then printf %s "$experiment" >experiment.toml || exit 44; fi
)sh";

/// After it (in the background, so that its process id is known). Answers `greta-exit CODE` and `greta-run whole`.
inline constexpr std::string_view kRunEnd = R"sh( >/dev/null </dev/null &
echo $! >pid
wait $!
echo greta-exit $?
rm -f pid
[ -f run/manifest.json ] && echo greta-run whole
exit 0
)sh";

inline constexpr std::string_view kCleanScript = R"sh(
if [ -f "$directory/pid" ] && kill "$(cat "$directory/pid")" 2>/dev/null; then sleep 0.2; fi
rm -rf "$directory"
)sh";

}  // namespace greta::cli
