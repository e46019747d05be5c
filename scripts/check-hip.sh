#!/usr/bin/env bash
# Compiles the GPU kernels for AMD's gfx942 (MI300X) and gfx90a (MI250) with Debian's packages, where no AMD GPU and no ROCm is,
# and looks into the code objects: right machine, no spills to memory, no static LDS, the matrix instructions that the routes claim.
# Nothing is run. Exit 0: all as expected; 1: not so, one line each; 2: the check itself cannot run.
#   --check       installs nothing: lists missing packages, exit 1 if any
#   --arch NAME   that architecture alone
#   --out DIR     where objects go (default build/check-hip)
#   --verbose     a row a kernel instead of a row a file
# Registers run short first where a kernel is compiled for blocks of 1024 threads, which is what the compiler assumes: say the
# block's size with GRETA_KERNEL_OF.
#   [FILE...]     kernel files (default: all of src/ops/gpu/kernels)
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  clang-19
  clang-tools-19
  lld-19
  llvm-19
  libamdhip64-dev
  rocm-device-libs
  rocminfo
  rocm-cmake
  g++
  libfmt-dev
  libexpected-dev
)

# File: what its code must contain, as gfx942 and as gfx90a spell it.
expected_instructions() {
  case $1:$2 in
    matmul_invariant:gfx942 | qk_invariant:gfx942 | pv_invariant:gfx942) echo "v_mfma_f32_16x16x16_f16 v_mfma_f32_16x16x16_bf16" ;;
    matmul_invariant:gfx90a | qk_invariant:gfx90a | pv_invariant:gfx90a) echo "v_mfma_f32_16x16x16f16 v_mfma_f32_16x16x16bf16_1k" ;;
    matmul_q8:gfx942) echo "v_mfma_i32_16x16x32_i8" ;;
    matmul_q8:gfx90a) echo "v_mfma_i32_16x16x16i8" ;;
  esac
}

cannot() { echo "check-hip.sh: $*" >&2; exit 2; }

check=false verbose=false out=build/check-hip architectures=(gfx942 gfx90a) files=()
while [ $# -gt 0 ]; do
  case $1 in
    --check) check=true ;;
    --verbose) verbose=true ;;
    --arch) [ $# -ge 2 ] || cannot "--arch wants a name"; architectures=("$2"); shift ;;
    --out) [ $# -ge 2 ] || cannot "--out wants a directory"; out=$2; shift ;;
    -*) cannot "unknown option '$1' (known: --check --arch --out --verbose)" ;;
    *) files+=("$1") ;;
  esac
  shift
