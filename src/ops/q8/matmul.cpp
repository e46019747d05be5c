// Integer matrix products, an output a lane: a tile of 16 outputs is unpacked to bytes, four inputs of all outputs side by
// side, so that one instruction multiplies and adds 64 codes and no sum ever crosses lanes. What is computed: q8.h.
#define GRETA_TARGETS_WITH_VNNI
#include "ops/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/q8/matmul.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which flips their guards.
#include "ops/q8/format.h"
#include "ops/q8/int_lanes.h"
#include "ops/q8/q8.h"
#include "ops/q8/unpack.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE::integers {

using q8::Group;
using q8::kBlocksOfGroup;
using q8::kGroup;
using q8::kTileOuts;
using q8::Row;
using q8::TileArgs;

// Rows of a register tile.
#if HWY_TARGET <= HWY_AVX3
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 2;
#endif
static_assert(q8::kFusedRows <= kTileRows);

/// Group `g` of a tile's outputs. Lanes beyond the last output repeat it; nobody reads them. Of a last group with fewer than
/// eight blocks the blocks are copied first: whole groups are read, and nothing may be beyond the row.
template <DType kType>
void unpack_tile(const TileArgs& args, std::int64_t g, Group& out) {
  using Block = BlockOf<kType>;
  constexpr std::int64_t kBlocks = sizeof(Block) < kGroup / 4 ? kBlocksOfGroup : 1;  // of a group
  Sources from;
  for (int i = 0; i < kTileOuts; ++i) {
    const std::int64_t o = args.begin + i < args.end ? i : args.end - args.begin - 1;
    from.of[i] = args.weight + o * args.stride + g * kBlocks * static_cast<std::int64_t>(sizeof(Block));
  }
  // Sixteen streams are more than processors follow: the next tile, which lies behind this one, is asked for piece by piece.
  constexpr std::int64_t kBytes = kTileOuts * kBlocks * static_cast<std::int64_t>(sizeof(Block));
  const std::byte* next = args.weight + kTileOuts * args.stride + g * kBytes;
  for (std::int64_t at = 0; at < kBytes; at += 64) __builtin_prefetch(next + at, 0, 2);
  const std::int64_t left = args.n_blocks - g * kBlocksOfGroup;
  if (kBlocks == 1 || left >= kBlocksOfGroup) return unpack(static_cast<const Block*>(nullptr), from, out.codes, out.scales);
  Block copies[kTileOuts][kBlocks] = {};
  for (int i = 0; i < kTileOuts; ++i) {
    std::memcpy(copies[i], from.of[i], static_cast<std::size_t>(left) * sizeof(Block));
    from.of[i] = reinterpret_cast<const std::byte*>(copies[i]);
  }
  unpack(static_cast<const Block*>(nullptr), from, out.codes, out.scales);
}

using Unpack = void (*)(const TileArgs& args, std::int64_t g, Group& out);

template <int kRows>
struct Sums {
  Lanes acc[kRows];
};

/// Goes on with the sums of kRows rows over blocks [first, first + n) of inputs; `groups` begins with that of `first`.
template <int kSub, bool kMinima, bool kSmall, int kRows>
HWY_INLINE void accumulate(const Group* groups, const Row* rows, std::int64_t first, std::int64_t n, Sums<kRows>& sums) {
  constexpr int kSubs = 32 / kSub;
  for (std::int64_t b = 0; b < n; ++b) {
    const Group& group = groups[b / kBlocksOfGroup];
    const int in_group = static_cast<int>(b % kBlocksOfGroup);
    for (int s = 0; s < kSubs; ++s) {
      const std::int64_t sub = (first + b) * kSubs + s;
      const std::uint8_t* codes = group.codes[(in_group * kSubs + s) * (kSub / 4)];
      Ints dots[kRows];
      for (int r = 0; r < kRows; ++r) dots[r] = set1_i32(rows[r].start[sub]);
      for (int k = 0; k < kSub / 4; ++k) {
        const Ints w = load_ints(codes + k * kTileOuts * 4);
        for (int r = 0; r < kRows; ++r) {
          std::int32_t x;
          std::memcpy(&x, rows[r].codes + sub * kSub + 4 * k, sizeof x);
          dots[r] = dot4<kSmall>(dots[r], w, set1_i32(x));
        }
      }
      const Lanes d = load(group.scales[in_group * kSubs + s]);
      for (int r = 0; r < kRows; ++r) sums.acc[r] = fma(mul(d, set1(rows[r].d[first + b])), to_lanes(dots[r]), sums.acc[r]);
      if constexpr (kMinima) {
        const Lanes m = load(group.scales[kGroup / kSub + in_group * kSubs + s]);
        for (int r = 0; r < kRows; ++r) sums.acc[r] = fma(m, set1(rows[r].sums[sub]), sums.acc[r]);
      }
    }
  }
}

