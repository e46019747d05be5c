#include "model/config.h"

#include <cmath>

#include "core/error.h"
#include "core/quote.h"
#include "model/config_reader.h"

namespace greta {
namespace {

// Bounds far above any model known, so that products of two of them stay within an int where they are formed.
constexpr int kMaxLayers = 1 << 14;
constexpr int kMaxWidth = 1 << 20;  // d_model, d_ff
constexpr int kMaxHeads = 1 << 14;
constexpr int kMaxHeadDim = 1 << 14;
constexpr int kMaxVocab = 1 << 24;
constexpr int kMaxContext = 1 << 30;

void read_heads(const ConfigReader& in, ModelConfig& config) {
  const std::string file = in.file().path().string();
  const auto heads = in.uniform("attention.head_count", config.n_layers, kMaxHeads);
  if (!heads) fail("{}: key '{}' is missing, wanted 1 to {}", file, in.key("attention.head_count"), kMaxHeads);
  config.n_heads = *heads;
  config.n_kv_heads = in.uniform("attention.head_count_kv", config.n_layers, kMaxHeads).value_or(config.n_heads);
  if (config.n_heads % config.n_kv_heads != 0) {
    fail("{}: {} query heads cannot be shared by {} KV heads: wanted a multiple", file, config.n_heads, config.n_kv_heads);
  }
  const auto head_dim = in.optional("attention.key_length", kMaxHeadDim);
  if (!head_dim && config.d_model % config.n_heads != 0) {
    fail("{}: {} of {} does not divide into {} heads and '{}' is missing", file, in.key("embedding_length"), config.d_model,
         config.n_heads, in.key("attention.key_length"));
  }
  config.head_dim = head_dim.value_or(config.d_model / config.n_heads);
  const auto value_dim = in.optional("attention.value_length", kMaxHeadDim);
  if (value_dim && *value_dim != config.head_dim) {
    fail("{}: '{}' is {} but keys have {}: heads of two sizes are not supported", file, in.key("attention.value_length"),
         *value_dim, config.head_dim);
  }
  if (config.n_heads * config.head_dim > kMaxWidth) {
    fail("{}: {} heads of {} elements, wanted a product of at most {}", file, config.n_heads, config.head_dim, kMaxWidth);
  }
}

void read_rope(const ConfigReader& in, ModelConfig& config) {
  const std::string file = in.file().path().string();
  config.rope_dim = in.optional("rope.dimension_count", kMaxHeadDim).value_or(config.head_dim);
  if (config.rope_dim > config.head_dim || config.rope_dim % 2 != 0) {
    fail("{}: '{}' is {}, wanted an even number of at most head_dim {}", file, in.key("rope.dimension_count"), config.rope_dim,
         config.head_dim);
  }
  config.rope_theta = in.number("rope.freq_base", 0.0, false).value_or(10000.0);
  const std::string* type = in.file().optional_string(in.key("rope.scaling.type"));
  if (type != nullptr && *type != "none" && *type != "linear") {
    fail("{}: '{}' is {}; known: none, linear", file, in.key("rope.scaling.type"), quote(*type));
  }
  auto factor = in.number("rope.scaling.factor", 0.0, true);
  if (!factor) factor = in.number("rope.scale_linear", 0.0, true);  // the key's name before scaling types existed
  const bool scaled = (type == nullptr || *type == "linear") && factor && *factor != 0.0;  // files write 0 for "no scaling"
  config.rope_linear_scale = scaled ? *factor : 1.0;
  const auto attention_factor = in.number("rope.scaling.attn_factor", 0.0, true);
  if (attention_factor && *attention_factor != 1.0) {
    fail("{}: '{}' is {}: only 1 is supported", file, in.key("rope.scaling.attn_factor"), *attention_factor);
  }
}

/// The token table is the vocabulary; without one (a file without tokenizer) the key must say it.
int read_vocab_size(const ConfigReader& in) {
  const auto stated = in.optional("vocab_size", kMaxVocab);
  const auto* tokens = in.file().optional_strings("tokenizer.ggml.tokens");
  const std::string file = in.file().path().string();
  if (tokens == nullptr) {
    if (!stated)
      fail("{}: neither 'tokenizer.ggml.tokens' nor '{}' says how large the vocabulary is", file, in.key("vocab_size"));
    return *stated;
  }
  if (tokens->empty() || tokens->size() > kMaxVocab) {
    fail("{}: 'tokenizer.ggml.tokens' has {} entries, wanted 1 to {}", file, tokens->size(), kMaxVocab);
  }
  const int count = static_cast<int>(tokens->size());
  if (stated && *stated != count) {
    fail("{}: '{}' is {} but 'tokenizer.ggml.tokens' has {} entries", file, in.key("vocab_size"), *stated, count);
  }
  return count;
}

/// Keys that change what the model computes and that greta does not follow: better refused than computed wrongly.
void refuse_what_would_be_wrong(const ConfigReader& in) {
  const std::string file = in.file().path().string();
  const std::int64_t experts = in.file().optional_int(in.key("expert_count")).value_or(0);
  if (experts != 0) fail("{}: '{}' is {}: mixtures of experts are not supported", file, in.key("expert_count"), experts);
  if (!in.file().optional_bool(in.key("attention.causal")).value_or(true)) {
    fail("{}: '{}' is false: only causal attention is supported", file, in.key("attention.causal"));
  }
  if (in.file().optional_bool(in.key("use_parallel_residual")).value_or(false)) {
    fail("{}: '{}' is true: only sequential residuals are supported", file, in.key("use_parallel_residual"));
  }
  for (const char* factor : {"embedding_scale", "residual_scale", "logit_scale", "attention.scale", "attention.clamp_kqv",
                             "attention.max_alibi_bias"}) {
    const double value = in.file().optional_float(in.key(factor)).value_or(0.0);
    if (value != 0.0) fail("{}: '{}' is {}: this architecture is computed without it", file, in.key(factor), value);
  }
}

}  // namespace

int ConfigReader::checked(std::string_view suffix, std::int64_t value, int max) const {
  if (value < 1 || value > max) fail("{}: key '{}' is {}, wanted 1 to {}", file_.path().string(), key(suffix), value, max);
  return static_cast<int>(value);
}

int ConfigReader::required(std::string_view suffix, int max) const {
  return static_cast<int>(file_.required_int(key(suffix), 1, max));
}

std::optional<int> ConfigReader::optional(std::string_view suffix, int max) const {
  const auto value = file_.optional_int(key(suffix));
  return value ? std::optional(checked(suffix, *value, max)) : std::nullopt;
}

std::optional<int> ConfigReader::uniform(std::string_view suffix, int n_layers, int max) const {
  const GgufValue* value = file_.find(key(suffix));
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::array) return optional(suffix, max);
  const auto* each = file_.optional_ints(key(suffix));
  if (each->size() != static_cast<std::size_t>(n_layers)) {
    fail("{}: key '{}' has {} entries, wanted one for each of {} layers", file_.path().string(), key(suffix), each->size(),
         n_layers);
  }
  for (std::size_t layer = 1; layer < each->size(); ++layer) {
    if ((*each)[layer] != each->front()) {
      fail("{}: key '{}' is {} for layer 0 but {} for layer {}: layers of different shapes are not supported",
           file_.path().string(), key(suffix), each->front(), (*each)[layer], layer);
    }
  }
  return checked(suffix, each->front(), max);
}

