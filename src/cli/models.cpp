// greta models info | synth | quantize: what a GGUF file holds, random-weight files of a given shape, and files in another
// type.
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/paths.h"
#include "cli/progress_bar.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/escape.h"
#include "core/quote.h"
#include "model/chat_template.h"
#include "model/ggml_types.h"
#include "model/gguf.h"
#include "model/quantize.h"
#include "model/synth.h"
#include "model/tokenizer_pretoken.h"

namespace greta::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kShownElements = 6;  // of metadata arrays

Json json_number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}
template <class T>
Json json_element(const T& value) {
  return value;
}
Json json_element(double value) { return json_number(value); }

/// Arrays (vocabularies) give their length and first elements.
Json json_value(const GgufValue& value) {
  Json out;
  out["type"] = name(value.type);
  const auto visitor = [&](const auto& held) {
    if constexpr (requires { held.front(); } && !std::is_same_v<std::decay_t<decltype(held)>, std::string>) {
      out["element"] = name(value.element);
      out["count"] = held.size();
      out["first"] = Json::array();
      for (std::size_t i = 0; i < std::min(held.size(), kShownElements); ++i) out["first"].push_back(json_element(held[i]));
    } else {
      out["value"] = json_element(held);
    }
  };
  std::visit(visitor, value.value);
  return out;
}

template <class T>
std::string text_element(const T& value) {
  return fmt::format("{}", value);
}
std::string text_element(const std::string& value) { return quote(value, 60); }

std::string text_value(const GgufValue& value) {
  const auto visitor = [&](const auto& held) -> std::string {
    if constexpr (requires { held.front(); } && !std::is_same_v<std::decay_t<decltype(held)>, std::string>) {
      std::string out = fmt::format("{} x {}: ", held.size(), name(value.element));
      for (std::size_t i = 0; i < std::min(held.size(), kShownElements); ++i) {
        out += fmt::format("{}{}", i == 0 ? "" : ", ", text_element(held[i]));
      }
      return held.size() > kShownElements ? out + ", …" : out;
    } else {
      return text_element(held);
    }
  };
  return std::visit(visitor, value.value);
}

/// Tensors of types of unknown size can claim any shape: sums stay at the largest number instead of going around.
void add_to(std::uint64_t& sum, std::uint64_t value) {
  if (__builtin_add_overflow(sum, value, &sum)) sum = std::numeric_limits<std::uint64_t>::max();
}

/// Elements and bytes, by tensor type.
struct TypeTotal {
  std::uint64_t tensors = 0, elements = 0, bytes = 0;
};

std::uint64_t element_count(const GgufTensor& tensor) {
  std::uint64_t count = 1;
  for (const auto extent : tensor.shape) count *= static_cast<std::uint64_t>(extent);
  return count;
}

std::string type_label(std::uint32_t ggml_type) {
  if (find_ggml_type(ggml_type) != nullptr) return std::string(ggml_type_name(ggml_type));
  return fmt::format("unknown ({})", ggml_type);
}

std::map<std::string, TypeTotal> totals_by_type(const Gguf& file) {
  std::map<std::string, TypeTotal> totals;
  for (const auto& tensor : file.tensors()) {
    auto& total = totals[type_label(tensor.ggml_type)];
    ++total.tensors;
    add_to(total.elements, element_count(tensor));
    add_to(total.bytes, tensor.bytes);
  }
  return totals;
}

/// What is made of the file's text handling; empty strings where it says nothing.
struct TokenizerInfo {
  std::string model, pre, pretokenizer, chat_template, chat_text;
};

TokenizerInfo tokenizer_info(const Gguf& file) {
  const auto text = [&](std::string_view key) {
    const std::string* found = file.optional_string(key);
    return found != nullptr ? *found : std::string();
  };
  TokenizerInfo info{text("tokenizer.ggml.model"), text("tokenizer.ggml.pre"), {}, {}, text("tokenizer.chat_template")};
  if (const auto known = Pretokenizer::canonical(info.pre)) info.pretokenizer = *known;
  if (const auto chat = recognise_chat_template(info.chat_text)) info.chat_template = name(*chat);
  return info;
}

Json tokenizer_json(const TokenizerInfo& info) {
  const auto value = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return {
      {"model", value(info.model)}, {"pretokenizer", value(info.pretokenizer)}, {"chat_template", value(info.chat_template)}};
}

void print_tokenizer(const TokenizerInfo& info) {
  if (info.model.empty()) return;
  fmt::print("tokenizer {}", quote(info.model));
  if (!info.pre.empty()) {
    fmt::print(", pre-tokeniser {}{}", quote(info.pre),
               info.pretokenizer.empty() ? " (not known)" : fmt::format(" ({})", info.pretokenizer));
  }
  if (info.chat_text.empty()) {
    fmt::print(", no chat template\n");
  } else if (info.chat_template.empty()) {
    fmt::print(", chat template not known: {}\n", escaped(info.chat_text, 60));
  } else {
    fmt::print(", chat template {}\n", info.chat_template);
  }
}

