#include "trace/record.h"

#include <array>

namespace greta {
namespace {
constexpr std::array<std::string_view, 4> kOperandKinds{"activation", "weight", "kv", "scalar"};
}

std::string_view name(OperandKind kind) { return kOperandKinds[static_cast<std::size_t>(kind)]; }

std::optional<OperandKind> operand_kind_from_name(std::string_view wanted) {
  for (std::size_t i = 0; i < kOperandKinds.size(); ++i)
    if (kOperandKinds[i] == wanted) return static_cast<OperandKind>(i);
  return std::nullopt;
}

}  // namespace greta
