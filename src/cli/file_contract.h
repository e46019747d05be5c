// The contract of a model: what its file says, read by tensor name, whatever views an arm was given.
#pragma once

#include "audit/contract.h"
#include "model/model.h"

namespace greta::cli {

/// Throws Error as read_config does.
audit::ModelContract contract_of(const Gguf& file);
inline audit::ModelContract contract_of(const Model& model) { return contract_of(*model.file); }

/// Tensors of the mapped file. Valid as long as `file`.
class FileTensors final : public audit::Tensors {
 public:
  explicit FileTensors(const Gguf& file) : file_(file) {}
  std::optional<audit::TensorShape> find(std::string_view name) const override;
  void row(std::string_view name, std::int64_t row, std::span<double> out) const override;
  void minima(std::string_view name, std::int64_t row, std::span<double> out) const override;
  std::int64_t block_elements(std::string_view name) const override;
  audit::BlockScale block_scale(std::string_view name, std::int64_t row, std::int64_t block) const override;
  void scaled_block(std::string_view name, std::int64_t row, std::int64_t block, const audit::BlockScale& scale,
                    std::span<double> out) const override;

 private:
  const Gguf& file_;
};

}  // namespace greta::cli
