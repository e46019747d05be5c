#include "model/tensor_table.h"

#include <fmt/ranges.h>

#include <string_view>

#include "core/error.h"
#include "core/quote.h"
#include "model/ggml_types.h"

namespace greta {
namespace {

/// The file's order: the contiguous dimension first.
std::string shape_text(std::int64_t rows, std::int64_t cols) {
  return rows == 1 ? fmt::format("[{}]", cols) : fmt::format("[{}, {}]", cols, rows);
}

bool has_shape(const GgufTensor& tensor, std::int64_t rows, std::int64_t cols) {
  for (std::size_t d = 0; d < tensor.shape.size(); ++d) {
    const std::int64_t wanted = d == 0 ? cols : d == 1 ? rows : 1;
    if (tensor.shape[d] != wanted) return false;
  }
  return tensor.shape.size() > 1 || rows == 1;
}

}  // namespace

WeightView TensorTable::matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  const GgufTensor* tensor = file_.find_tensor(name);
  if (tensor == nullptr) {
    fail("{}: tensor '{}' is missing, wanted shape {}", file_.path().string(), name, shape_text(rows, cols));
  }
  return take(*tensor, rows, cols);
}

WeightView TensorTable::optional_matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  const GgufTensor* tensor = file_.find_tensor(name);
  return tensor != nullptr ? take(*tensor, rows, cols) : WeightView{};
}

WeightView TensorTable::take(const GgufTensor& tensor, std::int64_t rows, std::int64_t cols) {
  if (!has_shape(tensor, rows, cols)) {
    fail("{}: tensor '{}' has shape [{}], wanted {}", file_.path().string(), tensor.name, fmt::join(tensor.shape, ", "),
         shape_text(rows, cols));
  }
  if (!tensor.dtype) {
    fail("{}: tensor '{}' is of type {} (id {}), which greta does not compute with; it does with {}", file_.path().string(),
         tensor.name, ggml_type_name(tensor.ggml_type), tensor.ggml_type, computable_type_names());
  }
  taken_[static_cast<std::size_t>(&tensor - file_.tensors().data())] = true;
  return {.name = tensor.name, .dtype = *tensor.dtype, .n_rows = rows, .n_cols = cols, .data = tensor.data};
}

std::vector<const GgufTensor*> TensorTable::taken() const {
  std::vector<const GgufTensor*> out;
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    if (taken_[i]) out.push_back(&file_.tensors()[i]);
  }
  return out;
}

void TensorTable::refuse_leftovers() const {
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    const std::string_view name = file_.tensors()[i].name;
    if (taken_[i] || name.ends_with(".attn_rot_embd.weight") || name.ends_with(".rotary_emb.inv_freq")) continue;
    if (name.starts_with("blk.") || name.starts_with("output") || name.starts_with("token_embd")) {
      fail("{}: tensor {} has no place in architecture '{}' as greta computes it", file_.path().string(), quote(name),
           file_.required_string("general.architecture"));
    }
  }
}

}  // namespace greta
