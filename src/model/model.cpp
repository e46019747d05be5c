#include "model/model.h"

#include "core/error.h"

namespace greta {

std::shared_ptr<const Model> Model::load(const std::filesystem::path& path) {
  auto model = std::make_shared<Model>();
  model->file = Gguf::open(path);
  model->config = read_config(*model->file);
  model->weights = load_weights(*model->file, model->config);
  model->tokenizer = Tokenizer::from_gguf(*model->file);
  if (model->tokenizer->vocab_size() != model->config.vocab_size) {
    fail("{}: the tokenizer has {} tokens, the model {}", path.string(), model->tokenizer->vocab_size(),
         model->config.vocab_size);
  }
  return model;
}

}  // namespace greta
