// Contract operands: what every op should have been given, by the model file and the key alone. An arm's own parameters are
// never read here: judged by its own epsilon, a wrong epsilon would be right.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/activation.h"
#include "core/dtype.h"

namespace greta::audit {

/// What attention needs to know of a layer.
struct LayerContract {
  double rope_theta = 10000.0;
  double rope_linear_scale = 1.0;
  int window = 0;  // last keys that a row sees, itself included; 0: all
};

struct ModelContract {
  int n_layers = 0, d_model = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, d_ff = 0, vocab_size = 0;
  double rms_eps = 0;
  int rope_dim = 0;
  bool rope_interleaved = true;
  std::vector<float> rope_freq_factors;  // rope_dim / 2, or empty
  double embedding_scale = 1.0, attention_scale = 1.0;
  double attention_softcap = 0, final_softcap = 0;  // 0: none
  Activation activation = Activation::silu;
  std::vector<LayerContract> layers;

  std::int64_t q_width() const { return std::int64_t{n_heads} * head_dim; }
  std::int64_t kv_width() const { return std::int64_t{n_kv_heads} * head_dim; }
};

struct TensorShape {
  std::int64_t rows = 0, cols = 0;  // outputs and inputs of a matrix; a vector has one row
  DType dtype = DType::f32;
};

/// What one block of a quantised row is scaled by, and the factor of its minimum where the type has one: the two binary16
/// numbers at `scale_offsets` (core/blocks.h), as they are stored.
struct BlockScale {
  double scale = 1;
  std::optional<double> minimum;
};

/// The tensors of a model file, read by name.
class Tensors {
 public:
  virtual ~Tensors() = default;
  /// nullopt where the file has no such tensor.
  virtual std::optional<TensorShape> find(std::string_view name) const = 0;
  /// Row `row`, [cols], exactly as it dequantises. `name` must be there.
  virtual void row(std::string_view name, std::int64_t row, std::span<double> out) const = 0;
  /// Minima of the row's sub-blocks as numbers that are added (audit/dot_bound.h); zeros for types without.
  virtual void minima(std::string_view name, std::int64_t row, std::span<double> out) const = 0;
  /// Elements of a block; 0 where the type is no block type (then the two below are not to be asked).
  virtual std::int64_t block_elements(std::string_view /*name*/) const { return 0; }
  virtual BlockScale block_scale(std::string_view /*name*/, std::int64_t /*row*/, std::int64_t /*block*/) const { return {}; }
  /// Elements of block `block` of the row, [block_elements], as they dequantise with `scale` in place of the block's own.
  virtual void scaled_block(std::string_view /*name*/, std::int64_t /*row*/, std::int64_t /*block*/,
                            const BlockScale& /*scale*/, std::span<double> /*out*/) const {}
};

struct Contract {
  const ModelContract& model;
  const Tensors& tensors;
};

}  // namespace greta::audit