std::optional<double> ConfigReader::number(std::string_view suffix, double low, bool or_equal) const {
  const auto value = file_.optional_float(key(suffix));
  if (value && (!std::isfinite(*value) || *value < low || (*value == low && !or_equal))) {
    fail("{}: key '{}' is {}, wanted a finite number {} {}", file_.path().string(), key(suffix), *value,
         or_equal ? "of at least" : "above", low);
  }
  return value;
}

int ConfigReader::window_or_none() const {
  const std::int64_t window = file_.optional_int(key("attention.sliding_window")).value_or(0);
  if (window < 0 || window > kMaxContext) {
    fail("{}: key '{}' is {}, wanted 0 to {}", file_.path().string(), key("attention.sliding_window"), window, kMaxContext);
  }
  return static_cast<int>(window);
}

int ConfigReader::required_window() const { return required("attention.sliding_window", kMaxContext); }

void ConfigReader::refuse_window() const {
  if (const int window = window_or_none(); window != 0) {
    fail("{}: key '{}' is {}: sliding windows of this architecture are not supported", file_.path().string(),
         key("attention.sliding_window"), window);
  }
}

void ConfigReader::require_window_period(int period) const {
  const std::string full = key("attention.sliding_window_pattern");
  const GgufValue* value = file_.find(full);
  if (value == nullptr) return;
  if (value->type == GgufType::array) fail("{}: key '{}' is an array, wanted {}", file_.path().string(), full, period);
  if (const auto given = file_.optional_int(full); *given != period) {
    fail("{}: key '{}' is {}: only {} is supported", file_.path().string(), full, *given, period);
  }
}

double ConfigReader::cap(std::string_view suffix) const { return number(suffix, 0.0, true).value_or(0.0); }

double ConfigReader::required_cap(std::string_view suffix) const {
  const auto cap = number(suffix, 0.0, false);
  if (!cap) fail("{}: key '{}' is missing, wanted a number above 0", file_.path().string(), key(suffix));
  return *cap;
}

LayerAttention ModelConfig::layer_attention(int layer) const {
  const bool windowed = window > 0 && (window_period <= 1 || layer % window_period < window_period - 1);
  if (!windowed) return {0, rope_theta, rope_linear_scale};
  if (window_rope_theta > 0) return {window, window_rope_theta, 1.0};
  return {window, rope_theta, rope_linear_scale};
}

ModelConfig read_decoder_config(const Gguf& file, std::string_view architecture) {
  const ConfigReader in(file, architecture);
  refuse_what_would_be_wrong(in);
  ModelConfig config;
  config.architecture = architecture;
  if (const std::string* title = file.optional_string("general.name")) config.name = *title;
  config.n_layers = in.required("block_count", kMaxLayers);
  config.d_model = in.required("embedding_length", kMaxWidth);
  config.context_length = in.required("context_length", kMaxContext);
  const auto d_ff = in.uniform("feed_forward_length", config.n_layers, kMaxWidth);
  if (!d_ff) fail("{}: key '{}' is missing, wanted 1 to {}", file.path().string(), in.key("feed_forward_length"), kMaxWidth);
  config.d_ff = *d_ff;
  read_heads(in, config);
  config.attention_scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  read_rope(in, config);
  const auto eps = in.number("attention.layer_norm_rms_epsilon", 0.0, true);
  if (!eps) fail("{}: key '{}' is missing, wanted a number", file.path().string(), in.key("attention.layer_norm_rms_epsilon"));
  config.rms_eps = *eps;
  config.vocab_size = read_vocab_size(in);
  return config;
}

}  // namespace greta
