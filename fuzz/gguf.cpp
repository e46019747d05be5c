// A model file as `greta` opens it: container, configuration, table of weights, tokenizer. Split models have more than one file
// and are refused here by their name.
#include <memory>

#include "core/blocks.h"
#include "fuzz/fuzz.h"
#include "model/gguf_parse.h"
#include "model/model.h"

namespace greta::fuzz {
namespace {

/// The container alone, from memory that ends where the file ends: a sanitizer sees every byte read too far.
void parse(std::string_view bytes) {
  accepts([&] {
    const GgufPart part = parse_gguf(std::as_bytes(std::span(bytes)), "input.gguf", 0);
    for (const GgufTensor& tensor : part.tensors) {
      require(tensor.file_offset <= bytes.size() && tensor.bytes <= bytes.size() - tensor.file_offset,
              "tensors inside the file");
    }
  });
}

void check_view(const Gguf& file, const WeightView& view) {
  if (!view) return;
  const GgufTensor* tensor = file.find_tensor(view.name);
  require(tensor != nullptr && tensor->data == view.data, "a weight that is a tensor of the file");
  require(static_cast<std::uint64_t>(view.n_rows * row_bytes(view.dtype, view.n_cols)) <= tensor->bytes,
          "a weight inside its tensor");
}

void check_model(const Model& model) {
  const ModelWeights& weights = model.weights;
  require(static_cast<int>(weights.layers.size()) == model.config.n_layers, "as many layers as configured");
  for (const WeightView* view : {&weights.embedding, &weights.final_norm, &weights.lm_head}) check_view(*model.file, *view);
  for (const LayerWeights& layer : weights.layers) {
    for (const WeightView* view :
         {&layer.attn_norm, &layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.bq, &layer.bk, &layer.bv, &layer.bo,
          &layer.ffn_norm, &layer.gate, &layer.up, &layer.down, &layer.bgate, &layer.bup, &layer.bdown})
      check_view(*model.file, *view);
  }
  accepts([&] { model.tokenizer->decode(model.tokenizer->encode("Hello <s> 12", true, true), true); });
}

}  // namespace
}  // namespace greta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta;
  using namespace greta::fuzz;
  static MemoryFile file;
  parse(text_of(data, size));
  file.fill(text_of(data, size));
  const bool loaded = accepts([] { check_model(*Model::load(file.path())); });
  // What is behind the first refusal: a file without weights still has a vocabulary (`greta tokenize`).
  if (!loaded) accepts([] { Tokenizer::from_gguf(*Gguf::open(file.path())); });
  return 0;
}
