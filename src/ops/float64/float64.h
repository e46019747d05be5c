// Route `float64`: the judge. Plain loops in double, in sequential order; loads F64 or F32 activations, stores them rounded.
//
// Shapes and operands are checked by CpuOps before they come here.
#pragma once

#include <cstdint>
#include <span>

#include "ops/cpu/context.h"

namespace greta::float64 {

void embed(const CpuContext& context, const WeightView& table, std::span<const std::int32_t> tokens, const TensorView& out);
void rmsnorm(const CpuContext& context, const TensorView& x, const WeightView& weight, double eps, const TensorView& out);
void matmul(const CpuContext& context, const TensorView& x, const WeightView& weight, const WeightView& bias,
            const TensorView& out);
void rope(const CpuContext& context, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
          const TensorView& out);
void kv_write(const CpuContext& context, const OpSite& site, const TensorView& x, KvPart part, KvView& kv);
void kv_shift(const CpuContext& context, const OpSite& site, const KvShift& shift, KvView& kv);
void qk(const CpuContext& context, const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv,
        const TensorView& out);
void softmax(const CpuContext& context, const OpSite& site, const TensorView& scores, const AttentionParams& params,
             const TensorView& out);
void pv(const CpuContext& context, const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv,
        const TensorView& out);
void add(const CpuContext& context, const TensorView& a, const TensorView& b, const TensorView& out);
void silu_mul(const CpuContext& context, const TensorView& gate, const TensorView& up, const TensorView& out);
void quantize(const CpuContext& context, const TensorView& x, const TensorView& out);

}  // namespace greta::float64
