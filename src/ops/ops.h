// The ops of a forward pass. A route implements them; decorators (RecordingOps, FaultyOps) wrap them.
#pragma once

#include <cstdint>
#include <span>

#include "core/activation.h"
#include "core/site.h"
#include "core/tensor.h"
#include "ops/kv_view.h"
#include "ops/routes.h"

namespace greta {

/// Rotary position embedding (Su et al. 2021, RoFormer, eq. 15; arXiv:2104.09864).
/// Pair i of a head turns by position / linear_scale * theta^(-2i/n_rot) / freq_factors[i].
struct RopeParams {
  double theta = 10000.0;
  int head_dim = 0;
  int n_rot = 0;  // elements of a head that turn, from its start
  /// true: pairs (2i, 2i+1), as GGUF's `llama` holds Q and K; false: pairs (i, i + n_rot/2), GPT-NeoX.
  bool interleaved = true;
  double linear_scale = 1.0;
  std::span<const float> freq_factors;  // n_rot/2, or empty (Llama-3.1 `rope_freqs.weight`)
};

/// Grouped-query attention: query head h reads KV head h / (n_heads / n_kv_heads).
struct AttentionParams {
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  double scale = 1.0;    // of q.k, normally 1/sqrt(head_dim)
  double softcap = 0.0;  // above 0: scores become softcap * tanh(score / softcap), after the scale and before the mask
  int window = 0;        // above 0: a row sees its `window` last keys only, itself included; 0: all

  /// The first key that a row at `position` sees (Jiang et al. 2023, Mistral 7B, section 2: sliding window attention).
  std::int64_t first_key(std::int32_t position) const {
    return window > 0 && position >= window ? std::int64_t{position} - window + 1 : 0;
  }
};

/// A move of stored K or V along their sequence (context shift): the slot of position p - delta goes to position p, K turned by
/// `turn` positions on the way (an operand of its own: rightly `delta`), V as it is.
struct KvShift {
  KvPart part = KvPart::k;
  std::int32_t delta = 0;
  std::int32_t turn = 0;
  RopeParams rope;  // of the layer
};

/// All activations have the plan's dtype, but for what `quantize` writes and `matmul` may read. Outputs are written whole; `out` may alias no input.
class Ops {
 public:
  virtual ~Ops() = default;
  /// Called once before each forward call, with the routes that the plan chose for its rows. Decorators pass both on.
  virtual void begin_step(const StepInfo& step, const RouteTable& routes) = 0;

  /// out[r] = table row tokens[r] * scale, [n_rows, d_model]; untouched where scale is 1.
  virtual void embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
                     TensorView out) = 0;
  /// out = x / sqrt(mean(x^2) + eps) * weight, for each group of weight.n_cols columns of a row: the whole row, or every head
  /// (Zhang & Sennrich 2019, eq. 4).
  virtual void rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) = 0;
  /// out[r][o] = sum_i x[r][i] * weight[o][i] (+ bias[o]).
  virtual void matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
                      TensorView out) = 0;
  /// Turns every head of row r by positions[r] (an operand of its own: what the kernel is told, not what the key says).
  virtual void rope(const OpSite& site, const TensorView& x, const RopeParams& params,
                    std::span<const std::int32_t> positions, TensorView out) = 0;
  /// Stores the rows of x in the slots of their tokens, rounded to the cache's dtype.
  virtual void kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) = 0;
  /// Fills the slots of site.rows with what their sequence holds `delta` positions before; all are read before any is written.
  /// K is dequantised, turned as `rope` turns, and rounded to the cache's dtype again.
  virtual void kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) = 0;
  /// out row = [n_heads, pos+1]: scale * q.k, capped, for keys 0..pos of the row's own sequence; -infinity for keys before
  /// params.first_key(pos).
  virtual void qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) = 0;
  /// Softmax of each head's keys, maximum subtracted; rows as `qk` leaves them.
  virtual void softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) = 0;
  /// out[r] = [n_heads * head_dim]: sum over keys of prob * v.
  virtual void pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) = 0;
  /// out = a + b.
  virtual void add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) = 0;
  /// out = act(gate) * up (Shazeer 2020, arXiv:2002.05202, SwiGLU and GEGLU).
  virtual void act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) = 0;
  /// out = cap * tanh(x / cap), cap > 0 (Gemma 2, arXiv:2408.00118, section 2, logit soft-capping).
  virtual void softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) = 0;
  /// out = x in blocks of 32 codes of 8 bits, dtype q8_f32 (core/activation_blocks.h): the input of integer matrix products; or
  /// rounded to f16 or bf16, ties to even: the input of matrix cores.
  virtual void quantize(const OpSite& site, const TensorView& x, TensorView out) = 0;
  /// Hands a tensor from its producer to its reader: `x_out`, `x_in` (layer > 0), `lm_head_in`. A healthy no-op.
  virtual TensorView handoff(const OpSite& site, const TensorView& x) = 0;
};

}  // namespace greta
