// Takes tensors out of a file as weights of known shape and type, and knows afterwards which ones nobody took.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "model/gguf.h"

namespace greta {

class TensorTable {
 public:
  explicit TensorTable(const Gguf& file) : file_(file), taken_(file.tensors().size(), false) {}

  /// [rows, cols], rows contiguous one after the other. Throws Error, one line: missing, another shape, a type not computed
  /// with.
  WeightView matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  WeightView vector(const std::string& name, std::int64_t size) { return matrix(name, 1, size); }
  /// Empty where the file has no such tensor.
  WeightView optional_matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  WeightView optional_vector(const std::string& name, std::int64_t size) { return optional_matrix(name, 1, size); }

  const Gguf& file() const { return file_; }
  /// Tensors taken so far, in file order.
  std::vector<const GgufTensor*> taken() const;
  /// Throws Error for a tensor of the text model (`blk.*`, `output*`, `token_embd*`) that was not taken: the architecture has
  /// no place for it, and leaving it out would compute another model. RoPE tables that some files carry are derived data.
  void refuse_leftovers() const;

 private:
  WeightView take(const GgufTensor& tensor, std::int64_t rows, std::int64_t cols);
  const Gguf& file_;
  std::vector<bool> taken_;
};

}  // namespace greta
