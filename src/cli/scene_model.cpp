#include "cli/scene_model.h"

#include <fmt/format.h>

#include "cli/scene_check.h"
#include "core/error.h"
#include "core/quote.h"

namespace greta::cli {

const Gguf& SceneModels::file(const StoredScene& stored) {
  const Gguf& file = open(stored.model);
  check_scene(stored.scene, stored.model.n_layers, file, stored.source);
  return file;
}

const Gguf& SceneModels::open(const SceneModel& model) {
  const std::filesystem::path path =
      !instead_.empty() ? std::filesystem::path(instead_) : directory_ / std::filesystem::path(model.path);
  std::shared_ptr<const Gguf>& file = files_[path.string()];
  if (!file) {
    if (!std::filesystem::exists(path)) fail("{}: the model of the run is not there; give it with --model", path.string());
    file = Gguf::open(path);
  }
  const std::string hash = fmt::format("{:016x}", file->content_hash());
  if (hash != model.hash)
    fail("{}: another file (hash {}) than the run's (hash {}): the weights differ; give the run's with --model", path.string(),
         hash, quote(model.hash));
  return *file;
}

}  // namespace greta::cli