template <int kRows>
HWY_INLINE void finish(const TileArgs& args, std::int64_t row, const Sums<kRows>& sums) {
  for (int r = 0; r < kRows; ++r) {
    float lanes[kTileOuts];
    store(sums.acc[r], lanes);
    for (std::int64_t o = args.begin; o < args.end; ++o) {
      const float dot = lanes[o - args.begin];
      args.out[row + r][o] = args.bias != nullptr ? dot + args.bias[o] : dot;
    }
  }
}

/// Rows [row, row + kRows) over all inputs: from the panel, or unpacking a group at a time.
template <int kSub, bool kMinima, bool kSmall, int kRows>
HWY_INLINE void tile_rows(Unpack unpack, const TileArgs& args, std::int64_t row) {
  Sums<kRows> sums;
  for (Lanes& acc : sums.acc) acc = zero();
  if (args.panel != nullptr) {
    accumulate<kSub, kMinima, kSmall>(args.panel, args.rows + row, 0, args.n_blocks, sums);
  } else {
    Group group;
    for (std::int64_t b = 0; b < args.n_blocks; b += kBlocksOfGroup) {
      unpack(args, b / kBlocksOfGroup, group);
      const std::int64_t n = args.n_blocks - b < kBlocksOfGroup ? args.n_blocks - b : kBlocksOfGroup;
      accumulate<kSub, kMinima, kSmall>(&group, args.rows + row, b, n, sums);
    }
  }
  finish(args, row, sums);
}

template <int kSub, bool kMinima, bool kSmall, int kRows>
void tiles(Unpack unpack, const TileArgs& args, std::int64_t row) {
  for (; row + kRows <= args.n_rows; row += kRows) tile_rows<kSub, kMinima, kSmall, kRows>(unpack, args, row);
  if constexpr (kRows > 1) {
    if (row < args.n_rows) tiles<kSub, kMinima, kSmall, kRows / 2>(unpack, args, row);
  }
}

template <int kSub, bool kMinima, bool kSmall>
void run_tile(Unpack unpack, const TileArgs& args) {
  if (args.panel != nullptr) {
    const std::int64_t n_groups = (args.n_blocks + kBlocksOfGroup - 1) / kBlocksOfGroup;
    for (std::int64_t g = 0; g < n_groups; ++g) unpack(args, g, args.panel[g]);
  }
  tiles<kSub, kMinima, kSmall, kTileRows>(unpack, args, 0);
}

template <DType kType>
void tile_of(const TileArgs& args) {
  constexpr q8::Format kFormat = q8::format_of(kType);
  run_tile<kFormat.sub, kFormat.minima, kFormat.small>(&unpack_tile<kType>, args);
}

}  // namespace greta::HWY_NAMESPACE::integers