Json info_json(const Gguf& file) {
  Json out;
  out["path"] = file.path().string();
  out["version"] = file.version();
  out["alignment"] = file.alignment();
  out["xxh3"] = fmt::format("{:016x}", file.content_hash());
  out["tokenizer"] = tokenizer_json(tokenizer_info(file));
  out["metadata"] = Json::object();
  for (const auto& [key, value] : file.metadata()) out["metadata"][key] = json_value(value);
  out["tensors"] = Json::array();
  for (const auto& tensor : file.tensors()) {
    out["tensors"].push_back({{"name", tensor.name},
                              {"type", type_label(tensor.ggml_type)},
                              {"computable", tensor.dtype.has_value()},
                              {"shape", tensor.shape},
                              {"bytes", tensor.bytes},
                              {"offset", tensor.file_offset},
                              {"part", tensor.part}});
  }
  return out;
}

void print_info(const Gguf& file, bool all_tensors) {
  fmt::print("{}\n", file.path().string());
  fmt::print("GGUF v{}, alignment {}, XXH3 {:016x}\n", file.version(), file.alignment(), file.content_hash());
  std::uint64_t parameters = 0;
  for (const auto& tensor : file.tensors()) add_to(parameters, element_count(tensor));
  fmt::print("{} tensors, {} parameters\n", file.tensors().size(), parameters);
  for (const auto& [type, total] : totals_by_type(file)) {
    fmt::print("  {:<8} {:>5} tensors {:>14} parameters {:>14} bytes\n", type, total.tensors, total.elements, total.bytes);
  }
  print_tokenizer(tokenizer_info(file));
  fmt::print("\nmetadata ({} keys)\n", file.metadata().size());
  for (const auto& [key, value] : file.metadata()) fmt::print("  {} = {}\n", quote(key), text_value(value));
  if (!all_tensors) return;
  fmt::print("\ntensors\n");
  for (const auto& tensor : file.tensors()) {
    fmt::print("  {:<40} {:<8} [{}]\n", quote(tensor.name), type_label(tensor.ggml_type), fmt::join(tensor.shape, ", "));
  }
}

