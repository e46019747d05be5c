#include "model/ggml_types.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "model/gguf.h"

namespace greta {
namespace {

// Ids 4, 5, 31-33 and 36-38 named types that the format has retired.
constexpr std::array<GgmlType, 32> kTypes{{
    {0, "F32", 1, 4, DType::f32},
    {1, "F16", 1, 2, DType::f16},
    {2, "Q4_0", 32, 18, DType::q4_0},
    {3, "Q4_1", 32, 20, DType::q4_1},
    {6, "Q5_0", 32, 22, DType::q5_0},
    {7, "Q5_1", 32, 24, DType::q5_1},
    {8, "Q8_0", 32, 34, DType::q8_0},
    {9, "Q8_1", 32, 36, std::nullopt},
    {10, "Q2_K", 256, 84, DType::q2_k},
    {11, "Q3_K", 256, 110, DType::q3_k},
    {12, "Q4_K", 256, 144, DType::q4_k},
    {13, "Q5_K", 256, 176, DType::q5_k},
    {14, "Q6_K", 256, 210, DType::q6_k},
    {15, "Q8_K", 256, 292, {}},
    {16, "IQ2_XXS", 256, 66, {}},
    {17, "IQ2_XS", 256, 74, {}},
    {18, "IQ3_XXS", 256, 98, {}},
    {19, "IQ1_S", 256, 50, {}},
    {20, "IQ4_NL", 32, 18, DType::iq4_nl},
    {21, "IQ3_S", 256, 110, {}},
    {22, "IQ2_S", 256, 82, {}},
    {23, "IQ4_XS", 256, 136, DType::iq4_xs},
    {24, "I8", 1, 1, {}},
    {25, "I16", 1, 2, {}},
    {26, "I32", 1, 4, {}},
    {27, "I64", 1, 8, {}},
    {28, "F64", 1, 8, {}},
    {29, "IQ1_M", 256, 56, {}},
    {30, "BF16", 1, 2, DType::bf16},
    {34, "TQ1_0", 256, 54, {}},
    {35, "TQ2_0", 256, 66, {}},
    {39, "MXFP4", 32, 17, {}},
}};

}  // namespace

const GgmlType* find_ggml_type(std::uint32_t id) {
  const auto* found = std::lower_bound(kTypes.begin(), kTypes.end(), id,
                                       [](const GgmlType& type, std::uint32_t wanted) { return type.id < wanted; });
  return found != kTypes.end() && found->id == id ? found : nullptr;
}

std::uint32_t ggml_type_of(DType dtype) {
  for (const auto& type : kTypes) {
    if (type.dtype == dtype) return type.id;
  }
  fail("dtype {} has no GGUF type: it exists in memory only", name(dtype));
}

std::string computable_type_names() {
  std::string names;
  for (const auto& type : kTypes) {
    if (type.dtype) names += fmt::format("{}{}", names.empty() ? "" : ", ", type.name);
  }
  return names;
}

std::string_view ggml_type_name(std::uint32_t ggml_type) {
  const GgmlType* type = find_ggml_type(ggml_type);
  return type != nullptr ? type->name : "unknown";
}

}  // namespace greta
