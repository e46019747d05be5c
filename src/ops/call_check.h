// The checks of operands that every implementation of the ops makes before it computes. Each throws Error: op, stage, layer,
// the operand and what is wrong with it.
#pragma once

#include "ops/ops.h"

namespace greta {

inline bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

void check_embed(const RouteTable& routes, const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens,
                 double scale, const TensorView& out);
void check_rmsnorm(const RouteTable& routes, const OpSite& site, const TensorView& x, const WeightView& weight,
                   const TensorView& out);
void check_matmul(const RouteTable& routes, const OpSite& site, const TensorView& x, const WeightView& weight,
                  const WeightView& bias, const TensorView& out);
void check_rope(const RouteTable& routes, const OpSite& site, const TensorView& x, const RopeParams& params,
                std::span<const std::int32_t> positions, const TensorView& out);
void check_kv_write(const RouteTable& routes, const OpSite& site, const TensorView& x, KvView& kv);
void check_kv_shift(const RouteTable& routes, const OpSite& site, const KvShift& shift, KvView& kv);
void check_qk(const RouteTable& routes, const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv,
              const TensorView& out);
void check_softmax(const RouteTable& routes, const OpSite& site, const TensorView& scores, const AttentionParams& params,
                   const TensorView& out);
void check_pv(const RouteTable& routes, const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv,
              const TensorView& out);
void check_add(const RouteTable& routes, const OpSite& site, const TensorView& a, const TensorView& b, const TensorView& out);
void check_act_mul(const RouteTable& routes, const OpSite& site, const TensorView& gate, const TensorView& up,
                   const TensorView& out);
void check_softcap(const RouteTable& routes, const OpSite& site, const TensorView& x, double cap, const TensorView& out);
void check_quantize(const RouteTable& routes, const OpSite& site, const TensorView& x, const TensorView& out);

}  // namespace greta
