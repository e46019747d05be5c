#include "model/gguf_parse.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <string_view>
#include <type_traits>

#include "core/error.h"
#include "core/quote.h"
#include "model/ggml_types.h"

namespace greta {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read as they lie in memory: little-endian");

constexpr std::uint64_t kMaxKeyBytes = 65535;               // of the format
constexpr std::uint64_t kMaxArrayElements = 1u << 24;       // far above any vocabulary; numbers widen to 8 bytes in memory
constexpr std::uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;  // key length, key, type, smallest value
constexpr std::uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name length, name, dimensions, one, type, offset
constexpr std::uint32_t kMaxDimensions = 4;

/// Reads forward through the file; every failure names the file and the offset.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  std::uint64_t offset() const { return offset_; }
  std::uint64_t remaining() const { return bytes_.size() - offset_; }

  template <class... Args>
  [[noreturn]] void fail_at(std::uint64_t offset, fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: offset {}: {}", file_, offset, fmt::format(format, std::forward<Args>(args)...));
  }

  const std::byte* take(std::uint64_t size, std::string_view what) {
    if (size > remaining()) {
      fail_at(offset_, "{} takes {} bytes, but the file ends after {} (truncated?)", what, size, remaining());
    }
    const std::byte* start = bytes_.data() + offset_;
    offset_ += size;
    return start;
  }

  template <class T>
  T read(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }

  std::string read_string(std::string_view what, std::uint64_t max_bytes = std::numeric_limits<std::uint64_t>::max()) {
    const std::uint64_t start = offset_;
    const auto size = read<std::uint64_t>(what);
    if (size > max_bytes) fail_at(start, "{} is {} bytes long, wanted at most {}", what, size, max_bytes);
    const std::byte* text = take(size, what);
    return {reinterpret_cast<const char*>(text), static_cast<std::size_t>(size)};
  }

  bool read_bool(std::string_view what) {
    const auto byte = read<std::uint8_t>(what);
    if (byte > 1) fail_at(offset_ - 1, "{} is a boolean of value {}, wanted 0 or 1", what, byte);
    return byte == 1;
  }

  GgufType read_type(std::string_view what) {
    const auto id = read<std::uint32_t>(what);
    if (id > static_cast<std::uint32_t>(GgufType::f64)) {
      fail_at(offset_ - 4, "{} has value type {}, wanted 0 to {}", what, id, static_cast<std::uint32_t>(GgufType::f64));
    }
    return static_cast<GgufType>(id);
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::uint64_t offset_ = 0;
};

/// Bytes of one value of a fixed size; of a string the least (its length).
std::uint64_t min_value_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
    case GgufType::string:
      return 8;
    case GgufType::array:
      break;
  }
  return 12;
}

template <class T>
GgufValue::Integers read_integers(Cursor& in, std::uint64_t count, const std::string& what) {
  GgufValue::Integers out;
  out.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const T value = in.read<T>(what);
    if constexpr (std::is_same_v<T, std::uint64_t>) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        in.fail_at(in.offset() - sizeof(T), "{}: element {} is {}, wanted at most 2^63-1", what, i, value);
      }
    }
    out.push_back(static_cast<std::int64_t>(value));
  }
  return out;
}

template <class T>
GgufValue::Floats read_floats(Cursor& in, std::uint64_t count, const std::string& what) {
  GgufValue::Floats out;
  out.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) out.push_back(static_cast<double>(in.read<T>(what)));
  return out;
}

void read_array(Cursor& in, const std::string& what, GgufValue& out) {
  out.element = in.read_type(what);
  if (out.element == GgufType::array) in.fail_at(in.offset() - 4, "{} is an array of arrays, which is not supported", what);
  const std::uint64_t start = in.offset();
  const auto count = in.read<std::uint64_t>(what);
  if (count > in.remaining() / min_value_bytes(out.element)) {
    in.fail_at(start, "{} is an array of {} {} values, but the file ends after {} bytes", what, count, name(out.element),
               in.remaining());
  }
  if (count > kMaxArrayElements) {
    in.fail_at(start, "{} is an array of {} values, wanted at most {}", what, count, kMaxArrayElements);
  }
  switch (out.element) {
    case GgufType::u8:
      out.value = read_integers<std::uint8_t>(in, count, what);
      break;
    case GgufType::i8:
      out.value = read_integers<std::int8_t>(in, count, what);
      break;
    case GgufType::u16:
      out.value = read_integers<std::uint16_t>(in, count, what);
      break;
    case GgufType::i16:
      out.value = read_integers<std::int16_t>(in, count, what);
      break;
    case GgufType::u32:
      out.value = read_integers<std::uint32_t>(in, count, what);
      break;
    case GgufType::i32:
      out.value = read_integers<std::int32_t>(in, count, what);
      break;
    case GgufType::u64:
      out.value = read_integers<std::uint64_t>(in, count, what);
      break;
    case GgufType::i64:
      out.value = read_integers<std::int64_t>(in, count, what);
      break;
    case GgufType::f32:
      out.value = read_floats<float>(in, count, what);
      break;
    case GgufType::f64:
      out.value = read_floats<double>(in, count, what);
      break;
    case GgufType::boolean: {
      GgufValue::Integers flags;
      flags.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) flags.push_back(in.read_bool(what) ? 1 : 0);
      out.value = std::move(flags);
      break;
    }
    case GgufType::string: {
      GgufValue::Strings strings;
      strings.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) strings.push_back(in.read_string(what));
      out.value = std::move(strings);
      break;
    }
    case GgufType::array:
      break;  // refused above
  }
}

