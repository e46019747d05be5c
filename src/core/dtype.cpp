#include "core/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace greta {
namespace {
constexpr std::array<DTypeInfo, kDTypeCount> kInfos{{{"f64", 1, 8},
                                                     {"f32", 1, 4},
                                                     {"f16", 1, 2},
                                                     {"bf16", 1, 2},
                                                     {"q8_0", 32, 34},
                                                     {"q4_0", 32, 18},
                                                     {"q4_1", 32, 20},
                                                     {"q5_0", 32, 22},
                                                     {"q5_1", 32, 24},
                                                     {"q2_k", 256, 84},
                                                     {"q3_k", 256, 110},
                                                     {"q4_k", 256, 144},
                                                     {"q5_k", 256, 176},
                                                     {"q6_k", 256, 210},
                                                     {"iq4_nl", 32, 18},
                                                     {"iq4_xs", 256, 136},
                                                     {"q8_f32", 32, 36}}};
static_assert(static_cast<int>(DType::q8_f32) == kDTypeCount - 1);

constexpr auto kWeights = [] {
  std::array<DType, kDTypeCount - 2> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<DType>(i + 1);
  return all;
}();
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

std::span<const DType> weight_dtypes() { return kWeights; }

std::string weight_dtype_names() {
  std::string names;
  for (const DType dtype : kWeights) {
    if (!names.empty()) names += ", ";
    names += name(dtype);
  }
  return names;
}

std::int64_t row_bytes(DType dtype, std::int64_t cols) {
  const auto& info = dtype_info(dtype);
  return cols / info.block_elems * info.block_bytes;
}

}  // namespace greta
