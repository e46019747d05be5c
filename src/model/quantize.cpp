#include "model/quantize.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

#include "core/blocks.h"
#include "core/error.h"
#include "core/quantize.h"
#include "model/finite.h"
#include "model/ggml_types.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"

namespace greta {
namespace {

constexpr std::string_view kFileType = "general.file_type", kVersion = "general.quantization_version";

struct Conversion {
  const GgufTensor* from = nullptr;
  DType wanted = DType::f32, to = DType::f32;
  std::size_t tensor = 0;  // of the writer
  std::int64_t row = 0, rows = 0;
};

struct Piece {
  const Conversion* of = nullptr;
  std::int64_t first_row = 0, n_rows = 0;
};

bool is_matrix(const GgufTensor& tensor) {
  const std::string_view name = tensor.name;
  return tensor.shape.size() >= 2 && tensor.shape[1] > 1 && name.ends_with(".weight") && name.find("_norm") == name.npos;
}

/// The layer of "blk.N.REST" where the name is that; -1 otherwise.
int layer_of(std::string_view name, std::string_view rest) {
  if (!name.starts_with("blk.") || !name.ends_with(rest)) return -1;
  name = name.substr(4, name.size() - 4 - std::min(name.size() - 4, rest.size()));
  int layer = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return error == std::errc() && end == name.data() + name.size() ? layer : -1;
}

/// The types of one file, tensor by tensor.
class Types {
 public:
  Types(const Gguf& in, QuantizeType type) : type_(type) {
    for (const auto& tensor : in.tensors()) {
      tied_ = tied_ && tensor.name != "output.weight";
      n_layers_ = std::max(n_layers_, layer_of(tensor.name, ".ffn_down.weight") + 1);
    }
  }

  DType of(const GgufTensor& tensor) const {
    if (!is_matrix(tensor)) return DType::f32;
    return type_.mixed && wants_more_bits(tensor.name) ? DType::q6_k : type_.dtype;
  }

 private:
  bool wants_more_bits(std::string_view name) const {
    if (name == (tied_ ? "token_embd.weight" : "output.weight")) return true;
    const int layer = std::max(layer_of(name, ".attn_v.weight"), layer_of(name, ".ffn_down.weight"));
    const int eighth = n_layers_ / 8;
    return layer >= 0 && (layer < eighth || layer >= 7 * n_layers_ / 8 || (layer - eighth) % 3 == 2);
  }

