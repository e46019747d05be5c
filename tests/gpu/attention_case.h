// Attention as tests of GPU kernels call it: rows, heads, a cache, and what a device makes of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "tests/gpu/operands.h"

namespace greta::gpu {

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Rows, heads and a cache whose slots beyond the rows' positions are NaN.
struct AttentionCase {
  int n_heads, n_kv_heads, head_dim;
  DType stored;
  std::vector<RowId> rows;
  int window = 0;
  double softcap = 0;

  AttentionParams params() const {
    return {n_heads, n_kv_heads, head_dim, 1 / std::sqrt(static_cast<double>(head_dim)), softcap, window};
  }
  std::vector<std::int64_t> score_cols() const {
    std::vector<std::int64_t> cols;
    for (const RowId& row : rows) cols.push_back(std::int64_t{n_heads} * (row.position + 1));
    return cols;
  }
  Tensor scores() const { return {DType::f32, score_cols()}; }
  Tensor heads() const { return {DType::f32, n_rows(), std::int64_t{n_heads} * head_dim}; }
  int n_rows() const { return static_cast<int>(rows.size()); }
  TwinKv cache(std::mt19937_64& random) const {
    std::map<int, int> length;
    int most = 0;
    for (const RowId& row : rows) {
      length[row.seq] = std::max(length[row.seq], row.position + 1);
      most = std::max(most, row.position + 1);
    }
    TwinKv kv(stored, length.rbegin()->first + 1, most + 3, std::int64_t{n_kv_heads} * head_dim);
    for (const auto& [seq, n] : length) kv.fill_normal(seq, 0, n, random);
    return kv;
  }
};
inline void PrintTo(const AttentionCase& c, std::ostream* out) {
  *out << c.n_heads << "/" << c.n_kv_heads << " heads of " << c.head_dim << ", " << name(c.stored) << ", " << c.n_rows()
       << " rows, the last at " << c.rows.back().position << ", window " << c.window << ", cap " << c.softcap;
}

inline std::vector<std::byte> run_qk(Device& device, const AttentionCase& c, const Tensor& q, const TwinKv& kv,
                                     RouteId route = RouteId::reference, KernelFault fault = KernelFault::none) {
  const Tensor empty = c.scores();
  const Placed in(device, q), out(device, empty);
  const DeviceArray<std::byte> memory(device, kv.bytes());
  const PlacedRows rows(device, c.rows, empty.view().extents);
  const AttentionParams p = c.params();
  device.kernels().qk(device.stream(),
                      {route, in.arg(), rows.arg(), kv.arg(memory.bytes()), c.n_heads, c.n_kv_heads, c.head_dim, c.window,
                       static_cast<float>(p.scale), static_cast<float>(p.softcap), out.floats(), fault});
  return out.download();
}

inline std::vector<std::byte> run_pv(Device& device, const AttentionCase& c, const Tensor& probs, const TwinKv& kv,
                                     RouteId route, KernelFault fault = KernelFault::none) {
  const Tensor empty = c.heads();
  const Placed in(device, probs), out(device, empty);
  const DeviceArray<std::byte> memory(device, kv.bytes());
  const PlacedRows rows(device, c.rows, probs.view().extents);
  PvArgs args{
      route,   rows.arg(), kv.arg(memory.bytes()), c.n_heads, c.n_kv_heads, c.head_dim, c.window, in.floats(), out.arg(),
      nullptr, fault};
  const std::size_t bytes = device.kernels().pv_scratch(args);
  const DeviceArray<std::byte> scratch(device, std::vector<std::byte>(bytes + 1, std::byte{0xff}));
  args.scratch = scratch.bytes();
  device.kernels().pv(device.stream(), args);
  EXPECT_EQ(scratch.download().back(), std::byte{0xff}) << "written past its scratch";
  return out.download();
}

/// Probabilities as softmax leaves them: 0 before the window.
inline Tensor probabilities(const AttentionCase& c, std::mt19937_64& random) {
  Tensor scores = c.scores(), probs = c.scores();
  scores.fill_normal(random, 2);
  for (int r = 0; r < c.n_rows(); ++r) {
    const int position = c.rows[static_cast<std::size_t>(r)].position;
    for (int h = 0; h < c.n_heads; ++h) {
      for (int j = 0; j < c.params().first_key(position); ++j) scores.set(r, h * (position + 1) + j, -kInf);
    }
  }
  cpu()->softmax({Stage::attn_probs, 0, c.rows}, scores.view(), c.params(), probs.view());
  return probs;
}

}  // namespace greta::gpu
