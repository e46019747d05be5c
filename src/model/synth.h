// Random-weight models of a given shape, for measurements and tests that need a size and no sense.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"

namespace greta {

struct SynthSpec {
  std::string shape_name;
  std::string architecture = "llama";  // GGUF general.architecture
  int n_layers = 0;
  int d_model = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;  // 0: d_model / n_heads
  int d_ff = 0;
  int vocab_size = 0;
  int context_length = 0;
  bool tied_head = false;
  double rope_theta = 10000.0;
  double rope_factor = 0.0;  // Llama-3.1 frequency factors; 0: none
  int window = 0;            // 0: the file names none
  double attention_softcap = 0.0, final_softcap = 0.0;
  double rope_linear_scale = 1.0;
  DType dtype = DType::f32;  // of matrices; norms are f32
  std::uint64_t seed = 0;
};

/// `tiny`, `llama3-1b` (the shape of Llama-3.2-1B) or `llama3-8b` (of Llama-3.1-8B). Throws Error for others, listing these.
SynthSpec synth_shape(std::string_view name);
std::vector<std::string> synth_shape_names();

/// Makes `spec` one of an architecture: a name of GGUF's, or `mistral` (llama with a window). Throws Error for others, listing
/// those that are known.
void set_architecture(SynthSpec& spec, std::string_view name);
std::vector<std::string> synth_architecture_names();

/// Writes the model. Every weight is a function of (seed, tensor name, element) alone, in integer arithmetic and exactly
/// rounded F32: the same file on every machine and thread count, and the same first layers for every n_layers. Weights have
/// variance 1/fan_in (the projections back into the residual stream 1/(2*n_layers*fan_in)), so that activations stay O(1).
/// `progress(done, total)` gets bytes written, from any thread, one call at a time; it may be empty. Throws Error, one line.
void synthesize(const SynthSpec& spec, const std::filesystem::path& out, bool overwrite,
                const std::function<void(std::uint64_t, std::uint64_t)>& progress = {});

/// Llama-3.1's divisors of the RoPE frequencies, one a pair of a head: 1 for wavelengths below original_context/4, `factor` for
/// those above original_context, interpolated between (original context 8192).
std::vector<float> llama3_rope_factors(int head_dim, double theta, double factor);

/// A byte-level BPE vocabulary without a corpus: the 256 bytes (as GPT-2 spells them), merges that append one letter at a time
/// (frequent English letters first), and Llama-3's special tokens at the end: all 256 of them in vocabularies of at least 4096
/// (with their places in Llama 3's own at 128256), else the first 11.
struct SynthVocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;  // 1 normal, 3 control
  std::vector<std::string> merges;  // "left right"
  std::int32_t begin_of_text = 0, end_of_text = 0, end_of_turn = 0;
};
/// Throws Error where `size` is below 267 or above the 950,994 that appended letters can name.
SynthVocabulary synth_vocabulary(int size);

}  // namespace greta