done
[ ${#files[@]} -gt 0 ] || files=(src/ops/gpu/kernels/*.cpp)

install_missing() {
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || cannot "no apt here; this check is for Debian 12 (packages: ${packages[*]})"
  local missing=() package as_root=()
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  if $check; then
    [ ${#missing[@]} -eq 0 ] || printf '%s\n' "${missing[@]}"
    exit $((${#missing[@]} > 0))
  fi
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || cannot "not root and no sudo; as root: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  echo "check-hip.sh: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -q >/dev/null || cannot "apt-get update failed"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
    cannot "apt-get install ${missing[*]} failed"
}

# A ROCm root of Debian's files. Its device libraries are of 5.2 and lack one constant for gfx942, the ISA's version; all else of
# them serves gfx940 and gfx942 alike.
make_rocm_root() {
  local libraries=/usr/lib/x86_64-linux-gnu/amdgcn/bitcode
  [ -d "$libraries" ] || cannot "no $libraries, which Debian 12's rocm-device-libs has"
  mkdir -p "$rocm/amdgcn/bitcode" "$rocm/lib" "$rocm/include" "$rocm/share/hip"
  ln -sf "$libraries"/*.bc "$rocm/amdgcn/bitcode/"
  rm -f "$rocm/amdgcn/bitcode/oclc_isa_version_942.bc"
  llvm-dis-19 "$libraries/oclc_isa_version_940.bc" -o - | sed 's/constant i32 9400/constant i32 9402/' |
    llvm-as-19 - -o "$rocm/amdgcn/bitcode/oclc_isa_version_942.bc" || cannot "cannot make oclc_isa_version_942.bc"
  ln -sfn /usr/include/hip "$rocm/include/hip"
  ln -sfn /usr/include/hsa "$rocm/include/hsa"
  ln -sfn /usr/share/hip/version "$rocm/share/hip/version"
  ln -sfn /usr/lib/x86_64-linux-gnu/libamdhip64.so "$rocm/lib/libamdhip64.so"
}

# compile ARCH FILE OBJECT; the compiler's words in OBJECT.log
compile() {
  clang++-19 -x hip "--offload-arch=$1" "--rocm-path=$rocm" -std=c++20 -O3 -DNDEBUG -ffp-contract=off -Wall -Wextra -Werror \
    -Isrc --cuda-device-only --no-gpu-bundle-output -c "$2" -o "$3" 2>"$3.log"
}

problems=0
problem() { echo "FAIL $*"; problems=$((problems + 1)); }

# "name vgprs agprs sgprs lds private vgpr_spills sgpr_spills threads" a kernel, from the metadata note.
kernels_of() {
  llvm-readelf-19 --notes "$1" | awk '
    function flush_kernel() { if (name != "") print name, v[".vgpr_count:"] + 0, v[".agpr_count:"] + 0, v[".sgpr_count:"] + 0,
      v[".group_segment_fixed_size:"] + 0, v[".private_segment_fixed_size:"] + 0, v[".vgpr_spill_count:"] + 0, v[".sgpr_spill_count:"] + 0,
      v[".max_flat_workgroup_size:"] + 0
      name = ""; delete v }
    /^amdhsa.kernels:/ { inside = 1; next }
    /^amdhsa/ { flush_kernel(); inside = 0 }
    inside && /^  - / { flush_kernel(); sub(/^  - /, "    ") }
    inside && /^    \./ { key = $1; if (key == ".name:") name = $2; else if (NF == 2) v[key] = $2 }
    END { flush_kernel() }'
}

row() { printf '%-7s %-24s %-60.60s %5s %5s %5s %6s %7s %6s\n' "$@"; }

# greta::gpu::hip::(anonymous namespace)::f<(greta::DType)1>(greta::gpu::Args) -> f<1>
short_name() { c++filt "$1" | sed -E 's/\([^()]*\)$//; s/^void //; s/\(anonymous namespace\):://g; s/\(greta::[A-Za-z:]*\)//g; s/greta::(gpu::)?(hip::)?//g'; }

# look ARCH OBJECT STEM: prints the row of a file (or of its kernels) and what is wrong.
look() {
  local arch=$1 object=$2 stem=$3 header name vgprs agprs sgprs lds private spills scalar_spills threads cost instruction text
  local n=0 most_vgprs=0 most_agprs=0 most_sgprs=0 most_lds=0 most_private=0 all_spills=0 n_bad=0 worst=-1 worst_words=
  header=$(llvm-readelf-19 -h "$object")
  grep -q 'Machine: *EM_AMDGPU' <<<"$header" || problem "$arch $stem: no AMDGPU code object"
  grep -q "Flags:.*$arch" <<<"$header" || problem "$arch $stem: the code object's flags do not say $arch"
  while read -r name vgprs agprs sgprs lds private spills scalar_spills threads; do
    n=$((n + 1))
    most_vgprs=$((vgprs > most_vgprs ? vgprs : most_vgprs)) most_agprs=$((agprs > most_agprs ? agprs : most_agprs))
    most_sgprs=$((sgprs > most_sgprs ? sgprs : most_sgprs)) most_lds=$((lds > most_lds ? lds : most_lds))
    most_private=$((private > most_private ? private : most_private)) all_spills=$((all_spills + spills + scalar_spills))
    if $verbose; then
      row "$arch" "$stem" "$(short_name "$name")" "$vgprs" "$agprs" "$sgprs" "$lds" "$private" $((spills + scalar_spills))
    fi
    [ "$scalar_spills" -eq 0 ] || n_scalar=$((n_scalar + 1))
    [ $((spills + private + lds)) -eq 0 ] && continue
    n_bad=$((n_bad + 1)) cost=$((1000 * (private + spills) + lds))
    if [ $cost -gt "$worst" ]; then
      worst=$cost
      worst_words="$(short_name "$name"): spills $spills vector registers, $private bytes of scratch a thread, \
$lds bytes of static LDS, compiled for blocks of up to $threads threads"
    fi
  done < <(kernels_of "$object")
  [ $n_bad -eq 0 ] || problem "$arch $stem: $n_bad of $n kernels; worst $worst_words"
  text=$object.s
  llvm-objdump-19 -d "--mcpu=$arch" "$object" >"$text"
  for instruction in $(expected_instructions "$stem" "$arch"); do
    grep -q "$instruction " "$text" || problem "$arch $stem: no $instruction in its code"
  done
  n_kernels=$((n_kernels + n)) n_matrix=$((n_matrix + $(grep -c 'v_mfma_' "$text" || true)))
  if ! $verbose && [ $n -gt 0 ]; then
    row "$arch" "$stem" "most of $n kernels" $most_vgprs $most_agprs $most_sgprs $most_lds $most_private $all_spills
  fi
}

install_missing
mkdir -p "$out"
rocm=$(cd "$out" && pwd)/rocm
make_rocm_root
export rocm
export -f compile

n_kernels=0 n_matrix=0 n_scalar=0
row arch file kernel VGPR AGPR SGPR LDS scratch spills
for arch in "${architectures[@]}"; do
  mkdir -p "$out/$arch"
  printf '%s\n' "${files[@]}" | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c \
    'object="$1/$(basename "$2" .cpp).co"; rm -f "$object"; compile "$3" "$2" "$object" || true' _ "$out/$arch" {} "$arch"
  for file in "${files[@]}"; do
    stem=$(basename "$file" .cpp)
    object=$out/$arch/$stem.co
    if [ -f "$object" ]; then
      look "$arch" "$object" "$stem"
    else
      problem "$arch $stem: does not compile: $(grep -m1 -E 'error' "$object.log" || tail -1 "$object.log") (all in $object.log)"
    fi
  done
done

# The host's halves: launches, and the device over HIP's runtime, under this compiler and under g++.
for file in "${files[@]}"; do
  clang++-19 -x hip --offload-arch=gfx942 "--rocm-path=$rocm" -std=c++20 -ffp-contract=off -Wall -Wextra -Werror -Isrc --cuda-host-only \
    -fsyntax-only "$file" 2>"$out/host.log" || problem "host side of $file: $(grep -m1 error "$out/host.log")"
done
g++ -std=c++20 -Wall -Wextra -Wshadow -Wconversion -Werror -Wno-deprecated-declarations -DGRETA_GPU_VENDOR_HIP -D__HIP_PLATFORM_AMD__=1 \
  -DGRETA_GPU_ARCHITECTURES='"gfx942"' -isystem "${HIP_HEADERS:-$rocm/include}" -Isrc -fsyntax-only src/ops/gpu/vendor/device.cpp \
  2>"$out/device.log" || problem "src/ops/gpu/vendor/device.cpp: $(grep -m1 error "$out/device.log")"

echo "$n_kernels kernels of ${#files[@]} files for ${architectures[*]}, $n_matrix matrix instructions, $n_scalar kernels with scalar registers in vector lanes; nothing was run"
[ $problems -eq 0 ] || { echo "check-hip.sh: $problems problems"; exit 1; }