GgufValue read_value(Cursor& in, const std::string& what) {
  GgufValue out;
  out.type = in.read_type(what);
  switch (out.type) {
    case GgufType::u8:
      out.value = std::uint64_t{in.read<std::uint8_t>(what)};
      break;
    case GgufType::i8:
      out.value = std::int64_t{in.read<std::int8_t>(what)};
      break;
    case GgufType::u16:
      out.value = std::uint64_t{in.read<std::uint16_t>(what)};
      break;
    case GgufType::i16:
      out.value = std::int64_t{in.read<std::int16_t>(what)};
      break;
    case GgufType::u32:
      out.value = std::uint64_t{in.read<std::uint32_t>(what)};
      break;
    case GgufType::i32:
      out.value = std::int64_t{in.read<std::int32_t>(what)};
      break;
    case GgufType::u64:
      out.value = in.read<std::uint64_t>(what);
      break;
    case GgufType::i64:
      out.value = in.read<std::int64_t>(what);
      break;
    case GgufType::f32:
      out.value = static_cast<double>(in.read<float>(what));
      break;
    case GgufType::f64:
      out.value = in.read<double>(what);
      break;
    case GgufType::boolean:
      out.value = in.read_bool(what);
      break;
    case GgufType::string:
      out.value = in.read_string(what);
      break;
    case GgufType::array:
      read_array(in, what, out);
      break;
  }
  return out;
}

/// Index of an element equal to an earlier one, or nothing.
template <class Names>
std::optional<std::size_t> find_duplicate(const Names& items, auto name_of) {
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return name_of(items[a]) < name_of(items[b]); });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (name_of(items[order[i]]) == name_of(items[order[i - 1]])) return std::max(order[i], order[i - 1]);
  }
  return std::nullopt;
}

struct Header {
  std::uint32_t version = 0;
  std::uint64_t n_tensors = 0;
  std::uint64_t n_values = 0;
};

Header read_header(Cursor& in) {
  const std::byte* magic = in.take(4, "the magic number");
  if (std::memcmp(magic, "GGUF", 4) != 0) {
    in.fail_at(0, "magic number {}, wanted 'GGUF': not a GGUF file", quote({reinterpret_cast<const char*>(magic), 4}));
  }
  Header header;
  header.version = in.read<std::uint32_t>("the version");
  if ((header.version & 0xffffu) == 0) {
    in.fail_at(4, "version {:#010x}: a big-endian file, wanted little-endian", header.version);
  }
  if (header.version != 2 && header.version != 3) in.fail_at(4, "version {}, wanted 2 or 3", header.version);
  header.n_tensors = in.read<std::uint64_t>("the tensor count");
  header.n_values = in.read<std::uint64_t>("the metadata count");
  if (header.n_values > in.remaining() / kMinKeyValueBytes) {
    in.fail_at(16, "{} metadata entries cannot fit in the {} bytes that follow", header.n_values, in.remaining());
  }
  if (header.n_tensors > in.remaining() / kMinTensorBytes) {
    in.fail_at(8, "{} tensors cannot fit in the {} bytes that follow", header.n_tensors, in.remaining());
  }
  return header;
}

void read_metadata(Cursor& in, std::uint64_t count, GgufPart& part) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t start = in.offset();
    std::string key = in.read_string(fmt::format("key {} of the metadata", i), kMaxKeyBytes);
    if (key.empty()) in.fail_at(start, "key {} of the metadata is empty", i);
    GgufValue value = read_value(in, "key " + quote(key));
    part.metadata.emplace_back(std::move(key), std::move(value));
  }
  const auto key_of = [](const auto& entry) -> const std::string& { return entry.first; };
  if (const auto twice = find_duplicate(part.metadata, key_of)) {
    in.fail_at(in.offset(), "key {} appears twice in the metadata", quote(part.metadata[*twice].first));
  }
  for (const auto& [key, value] : part.metadata) {
    if (key != "general.alignment") continue;
    if (value.type != GgufType::u32) in.fail_at(in.offset(), "general.alignment is a {}, wanted u32", name(value.type));
    part.alignment = std::get<std::uint64_t>(value.value);
    // Below 8 the elements of a tensor could not be read in place.
    if (part.alignment < 8 || !std::has_single_bit(part.alignment)) {
      in.fail_at(in.offset(), "general.alignment is {}, wanted a power of two of at least 8", part.alignment);
    }
  }
}