void add_info(CLI::App& models, Program& program) {
  struct Options {
    std::string path;
    bool json = false, tensors = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* info = models.add_subcommand("info", "what a GGUF file holds (any tensor types, vocabulary-only files too)");
  info->add_option("FILE", options->path, "the file; of a split model the first part (default: the demo model)");
  info->add_flag("--json", options->json, "JSON on stdout, every tensor included");
  info->add_flag("--tensors", options->tensors, "list every tensor");
  info->callback([options, &program] {
    program.action = [options] {
      const auto file = Gguf::open(options->path.empty() ? demo_model() : std::filesystem::path(options->path));
      if (options->json) {
        // Strings of a file may be any bytes; JSON is UTF-8.
        fmt::print("{}\n", info_json(*file).dump(2, ' ', false, Json::error_handler_t::replace));
      } else {
        print_info(*file, options->tensors);
      }
      return static_cast<int>(ExitCode::ok);
    };
  });
}

DType weight_type(const std::string& text) {
  const auto dtype = dtype_from_name(text);
  if (!dtype || std::ranges::find(weight_dtypes(), *dtype) == weight_dtypes().end())
    fail("--type {} is unknown; known: {}", quote(text), weight_dtype_names());
  return *dtype;
}

void add_synth(CLI::App& models, Program& program) {
  struct Options {
    std::string shape = "tiny", arch = "llama", type = "f32", out;
    std::uint64_t seed = 0;
    int layers = 0, vocab = 0, heads = 0, kv_heads = 0, d_model = 0, head_dim = 0, ffn = 0, context = 0, window = 0;
    bool tied = false, untied = false, force = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* synth = models.add_subcommand("synth", "writes a random-weight model with a byte-level vocabulary of its own");
  synth->add_option("--shape", options->shape, fmt::format("{}", fmt::join(synth_shape_names(), ", ")))->capture_default_str();
  synth->add_option("--arch", options->arch, fmt::format("{}", fmt::join(synth_architecture_names(), ", ")))
      ->capture_default_str();
  synth->add_option("--type", options->type, fmt::format("of matrices: {}", weight_dtype_names()))->capture_default_str();
  synth->add_option("--layers", options->layers, "instead of the shape's");
  synth->add_option("--seed", options->seed, "of the weights")->capture_default_str();
  synth->add_option("--out", options->out, "the file to write")->required();
  synth->add_option("--vocab", options->vocab, "tokens, instead of the shape's");
  synth->add_option("--heads", options->heads, "query heads, instead of the shape's");
  synth->add_option("--kv-heads", options->kv_heads, "key and value heads, instead of the shape's");
  synth->add_option("--d-model", options->d_model, "width, instead of the shape's");
  synth->add_option("--head-dim", options->head_dim, "elements of a head, instead of width / heads");
  synth->add_option("--window", options->window, "keys that a windowed layer's token sees, instead of the architecture's 32");
  synth->add_option("--ffn", options->ffn, "width of the feed-forward half, instead of the shape's");
  synth->add_option("--context", options->context, "positions, instead of the shape's");
  CLI::Option* tied = synth->add_flag("--tied", options->tied, "the head is the embedding table");
  synth->add_flag("--untied", options->untied, "the head is a table of its own")->excludes(tied);
  synth->add_flag("--force", options->force, "replace an existing file");
  synth->callback([synth, options, &program] {
    program.action = [synth, options] {
      SynthSpec spec = synth_shape(options->shape);
      set_architecture(spec, options->arch);
      spec.dtype = weight_type(options->type);
      spec.seed = options->seed;
      const auto override_with = [synth](const char* flag, int value, int& field) {
        if (synth->count(flag) > 0) field = value;
      };
      override_with("--layers", options->layers, spec.n_layers);
      override_with("--vocab", options->vocab, spec.vocab_size);
      override_with("--heads", options->heads, spec.n_heads);
      override_with("--kv-heads", options->kv_heads, spec.n_kv_heads);
      override_with("--d-model", options->d_model, spec.d_model);
      override_with("--head-dim", options->head_dim, spec.head_dim);
      override_with("--window", options->window, spec.window);
      if (synth->count("--head-dim") > 0 && options->head_dim < 1)
        fail("synth: --head-dim is {}, wanted at least 1", options->head_dim);
      override_with("--ffn", options->ffn, spec.d_ff);
      override_with("--context", options->context, spec.context_length);
      if (options->tied || options->untied) spec.tied_head = options->tied;
      ProgressBar bar;
      synthesize(spec, options->out, options->force, std::ref(bar));
      return static_cast<int>(ExitCode::ok);
    };
  });
}

std::string upper(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

void print_quantized(const std::string& out, const QuantizeReport& report) {
  for (const auto& fallback : report.fallbacks) {
    fmt::print(
        stderr, "note: {}{} became {}: rows of {} elements are not a multiple of {}'s block of {}\n",
        quote(fallback.first_tensor), fallback.tensors > 1 ? fmt::format(" and {} more", fallback.tensors - 1) : std::string(),
        upper(name(fallback.dtype)), fallback.row, upper(name(fallback.wanted)), dtype_info(fallback.wanted).block_elems);
  }
  fmt::print("{}\n", out);
  for (const auto& type : report.types) {
    fmt::print("  {:<8} {:>5} tensors {:>14} parameters {:>14} bytes  {:.4g} bits a parameter\n", upper(name(type.dtype)),
               type.tensors, type.elements, type.bytes,
               8.0 * static_cast<double>(type.bytes) / static_cast<double>(std::max<std::uint64_t>(type.elements, 1)));
  }
  fmt::print("  {} bytes of tensors before, {} after\n", report.bytes_before, report.bytes_after);
}

void add_quantize(CLI::App& models, Program& program) {
  struct Options {
    std::string in, out, type;
    int threads = 0;
    bool force = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* quantize_verb = models.add_subcommand("quantize", "writes a model with its matrices in another type");
  quantize_verb->add_option("IN", options->in, "the model, of any readable type; of a split one the first part")->required();
  quantize_verb->add_option("OUT", options->out, "the file to write")->required();
  quantize_verb->add_option("--type", options->type, fmt::format("of matrices: {}", quantize_type_names()))->required();
  quantize_verb->add_option("--threads", options->threads, "0: one a processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  quantize_verb->add_flag("--force", options->force, "replace an existing file");
  quantize_verb->callback([options, &program] {
    program.action = [options] {
      const auto type = quantize_type_from_name(options->type);
      if (!type) fail("--type {} is unknown; known: {}", quote(options->type), quantize_type_names());
      const auto file = Gguf::open(options->in);
      ProgressBar bar;
      const auto report = quantize(*file, options->out, {*type, options->threads, options->force}, std::ref(bar));
      print_quantized(options->out, report);
      return static_cast<int>(ExitCode::ok);
    };
  });
}

}  // namespace

void add_models(CLI::App& app, Program& program) {
  CLI::App* models = app.add_subcommand("models", "Look into GGUF files, make synthetic ones, convert their weights");
  models->require_subcommand(1);
  add_info(*models, program);
  add_synth(*models, program);
  add_quantize(*models, program);
}

}  // namespace greta::cli
