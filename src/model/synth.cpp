#include "model/synth.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/quantize.h"
#include "core/quote.h"
#include "model/arch/architecture.h"
#include "model/gguf_writer.h"
#include "model/pieces.h"
#include "model/quantize.h"

namespace greta {
namespace {

/// One tensor to fill: element = mean + deviation * z, z of mean 0 and variance 1; or `values` as they stand.
struct Fill {
  std::size_t tensor = 0;  // of the writer
  std::uint64_t key = 0;
  DType dtype = DType::f32;
  std::int64_t rows = 0, cols = 0;
  float mean = 0, deviation = 0;
  std::vector<float> values;
};

/// A piece of a tensor: what one thread makes at a time.
struct Piece {
  const Fill* fill = nullptr;
  std::int64_t first_row = 0, n_rows = 0;
};
/// SplitMix64's output function (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::uint64_t tensor_key(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(mix(seed + 0x9e3779b97f4a7c15u) ^ hash);
}

/// Mean 0, variance 1, bell-shaped: the sum of four 16-bit uniforms (Irwin-Hall). Box-Muller would need the C library's log and
/// cos, whose last bits differ between machines.
float bell(std::uint64_t key, std::uint64_t index) {
  const std::uint64_t bits = mix(key + index * 0x9e3779b97f4a7c15u);
  const auto sum =
      static_cast<std::int32_t>((bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48));
  constexpr float kPerDeviation = 1.0f / 37837.227f;  // sqrt(4 * (65536^2 - 1) / 12)
  return static_cast<float>(sum - 2 * 65535) * kPerDeviation;
}

int head_dim_of(const SynthSpec& spec) { return spec.head_dim > 0 ? spec.head_dim : spec.d_model / spec.n_heads; }

const Architecture& architecture_of(const SynthSpec& spec) {
  const Architecture* found = architecture_named(spec.architecture);
  if (found == nullptr) fail("synth: architecture {} is unknown", quote(spec.architecture));
  return *found;
}

class ModelMaker {
 public:
  ModelMaker(const SynthSpec& spec, GgufWriter& writer) : spec_(spec), writer_(writer) {}

  void describe();
  void declare();
  void fill(const std::function<void(std::uint64_t, std::uint64_t)>& progress);

 private:
  void add(std::string name, DType dtype, std::int64_t rows, std::int64_t cols, float mean, double deviation) {
    Fill fill;
    fill.key = tensor_key(spec_.seed, name);
    fill.dtype = dtype, fill.rows = rows, fill.cols = cols;
    fill.mean = mean, fill.deviation = static_cast<float>(deviation);
    std::vector<std::int64_t> shape{cols};
    if (rows > 1) shape.push_back(rows);
    fill.tensor = writer_.add_tensor(std::move(name), dtype, std::move(shape));
    fills_.push_back(std::move(fill));
  }
  void matrix(std::string name, std::int64_t rows, std::int64_t cols, double gain = 1.0) {
    add(std::move(name), spec_.dtype, rows, cols, 0.0f, gain / std::sqrt(static_cast<double>(cols)));
  }
  void norm(std::string name) { norm(std::move(name), spec_.d_model); }
  void norm(std::string name, std::int64_t size) { add(std::move(name), DType::f32, 1, size, 1.0f, 0.1); }
  std::uint64_t write_piece(const Piece& piece, PieceBuffers& buffers);

