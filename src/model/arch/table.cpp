#include <fmt/ranges.h>

#include "core/error.h"
#include "core/quote.h"
#include "model/arch/architecture.h"
#include "model/gguf.h"

namespace greta {

// An architecture's own file defines it; this is its row.
extern const Architecture kGemma2, kGemma3, kLlama, kQwen2, kQwen3;

namespace {

constexpr const Architecture* kTable[] = {
    &kGemma2,  //
    &kGemma3,  //
    &kLlama,   //
    &kQwen2,   //
    &kQwen3,   //
};

}  // namespace

const Architecture* architecture_named(std::string_view name) {
  for (const Architecture* row : kTable) {
    if (row->name == name) return row;
  }
  return nullptr;
}

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Architecture* row : kTable) names.emplace_back(row->name);
  return names;
}

const Architecture& find_architecture(const Gguf& file) {
  const std::string& wanted = file.required_string("general.architecture");
  if (const Architecture* found = architecture_named(wanted)) return *found;
  fail("{}: architecture {} is unknown; known: {}", file.path().string(), quote(wanted), fmt::join(architecture_names(), ", "));
}

ModelConfig read_config(const Gguf& file) { return find_architecture(file).read_config(file); }

}  // namespace greta