/// Bytes of a tensor; 0 for a type of unknown size. Checks that rows are whole blocks and that nothing overflows.
std::uint64_t tensor_bytes(const Cursor& in, std::uint64_t start, const GgufTensor& tensor) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : tensor.shape) {
    if (__builtin_mul_overflow(elements, extent, &elements)) {
      in.fail_at(start, "tensor {}: shape [{}] has more than 2^63 elements", quote(tensor.name), fmt::join(tensor.shape, ", "));
    }
  }
  const GgmlType* type = find_ggml_type(tensor.ggml_type);
  if (type == nullptr) return 0;
  if (tensor.shape[0] % type->block_elems != 0) {
    in.fail_at(start, "tensor {}: rows of {} elements, wanted a multiple of {} for type {}", quote(tensor.name),
               tensor.shape[0], type->block_elems, type->name);
  }
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(elements / type->block_elems, type->block_bytes, &bytes)) {
    in.fail_at(start, "tensor {}: shape [{}] of type {} takes more than 2^63 bytes", quote(tensor.name),
               fmt::join(tensor.shape, ", "), type->name);
  }
  return static_cast<std::uint64_t>(bytes);
}

/// One entry of the tensor table; `file_offset` is still relative to the data section.
GgufTensor read_tensor(Cursor& in, std::uint64_t index, std::uint64_t alignment, int part) {
  const std::uint64_t start = in.offset();
  GgufTensor tensor;
  tensor.part = part;
  tensor.name = in.read_string(fmt::format("name of tensor {}", index), kMaxKeyBytes);
  if (tensor.name.empty()) in.fail_at(start, "name of tensor {} is empty", index);
  const std::string what = "tensor " + quote(tensor.name);
  const auto dimensions = in.read<std::uint32_t>(what);
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    in.fail_at(in.offset() - 4, "{} has {} dimensions, wanted 1 to {}", what, dimensions, kMaxDimensions);
  }
  for (std::uint32_t d = 0; d < dimensions; ++d) {
    const auto extent = in.read<std::uint64_t>(what);
    if (extent < 1 || extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      in.fail_at(in.offset() - 8, "{}: dimension {} is {}, wanted 1 to 2^63-1", what, d, extent);
    }
    tensor.shape.push_back(static_cast<std::int64_t>(extent));
  }
  tensor.ggml_type = in.read<std::uint32_t>(what);
  if (const GgmlType* type = find_ggml_type(tensor.ggml_type)) tensor.dtype = type->dtype;
  tensor.bytes = tensor_bytes(in, start, tensor);
  tensor.file_offset = in.read<std::uint64_t>(what);
  if (tensor.file_offset % alignment != 0) {
    in.fail_at(in.offset() - 8, "{}: data offset {} is not a multiple of the alignment {}", what, tensor.file_offset,
               alignment);
  }
  return tensor;
}

/// Points every tensor at its bytes, which must lie within the file and not overlap another tensor's.
void place_tensors(const Cursor& in, std::span<const std::byte> bytes, GgufPart& part) {
  const std::uint64_t padding = (part.alignment - in.offset() % part.alignment) % part.alignment;
  if (padding > in.remaining()) {
    in.fail_at(in.offset(), "the tensor data starts at {}, past the end of the file at {} (truncated?)", in.offset() + padding,
               bytes.size());
  }
  const std::uint64_t data_start = in.offset() + padding;
  const std::uint64_t data_bytes = bytes.size() - data_start;
  for (auto& tensor : part.tensors) {
    if (tensor.file_offset > data_bytes || tensor.bytes > data_bytes - tensor.file_offset) {
      in.fail_at(data_start, "tensor {}: data of {} bytes at {} passes the end of the file: the data section holds {} bytes",
                 quote(tensor.name), tensor.bytes, tensor.file_offset, data_bytes);
    }
    tensor.file_offset += data_start;
    tensor.data = bytes.data() + tensor.file_offset;
  }
  std::vector<const GgufTensor*> order;
  order.reserve(part.tensors.size());
  for (const auto& tensor : part.tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->file_offset < b->file_offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->file_offset + order[i - 1]->bytes > order[i]->file_offset) {
      in.fail_at(order[i]->file_offset, "the data of tensors {} and {} overlap", quote(order[i - 1]->name),
                 quote(order[i]->name));
    }
  }
}

}  // namespace

GgufPart parse_gguf(std::span<const std::byte> bytes, const std::string& file, int part_index) {
  Cursor in(bytes, file);
  const Header header = read_header(in);
  GgufPart part;
  part.version = header.version;
  read_metadata(in, header.n_values, part);
  for (std::uint64_t i = 0; i < header.n_tensors; ++i) part.tensors.push_back(read_tensor(in, i, part.alignment, part_index));
  const auto name_of = [](const GgufTensor& tensor) -> const std::string& { return tensor.name; };
  if (const auto twice = find_duplicate(part.tensors, name_of)) {
    in.fail_at(in.offset(), "tensor {} appears twice", quote(part.tensors[*twice].name));
  }
  if (!part.tensors.empty()) place_tensors(in, bytes, part);
  return part;
}

}  // namespace greta