  QuantizeType type_;
  bool tied_ = true;
  int n_layers_ = 0;
};

Conversion plan(const Gguf& in, const GgufTensor& tensor, const Types& types) {
  if (!tensor.dtype) {
    fail("{}: tensor '{}' is of type {} (id {}), which greta cannot read; it can {}", in.path().string(), tensor.name,
         ggml_type_name(tensor.ggml_type), tensor.ggml_type, computable_type_names());
  }
  Conversion out;
  out.from = &tensor;
  out.row = tensor.shape[0];
  out.rows = 1;
  for (std::size_t d = 1; d < tensor.shape.size(); ++d) out.rows *= tensor.shape[d];
  out.wanted = types.of(tensor);
  out.to = is_matrix(tensor) ? fallback_dtype(out.wanted, out.row) : DType::f32;
  return out;
}

/// Keys that describe the old file's layout, not the model.
bool describes_layout(std::string_view key) { return key == "general.alignment" || key.starts_with("split."); }

void copy_metadata(const Gguf& in, QuantizeType type, GgufWriter& writer) {
  bool typed = false, versioned = false;
  for (const auto& [key, value] : in.metadata()) {
    if (describes_layout(key)) continue;
    if (key == kFileType) {
      writer.set(key, file_type_of(type));
      typed = true;
    } else if (key == kVersion) {
      writer.set(key, 2u);
      versioned = true;
    } else {
      writer.set(key, value);
    }
  }
  if (!typed) writer.set(kFileType, file_type_of(type));
  if (!versioned) writer.set(kVersion, 2u);
}

/// Throws Error where a value of `from` left the range of the new type.
void refuse_overflow(const Gguf& in, const Piece& piece, const PieceBuffers& buffers) {
  const Conversion& of = *piece.of;
  GgufTensor made;
  made.dtype = of.to;
  made.data = buffers.bytes.data();
  made.bytes = buffers.bytes.size();
  const GgufTensor* list[]{&made};
  const auto bad = find_non_finite(list, 1);
  if (!bad) return;
  const auto begin = buffers.values.begin() + bad->element;
  const auto largest = std::max_element(begin, begin + dtype_info(of.to).block_elems,
                                        [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  fail("{}: tensor '{}': element {} is {}, too large for type {}; choose bf16 or f32", in.path().string(), of.from->name,
       piece.first_row * of.row + (largest - buffers.values.begin()), *largest, name(of.to));
}

std::uint64_t convert(const Gguf& in, const Piece& piece, GgufWriter& writer, PieceBuffers& buffers) {
  const Conversion& of = *piece.of;
  const std::int64_t elements = piece.n_rows * of.row;
  const std::int64_t first = piece.first_row * of.row;
  // Rows follow one another without gaps and hold whole blocks: many rows are as one.
  buffers.values.resize(static_cast<std::size_t>(elements));
  dequantize_row(*of.from->dtype, of.from->data + row_bytes(*of.from->dtype, first), elements, buffers.values.data());
  buffers.bytes.resize(static_cast<std::size_t>(row_bytes(of.to, elements)));
  quantize_row(of.to, buffers.values.data(), elements, buffers.bytes.data());
  refuse_overflow(in, piece, buffers);
  writer.write(of.tensor, static_cast<std::uint64_t>(row_bytes(of.to, first)), buffers.bytes);
  return buffers.bytes.size();
}

QuantizeReport report_of(const std::vector<Conversion>& conversions) {
  QuantizeReport report;
  std::map<DType, QuantizedTensors> types;
  std::map<std::pair<std::int64_t, DType>, std::size_t> by_row;  // index of the fallback
  for (const Conversion& c : conversions) {
    const auto bytes = static_cast<std::uint64_t>(row_bytes(c.to, c.row) * c.rows);
    auto& type = types[c.to];
    type.dtype = c.to;
    ++type.tensors;
    type.elements += static_cast<std::uint64_t>(c.row * c.rows);
    type.bytes += bytes;
    report.bytes_before += c.from->bytes;
    report.bytes_after += bytes;
    if (c.to == c.wanted) continue;
    const auto [found, added] = by_row.emplace(std::pair{c.row, c.wanted}, report.fallbacks.size());
    if (added) report.fallbacks.push_back({c.from->name, 0, c.row, c.wanted, c.to});
    ++report.fallbacks[found->second].tensors;
  }
  for (const auto& [dtype, type] : types) report.types.push_back(type);
  return report;
}

}  // namespace

DType fallback_dtype(DType wanted, std::int64_t row) {
  if (row % dtype_info(wanted).block_elems == 0) return wanted;
  if (row % 32 != 0) return DType::f16;
  switch (wanted) {
    case DType::q4_k:
      return DType::q5_0;
    case DType::q5_k:
      return DType::q5_1;
    case DType::q6_k:
      return DType::q8_0;
    default:
      return DType::iq4_nl;
  }
}

std::optional<QuantizeType> quantize_type_from_name(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower == "q4_k_m") return QuantizeType{DType::q4_k, true};
  if (lower == "q5_k_m") return QuantizeType{DType::q5_k, true};
  const auto dtype = dtype_from_name(lower);
  if (!dtype || std::ranges::find(weight_dtypes(), *dtype) == weight_dtypes().end()) return std::nullopt;
  return QuantizeType{*dtype, false};
}

std::string quantize_type_names() { return weight_dtype_names() + ", q4_k_m, q5_k_m"; }

std::uint32_t file_type_of(QuantizeType type) {
  if (type.mixed) return type.dtype == DType::q4_k ? 15 : 17;
  switch (type.dtype) {
    case DType::f16:
      return 1;
    case DType::q4_0:
      return 2;
    case DType::q4_1:
      return 3;
    case DType::q8_0:
      return 7;
    case DType::q5_0:
      return 8;
    case DType::q5_1:
      return 9;
    case DType::q2_k:
      return 10;
    case DType::q3_k:
      return 11;  // "small": one type throughout
    case DType::q4_k:
      return 14;
    case DType::q5_k:
      return 16;
    case DType::q6_k:
      return 18;
    case DType::iq4_nl:
      return 25;
    case DType::iq4_xs:
      return 30;
    case DType::bf16:
      return 32;
    default:
      return 0;
  }
}

QuantizeReport quantize(const Gguf& in, const std::filesystem::path& out, const QuantizeSpec& spec, const Progress& progress) {
  if (in.tensors().empty()) fail("{}: holds no tensors (a vocabulary only?), wanted a model with weights", in.path().string());
  std::vector<Conversion> conversions;
  std::vector<const GgufTensor*> sources;
  const Types types(in, spec.type);
  for (const auto& tensor : in.tensors()) {
    conversions.push_back(plan(in, tensor, types));
    sources.push_back(&tensor);
  }
  refuse_non_finite(in, sources, spec.threads);

  GgufWriter writer(out, spec.overwrite);
  copy_metadata(in, spec.type, writer);
  std::vector<Piece> pieces;
  for (Conversion& c : conversions) {
    c.tensor = writer.add_tensor(c.from->name, c.to, c.from->shape);
    const std::int64_t step = std::max<std::int64_t>(1, kPieceElements / c.row);
    for (std::int64_t row = 0; row < c.rows; row += step) pieces.push_back({&c, row, std::min(step, c.rows - row)});
  }
  writer.begin_data();
  const QuantizeReport report = report_of(conversions);
  for_pieces(pieces.size(), spec.threads, report.bytes_after, progress,
             [&](std::size_t i, PieceBuffers& buffers) { return convert(in, pieces[i], writer, buffers); });
  writer.finish();
  return report;
}

}  // namespace greta
