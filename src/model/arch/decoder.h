// What Llama-like decoders share: the tensors of a layer under GGUF's names, with the parts that some architectures have.
#pragma once

#include "model/config.h"
#include "model/weights.h"

namespace greta {

class TensorTable;

/// Which tensors a file of an architecture has, beside those that all have. What is not listed has no place and is refused.
struct DecoderParts {
  bool qkv_bias = false;         // attn_{q,k,v}.bias, required
  bool optional_biases = false;  // any of the seven projections' biases
  bool qk_norm = false;          // attn_{q,k}_norm, of every head
  bool post_norms = false;       // post_attention_norm and post_ffw_norm, of each half's output
  bool own_head = true;          // output.weight may stand beside the embedding; without it the head is tied
  bool rope_factors = false;     // rope_freqs.weight may divide the RoPE frequencies
};

/// Throws Error, one line with file and tensor: missing, of another shape, of a type not computed with.
ModelWeights read_decoder_weights(TensorTable& tensors, const ModelConfig& config, const DecoderParts& parts);

}  // namespace greta