  const SynthSpec& spec_;
  GgufWriter& writer_;
  std::vector<Fill> fills_;
};

void ModelMaker::describe() {
  const auto u32 = [](int value) { return static_cast<std::uint32_t>(value); };
  const std::string prefix = spec_.architecture + ".";
  writer_.set("general.architecture", spec_.architecture);
  writer_.set("general.name", fmt::format("greta synthetic {}, seed {}", spec_.shape_name, spec_.seed));
  writer_.set("general.file_type", file_type_of({spec_.dtype}));
  writer_.set("general.quantization_version", 2u);
  writer_.set(prefix + "block_count", u32(spec_.n_layers));
  writer_.set(prefix + "context_length", u32(spec_.context_length));
  writer_.set(prefix + "embedding_length", u32(spec_.d_model));
  writer_.set(prefix + "feed_forward_length", u32(spec_.d_ff));
  writer_.set(prefix + "attention.head_count", u32(spec_.n_heads));
  writer_.set(prefix + "attention.head_count_kv", u32(spec_.n_kv_heads));
  writer_.set(prefix + "attention.key_length", u32(head_dim_of(spec_)));
  writer_.set(prefix + "attention.value_length", u32(head_dim_of(spec_)));
  writer_.set(prefix + "attention.layer_norm_rms_epsilon", 1e-5f);
  writer_.set(prefix + "rope.dimension_count", u32(head_dim_of(spec_)));
  writer_.set(prefix + "rope.freq_base", static_cast<float>(spec_.rope_theta));
  writer_.set(prefix + "vocab_size", u32(spec_.vocab_size));
  if (spec_.window > 0) writer_.set(prefix + "attention.sliding_window", u32(spec_.window));
  if (spec_.attention_softcap > 0) writer_.set(prefix + "attn_logit_softcapping", static_cast<float>(spec_.attention_softcap));
  if (spec_.final_softcap > 0) writer_.set(prefix + "final_logit_softcapping", static_cast<float>(spec_.final_softcap));
  if (spec_.rope_linear_scale != 1.0) {
    writer_.set(prefix + "rope.scaling.type", "linear");
    writer_.set(prefix + "rope.scaling.factor", static_cast<float>(spec_.rope_linear_scale));
  }
  const SynthVocabulary vocabulary = synth_vocabulary(spec_.vocab_size);
  writer_.set("tokenizer.ggml.model", "gpt2");
  writer_.set("tokenizer.ggml.pre", "llama-bpe");
  writer_.set("tokenizer.ggml.tokens", std::span<const std::string>(vocabulary.tokens));
  writer_.set("tokenizer.ggml.token_type", std::span<const std::int32_t>(vocabulary.types));
  writer_.set("tokenizer.ggml.merges", std::span<const std::string>(vocabulary.merges));
  writer_.set("tokenizer.ggml.bos_token_id", u32(vocabulary.begin_of_text));
  writer_.set("tokenizer.ggml.eos_token_id", u32(vocabulary.end_of_text));
  writer_.set("tokenizer.ggml.eot_token_id", u32(vocabulary.end_of_turn));
  writer_.set("tokenizer.ggml.add_bos_token", true);
}

void ModelMaker::declare() {
  const std::int64_t d = spec_.d_model;
  const std::int64_t head_dim = head_dim_of(spec_);
  const std::int64_t q = spec_.n_heads * head_dim;
  const std::int64_t kv = spec_.n_kv_heads * head_dim;
  const DecoderParts& parts = architecture_of(spec_).parts;
  const double back = 1.0 / std::sqrt(2.0 * spec_.n_layers);  // each layer adds twice to the residual stream
  // A tied table is both embedding (wanted O(1)) and head (wanted 1/sqrt(d)). Near the latter, or every token's logit would be
  // highest for the token itself.
  matrix("token_embd.weight", spec_.vocab_size, d, spec_.tied_head ? 2.0 : std::sqrt(static_cast<double>(d)));
  if (spec_.rope_factor > 0.0) {
    add("rope_freqs.weight", DType::f32, 1, head_dim / 2, 0.0f, 0.0);
    fills_.back().values = llama3_rope_factors(static_cast<int>(head_dim), spec_.rope_theta, spec_.rope_factor);
  }
  for (int layer = 0; layer < spec_.n_layers; ++layer) {
    const auto name = [layer](const char* part) { return fmt::format("blk.{}.{}.weight", layer, part); };
    norm(name("attn_norm"));
    matrix(name("attn_q"), q, d);
    matrix(name("attn_k"), kv, d);
    matrix(name("attn_v"), kv, d);
    matrix(name("attn_output"), d, q, back);
    if (parts.qkv_bias) {
      for (const auto& [part, size] : {std::pair{"q", q}, {"k", kv}, {"v", kv}}) {
        add(fmt::format("blk.{}.attn_{}.bias", layer, part), DType::f32, 1, size, 0.0f, 0.3);
      }
    }
    if (parts.qk_norm) {
      norm(name("attn_q_norm"), head_dim);
      norm(name("attn_k_norm"), head_dim);
    }
    if (parts.post_norms) norm(name("post_attention_norm"));
    norm(name("ffn_norm"));
    matrix(name("ffn_gate"), spec_.d_ff, d);
    matrix(name("ffn_up"), spec_.d_ff, d);
    matrix(name("ffn_down"), d, spec_.d_ff, back);
    if (parts.post_norms) norm(name("post_ffw_norm"));
  }
  norm("output_norm.weight");
  if (!spec_.tied_head) matrix("output.weight", spec_.vocab_size, d);
}

std::uint64_t ModelMaker::write_piece(const Piece& piece, PieceBuffers& buffers) {
  auto& [values, bytes] = buffers;
  const Fill& fill = *piece.fill;
  values.resize(static_cast<std::size_t>(piece.n_rows * fill.cols));
  const std::int64_t first = piece.first_row * fill.cols;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto index = static_cast<std::uint64_t>(first) + i;
    values[i] = fill.values.empty() ? fill.mean + fill.deviation * bell(fill.key, index) : fill.values[index];
  }
  // Rows follow one another without gaps and hold whole blocks: many rows quantise as one.
  const std::int64_t size = row_bytes(fill.dtype, piece.n_rows * fill.cols);
  bytes.resize(static_cast<std::size_t>(size));
  quantize_row(fill.dtype, values.data(), piece.n_rows * fill.cols, bytes.data());
  writer_.write(fill.tensor, static_cast<std::uint64_t>(row_bytes(fill.dtype, first)), bytes);
  return bytes.size();
}

