#include "cli/scorecard_models.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "cli/defaults.h"
#include "core/dtype.h"
#include "core/error.h"
#include "model/synth.h"

namespace greta::cli {
namespace {

constexpr const char* kPrompt = "Once upon a time, there was a little girl";
constexpr std::size_t kMostTokens = 13;  // of the prompt: random vocabularies spell it letter by letter

SynthSpec shape_of(const std::string& type, const std::string& architecture) {
  SynthSpec spec = synth_shape(architecture == "factors" ? "llama3-1b" : "tiny");
  spec.n_layers = 3;
  spec.seed = 3;
  spec.dtype = *dtype_from_name(type);
  if (architecture == "factors") {
    spec.d_model = 256, spec.n_heads = 8, spec.n_kv_heads = 4, spec.d_ff = 768, spec.vocab_size = 512;
    spec.head_dim = 0;
  } else if (architecture == "window") {
    set_architecture(spec, "mistral");
    spec.window = 4;
  } else if (architecture == "untied") {
    spec.tied_head = false;
  } else if (architecture != "llama") {
    set_architecture(spec, architecture);
  }
  return spec;
}

ScoredModel loaded(const std::string& name, const std::filesystem::path& path) {
  ScoredModel out;
  out.name = name;
  out.model = Model::load(path);
  out.prompt = out.model->tokenizer->encode(kPrompt, true, true);
  if (out.prompt.size() > kMostTokens) out.prompt.resize(kMostTokens);
  const DType dtype = out.model->weights.layers.front().wq.dtype;
  out.type = greta::name(dtype);
  out.blocks = dtype_info(dtype).block_elems > 1;
  return out;
}

}  // namespace

ScoredModels::ScoredModels() {
  std::string path = (std::filesystem::temp_directory_path() / "greta-scorecard-XXXXXX").string();
  if (mkdtemp(path.data()) == nullptr) fail("{}: cannot make a directory: {}; set TMPDIR", path, std::strerror(errno));
  directory_ = path;
}

ScoredModels::~ScoredModels() {
  models_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

const ScoredModel& ScoredModels::demo() {
  if (!models_.contains("demo")) models_.emplace("demo", loaded("demo", default_model_path()));
  return models_.at("demo");
}

const ScoredModel& ScoredModels::made(const std::string& name, const std::string& type, const std::string& architecture) {
  if (!models_.contains(name)) {
    const std::filesystem::path path = directory_ / fmt::format("{}.gguf", models_.size());
    synthesize(shape_of(type, architecture), path, false);
    models_.emplace(name, loaded(name, path));
  }
  return models_.at(name);
}

const ScoredModel& ScoredModels::tiny(const std::string& type) { return made("tiny " + type, type, "llama"); }

const ScoredModel& ScoredModels::with(const std::string& need) {
  return dtype_from_name(need) ? tiny(need) : made(need, "f32", need);
}

}  // namespace greta::cli