namespace greta::HWY_NAMESPACE {

void q8_tile(const q8::TileArgs& args) {
  switch (args.dtype) {
    case DType::q4_0:
      return integers::tile_of<DType::q4_0>(args);
    case DType::q4_1:
      return integers::tile_of<DType::q4_1>(args);
    case DType::q5_0:
      return integers::tile_of<DType::q5_0>(args);
    case DType::q5_1:
      return integers::tile_of<DType::q5_1>(args);
    case DType::q2_k:
      return integers::tile_of<DType::q2_k>(args);
    case DType::q3_k:
      return integers::tile_of<DType::q3_k>(args);
    case DType::q4_k:
      return integers::tile_of<DType::q4_k>(args);
    case DType::q5_k:
      return integers::tile_of<DType::q5_k>(args);
    case DType::q6_k:
      return integers::tile_of<DType::q6_k>(args);
    case DType::iq4_nl:
      return integers::tile_of<DType::iq4_nl>(args);
    case DType::iq4_xs:
      return integers::tile_of<DType::iq4_xs>(args);
    default:
      return integers::tile_of<DType::q8_0>(args);
  }
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <hwy/targets.h>

#include <memory>
#include <vector>

#include "core/activation_blocks.h"
#include "core/blocks.h"

namespace greta::q8 {
namespace {

constexpr auto kTile = GRETA_PER_ISA(q8_tile);
constexpr std::int64_t kGrainWork = 1 << 18;  // multiply-adds that are worth another thread

auto tile_kernel(Isa isa) {
#if defined(__x86_64__)
  static const bool vnni = (hwy::SupportedTargets() & HWY_AVX3_DL) != 0;
  if (isa == Isa::avx512 && vnni) return &N_AVX3_DL::q8_tile;
#endif
  return kTile[isa];
}

/// Rows of activations apart into codes, scales and sums, as the kernels read them.
class PackedRows {
 public:
  PackedRows(const CpuContext& context, const TensorView& x, const Format& format)
      : rows_(static_cast<std::size_t>(x.n_rows)),
        codes_(new std::int8_t[static_cast<std::size_t>(x.n_rows * x.n_cols)]),
        d_(new float[static_cast<std::size_t>(x.n_rows * x.n_cols / 32)]),
        start_(new std::int32_t[static_cast<std::size_t>(x.n_rows * x.n_cols / format.sub)]),
        sums_(new float[static_cast<std::size_t>(x.n_rows * x.n_cols / format.sub)]) {
    context.pool.for_ranges(x.n_rows, (1 << 15) / x.n_cols, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) pack(x, r, format);
    });
  }
  const Row* rows() const { return rows_.data(); }

 private:
  void pack(const TensorView& x, std::int64_t r, const Format& format) {
    std::int8_t* codes = codes_.get() + r * x.n_cols;
    float* d = d_.get() + r * (x.n_cols / 32);
    std::int32_t* start = start_.get() + r * (x.n_cols / format.sub);
    float* sums = sums_.get() + r * (x.n_cols / format.sub);
    rows_[static_cast<std::size_t>(r)] = {codes, d, start, sums};
    const auto* blocks = x.row_as<const BlockQ8F32>(r);
    for (std::int64_t b = 0; b < x.n_cols / 32; ++b) {
      std::memcpy(codes + b * 32, blocks[b].q, 32);
      d[b] = blocks[b].d;
      for (int s = 0; s < 32; s += format.sub) {
        std::int32_t sum = 0;
        for (int i = 0; i < format.sub; ++i) sum += blocks[b].q[s + i];
        *start++ = -format.offset * sum;
        *sums++ = blocks[b].d * static_cast<float>(sum);
      }
    }
  }

  std::vector<Row> rows_;
  std::unique_ptr<std::int8_t[]> codes_;
  std::unique_ptr<float[]> d_;
  std::unique_ptr<std::int32_t[]> start_;
  std::unique_ptr<float[]> sums_;
};

}  // namespace

bool multiplies_integers(const TensorView& x, const WeightView& weight) {
  return x.dtype == DType::q8_f32 && is_block_type(weight.dtype) && weight.layout == WeightLayout::row_major;
}

void matmul(const CpuContext& context, const TensorView& x, const WeightView& weight, const WeightView& bias,
            const TensorView& out) {
  const PackedRows rows(context, x, format_of(weight.dtype));
  std::vector<float*> outputs;
  for (std::int64_t r = 0; r < x.n_rows; ++r) outputs.push_back(out.row_as<float>(r));
  std::vector<float> offsets(bias ? static_cast<std::size_t>(weight.n_rows) : 0);
  if (bias) dequantize_row(bias.dtype, bias.data, weight.n_rows, offsets.data());

  const auto kernel = tile_kernel(context.isa);
  const std::int64_t n_groups = (weight.n_cols + kGroup - 1) / kGroup;
  const std::int64_t n_tiles = (weight.n_rows + kTileOuts - 1) / kTileOuts;
  context.pool.for_ranges(
      n_tiles, kGrainWork / (weight.n_cols * kTileOuts * x.n_rows), [&](std::int64_t begin, std::int64_t end) {
        const std::unique_ptr<Group[]> panel(x.n_rows > kFusedRows ? new Group[static_cast<std::size_t>(n_groups)] : nullptr);
        for (std::int64_t tile = begin; tile < end; ++tile) {
          const std::int64_t o = tile * kTileOuts;
          kernel({weight.dtype, weight.row(o), weight.row_size(), o, std::min(o + kTileOuts, weight.n_rows), weight.n_cols / 32,
                  rows.rows(), x.n_rows, outputs.data(), bias ? offsets.data() : nullptr, panel.get()});
        }
      });
}

}  // namespace greta::q8
#endif
