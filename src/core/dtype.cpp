#include "core/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace greta {
namespace {
constexpr std::array<DTypeInfo, 6> kInfos{{{"f64", 1, 8},
                                           {"f32", 1, 4},
                                           {"f16", 1, 2},
                                           {"bf16", 1, 2},
                                           {"q8_0", 32, 34},
                                           {"q4_0", 32, 18}}};
}  // namespace

const DTypeInfo& dtype_info(DType dtype) { return kInfos[static_cast<std::size_t>(dtype)]; }

std::optional<DType> dtype_from_name(std::string_view wanted) {
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; };
  for (std::size_t i = 0; i < kInfos.size(); ++i) {
    const auto& candidate = kInfos[i].name;
    if (std::equal(wanted.begin(), wanted.end(), candidate.begin(), candidate.end(), same)) return static_cast<DType>(i);
  }
  return std::nullopt;
}

std::int64_t row_bytes(DType dtype, std::int64_t cols) {
  const auto& info = dtype_info(dtype);
  return cols / info.block_elems * info.block_bytes;
}

}  // namespace greta
