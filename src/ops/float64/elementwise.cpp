// Elementwise ops and the KV write in double.
#include "ops/cpu/math64.h"
#include "ops/float64/float64.h"
#include "ops/float64/rows.h"

namespace greta::float64 {
namespace {

/// out[r][i] = f(a[r][i], b[r][i]).
template <class F>
void zip(const CpuContext& context, const TensorView& a, const TensorView& b, const TensorView& out, const F& f) {
  context.pool.for_ranges(out.n_rows, (1 << 12) / out.n_cols, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      std::vector<double> left = load_row(a, r);
      const std::vector<double> right = load_row(b, r);
      for (std::size_t i = 0; i < left.size(); ++i) left[i] = f(left[i], right[i]);
      store_row(left, out, r);
    }
  });
}

}  // namespace

void add(const CpuContext& context, const TensorView& a, const TensorView& b, const TensorView& out) {
  zip(context, a, b, out, [](double left, double right) { return left + right; });
}

void act_mul(const CpuContext& context, Activation act, const TensorView& gate, const TensorView& up, const TensorView& out) {
  if (act == Activation::silu) {
    zip(context, gate, up, out, [](double left, double right) { return left / (1.0 + exp64(-left)) * right; });
  } else {
    constexpr double kTwiceRoot = 1.5957691216057308;  // sqrt(8/pi)
    zip(context, gate, up, out, [](double left, double right) {
      const double twice_u = kTwiceRoot * (left + 0.044715 * left * left * left);
      return left / (1.0 + exp64(-twice_u)) * right;
    });
  }
}

void softcap(const CpuContext& context, const TensorView& x, double cap, const TensorView& out) {
  context.pool.for_ranges(out.n_rows, (1 << 12) / out.n_cols, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      std::vector<double> row = load_row(x, r);
      for (double& value : row) value = cap * tanh64(value / cap);
      store_row(row, out, r);
    }
  });
}

void kv_write(const CpuContext&, const OpSite& site, const TensorView& x, KvPart part, KvView& kv) {
  for (std::int64_t r = 0; r < x.n_rows; ++r) {
    std::byte* slot = kv.write_slot(part, site.layer, site.rows[static_cast<std::size_t>(r)]);
    convert_row(x.dtype, x.row(r), x.n_cols, kv.dtype(), slot);
  }
}

}  // namespace greta::float64