void ModelMaker::fill(const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  std::vector<Piece> pieces;
  std::uint64_t total = 0;
  for (const Fill& fill : fills_) {
    const std::int64_t step = std::max<std::int64_t>(1, kPieceElements / fill.cols);
    for (std::int64_t row = 0; row < fill.rows; row += step) pieces.push_back({&fill, row, std::min(step, fill.rows - row)});
    total += static_cast<std::uint64_t>(row_bytes(fill.dtype, fill.cols) * fill.rows);
  }
  for_pieces(pieces.size(), 0, total, progress,
             [&](std::size_t i, PieceBuffers& buffers) { return write_piece(pieces[i], buffers); });
}

void check_architecture(const SynthSpec& spec) {
  const Architecture& architecture = architecture_of(spec);
  if (spec.window < 0) fail("synth: --window is {}, wanted at least 0", spec.window);
  if (spec.window == 0 && architecture.synth.window > 0) {
    fail("synth: --window is 0, but architecture '{}' needs one of at least 1", spec.architecture);
  }
  if (spec.window > 0 && architecture.synth.window == 0 && spec.architecture != "llama") {
    fail("synth: --window is {}, but architecture '{}' has none", spec.window, spec.architecture);
  }
  if (!spec.tied_head && !architecture.parts.own_head) {
    fail("synth: architecture '{}' has no head of its own: leave out --untied", spec.architecture);
  }
  if (spec.rope_factor > 0 && !architecture.parts.rope_factors) {
    fail("synth: shape '{}' has RoPE frequency factors, and architecture '{}' none; use another shape", spec.shape_name,
         spec.architecture);
  }
}

void check(const SynthSpec& spec) {
  const auto within = [](std::string_view what, int value, int max) {
    if (value < 1 || value > max) fail("synth: {} is {}, wanted 1 to {}", what, value, max);
  };
  within("--layers", spec.n_layers, 4096);
  within("--d-model", spec.d_model, 1 << 16);
  within("--heads", spec.n_heads, 4096);
  within("--kv-heads", spec.n_kv_heads, spec.n_heads);
  within("--ffn", spec.d_ff, 1 << 18);
  within("--context", spec.context_length, 1 << 30);
  const auto divides = [](std::string_view what, int value, std::string_view by_what, int by) {
    if (value % by != 0) fail("synth: {} {} is not a multiple of {} {}", what, value, by_what, by);
  };
  if (spec.head_dim == 0) {
    divides("--d-model", spec.d_model, "twice --heads", 2 * spec.n_heads);  // a head turns by pairs
  } else {
    within("--head-dim", spec.head_dim, 1 << 12);
    divides("--head-dim", spec.head_dim, "a pair of", 2);
    divides("--heads times --head-dim", head_dim_of(spec) * spec.n_heads, fmt::format("the block of type {}", name(spec.dtype)),
            static_cast<int>(dtype_info(spec.dtype).block_elems));
  }
  check_architecture(spec);
  divides("--heads", spec.n_heads, "--kv-heads", spec.n_kv_heads);
  const int block = static_cast<int>(dtype_info(spec.dtype).block_elems);
  divides("--d-model", spec.d_model, fmt::format("the block of type {}", name(spec.dtype)), block);
  divides("--ffn", spec.d_ff, fmt::format("the block of type {}", name(spec.dtype)), block);
}

}  // namespace

