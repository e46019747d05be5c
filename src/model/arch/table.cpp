#include <array>

#include "core/error.h"
#include "core/quote.h"
#include "model/arch/architecture.h"
#include "model/gguf.h"

namespace greta {
namespace {

constexpr std::array<const Architecture*, 1> kTable{&kLlama};

}  // namespace

const Architecture& find_architecture(const Gguf& file) {
  const std::string& wanted = file.required_string("general.architecture");
  std::string known;
  for (const Architecture* row : kTable) {
    if (row->name == wanted) return *row;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row->name);
  }
  fail("{}: architecture {} is unknown; known: {}", file.path().string(), quote(wanted), known);
}

ModelConfig read_config(const Gguf& file) { return find_architecture(file).read_config(file); }

}  // namespace greta