std::vector<std::string> synth_shape_names() { return {"tiny", "llama3-1b", "llama3-8b"}; }

SynthSpec synth_shape(std::string_view name) {
  SynthSpec spec;
  spec.shape_name = name;
  if (name == "tiny") {
    spec.n_layers = 4, spec.d_model = 256, spec.n_heads = 8, spec.n_kv_heads = 4, spec.d_ff = 768;
    spec.vocab_size = 512, spec.context_length = 2048;
  } else if (name == "llama3-1b") {
    spec.n_layers = 16, spec.d_model = 2048, spec.n_heads = 32, spec.n_kv_heads = 8, spec.d_ff = 8192;
    spec.vocab_size = 128256, spec.context_length = 131072, spec.tied_head = true;
    spec.rope_theta = 500000.0, spec.rope_factor = 32.0;
  } else if (name == "llama3-8b") {
    spec.n_layers = 32, spec.d_model = 4096, spec.n_heads = 32, spec.n_kv_heads = 8, spec.d_ff = 14336;
    spec.vocab_size = 128256, spec.context_length = 131072;
    spec.rope_theta = 500000.0, spec.rope_factor = 8.0;
  } else {
    fail("shape {} is unknown; known: {}", quote(name), fmt::join(synth_shape_names(), ", "));
  }
  return spec;
}

std::vector<std::string> synth_architecture_names() {
  std::vector<std::string> names = architecture_names();
  names.emplace_back("mistral");
  return names;
}

void set_architecture(SynthSpec& spec, std::string_view name) {
  constexpr int kMistralWindow = 32;
  const bool mistral = name == "mistral";
  const Architecture* architecture = architecture_named(mistral ? "llama" : name);
  if (architecture == nullptr) {
    fail("--arch {} is unknown; known: {}", quote(name), fmt::join(synth_architecture_names(), ", "));
  }
  spec.architecture = architecture->name;
  spec.window = mistral ? kMistralWindow : architecture->synth.window;
  spec.attention_softcap = architecture->synth.attention_softcap;
  spec.final_softcap = architecture->synth.final_softcap;
  spec.rope_linear_scale = architecture->synth.rope_linear_scale;
  if (architecture->synth.rope_theta > 0) spec.rope_theta = architecture->synth.rope_theta;
  if (!architecture->parts.own_head) spec.tied_head = true;
  if (!architecture->parts.rope_factors) spec.rope_factor = 0.0;
}

std::vector<float> llama3_rope_factors(int head_dim, double theta, double factor) {
  constexpr double kLowFactor = 1.0, kHighFactor = 4.0, kOriginalContext = 8192.0;
  std::vector<float> factors;
  for (int i = 0; i < head_dim; i += 2) {
    const double wavelength = 2.0 * std::numbers::pi * std::pow(theta, static_cast<double>(i) / head_dim);
    if (wavelength < kOriginalContext / kHighFactor) {
      factors.push_back(1.0f);
    } else if (wavelength > kOriginalContext / kLowFactor) {
      factors.push_back(static_cast<float>(factor));
    } else {
      const double smooth = (kOriginalContext / wavelength - kLowFactor) / (kHighFactor - kLowFactor);
      factors.push_back(static_cast<float>(1.0 / ((1.0 - smooth) / factor + smooth)));
    }
  }
  return factors;
}

void synthesize(const SynthSpec& spec, const std::filesystem::path& out, bool overwrite,
                const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  check(spec);
  GgufWriter writer(out, overwrite);
  ModelMaker maker(spec, writer);
  maker.describe();
  maker.declare();
  writer.begin_data();
  maker.fill(progress);
  writer.finish();
}

}  // namespace greta
