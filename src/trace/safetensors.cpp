#include "trace/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <system_error>

#include "core/error.h"
#include "core/half.h"
#include "core/quote.h"
#include "trace/json.h"

namespace greta {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little endian");

constexpr std::array<std::string_view, 5> kTypeNames{"F64", "F32", "F16", "BF16", "I64"};
constexpr std::array<std::int64_t, 5> kTypeSizes{8, 4, 2, 2, 8};
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::int64_t kMaxHeader = std::int64_t{16} << 20;
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 62;

std::optional<TensorType> type_from_name(std::string_view wanted) {
  for (std::size_t i = 0; i < kTypeNames.size(); ++i)
    if (kTypeNames[i] == wanted) return static_cast<TensorType>(i);
  return std::nullopt;
}

/// nullopt for negative dimensions and above 2^62 bytes.
std::optional<std::int64_t> element_count(const TensorSpec& spec) {
  std::int64_t elements = 1;
  for (const std::int64_t dim : spec.shape) {
    if (dim < 0) return std::nullopt;
    if (dim > 0 && elements > kMaxBytes / size_of(spec.type) / dim) return std::nullopt;
    elements *= dim;
  }
  return elements;
}

std::string header_text(const std::vector<TensorSpec>& specs, const std::vector<std::pair<std::string, std::string>>& metadata,
                        std::int64_t& total) {
  std::string header;
  json::ObjectWriter object(header);
  if (!metadata.empty()) {
    json::ObjectWriter entries(object.raw(kMetadata));
    for (const auto& [key, value] : metadata) entries.field(key, value);
    entries.end();
  }
  for (const TensorSpec& spec : specs) {
    const std::int64_t bytes = spec.elements() * size_of(spec.type);
    if (bytes > kMaxBytes - total) fail("safetensors: tensors of more than 2^62 bytes; write fewer of them");
    json::ObjectWriter entry(object.raw(spec.name));
    entry.field("dtype", name(spec.type));
    fmt::format_to(std::back_inserter(entry.raw("shape")), "[{}]", fmt::join(spec.shape, ","));
    fmt::format_to(std::back_inserter(entry.raw("data_offsets")), "[{},{}]", total, total + bytes);
    entry.end();
    total += bytes;
  }
  object.end();
  header.append((8 - header.size() % 8) % 8, ' ');  // so that the tensors begin on a multiple of 8
  return header;
}

}  // namespace

std::string_view name(TensorType type) { return kTypeNames[static_cast<std::size_t>(type)]; }
std::int64_t size_of(TensorType type) { return kTypeSizes[static_cast<std::size_t>(type)]; }

TensorType tensor_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return TensorType::f64;
    case DType::f32:
      return TensorType::f32;
    case DType::f16:
      return TensorType::f16;
    case DType::bf16:
      return TensorType::bf16;
    default:
      fail("safetensors: dtype {} has no place in the format (known: f64 f32 f16 bf16); dequantise the rows first",
           name(dtype));
  }
}

std::int64_t TensorSpec::elements() const {
  const auto count = element_count(*this);
  if (!count) fail("safetensors: tensor {} has an impossible shape [{}]", quote(name), fmt::join(shape, ", "));
  return *count;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> specs,
                                     const std::vector<std::pair<std::string, std::string>>& metadata)
    : file_(path) {
  std::set<std::string_view> names{kMetadata};
  for (const TensorSpec& spec : specs)
    if (!names.insert(spec.name).second) fail("{}: tensor name {} twice (or reserved)", path.string(), quote(spec.name));
  const std::string header = header_text(specs, metadata, expected_);
  const auto length = static_cast<std::uint64_t>(header.size());
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(header);
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  given_ += static_cast<std::int64_t>(bytes.size());
  if (given_ > expected_) fail("{}: {} bytes of tensors, {} were announced", file_.path().string(), given_, expected_);
  file_.write(bytes);
}

void SafetensorsWriter::finish() {
  if (given_ != expected_) fail("{}: {} bytes of tensors, {} were announced", file_.path().string(), given_, expected_);
  file_.commit();
}

namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  fail("{}: not a whole safetensors file: {}", path.string(), what);
}

std::vector<std::int64_t> whole_numbers(const json::Value* value, const std::filesystem::path& path, const std::string& where) {
  const json::Value::Numbers* numbers = value == nullptr ? nullptr : value->numbers();
  if (numbers == nullptr) refuse(path, where + " is no array of numbers");
  std::vector<std::int64_t> out;
  for (const double number : *numbers) {
    if (!(number >= 0 && number <= 0x1p53) || number != std::floor(number))
      refuse(path, fmt::format("{} holds {}, wanted whole numbers from 0", where, number));
    out.push_back(static_cast<std::int64_t>(number));
  }
  return out;
}

TensorEntry parse_entry(const std::string& name, const json::Value& value, std::int64_t data_at, std::int64_t data_bytes,
                        const std::filesystem::path& path) {
  const std::string where = "tensor " + quote(name);
  if (value.object() == nullptr) refuse(path, where + " is " + std::string(value.kind()));
  const json::Value* dtype = value.find("dtype");
  const auto type = dtype && dtype->string() ? type_from_name(*dtype->string()) : std::nullopt;
  if (!type) {
    refuse(path, fmt::format("{} has dtype {} (known: {})", where, dtype && dtype->string() ? quote(*dtype->string()) : "none",
                             fmt::join(kTypeNames, ", ")));
  }
  TensorEntry entry;
  entry.name = name;
  entry.type = *type;
  entry.shape = whole_numbers(value.find("shape"), path, where + " shape");
  const auto range = whole_numbers(value.find("data_offsets"), path, where + " data_offsets");
  if (range.size() != 2 || range[0] > range[1] || range[1] > data_bytes)
    refuse(path, fmt::format("{} lies at [{}] of {} bytes of tensors", where, fmt::join(range, ", "), data_bytes));
  entry.offset = data_at + range[0];
  entry.bytes = range[1] - range[0];
  const auto elements = element_count(entry);
  if (!elements || *elements * size_of(entry.type) != entry.bytes)
    refuse(path, fmt::format("{} [{}] {} does not take {} bytes", where, fmt::join(entry.shape, ", "), greta::name(entry.type),
                             entry.bytes));
  return entry;
}

/// Tensors must lie one after the other, from the start of the data to its end.
void check_ranges(const std::vector<TensorEntry>& tensors, std::int64_t data_at, std::int64_t file_size,
                  const std::filesystem::path& path) {
  std::int64_t next = data_at;
  for (const TensorEntry& entry : tensors) {
    if (entry.offset != next)
      refuse(path, fmt::format("tensor {} begins at byte {}, wanted {}", quote(entry.name), entry.offset, next));
    next += entry.bytes;
  }
  if (next != file_size) refuse(path, fmt::format("tensors end at byte {}, the file at {}", next, file_size));
}

void read_at(int fd, const std::filesystem::path& path, std::int64_t offset, std::span<std::byte> to) {
  for (std::size_t at = 0; at < to.size();) {
    const ssize_t got = ::pread(fd, to.data() + at, to.size() - at, static_cast<off_t>(offset) + static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("{}: cannot be read: {}", path.string(), std::generic_category().message(errno));
    if (got == 0) refuse(path, fmt::format("it ends at byte {}", offset + static_cast<std::int64_t>(at)));
    at += static_cast<std::size_t>(got);
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) fail("{}: cannot be opened: {}", path.string(), std::generic_category().message(errno));
  try {
    struct stat status {};
    if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) fail("{}: is no regular file", path.string());
    const auto size = static_cast<std::int64_t>(status.st_size);
    std::uint64_t length = 0;
    if (size < 8) refuse(path_, fmt::format("{} bytes", size));
    read_at(fd_, path_, 0, std::as_writable_bytes(std::span(&length, 1)));
    if (length > static_cast<std::uint64_t>(std::min(kMaxHeader, size - 8)))
      refuse(path_, fmt::format("a header of {} bytes in a file of {} (at most {})", length, size, kMaxHeader));
    std::string header(static_cast<std::size_t>(length), '\0');
    read_at(fd_, path_, 8, std::as_writable_bytes(std::span(header)));
    const auto parsed = json::parse(header);
    if (!parsed) refuse(path_, "header: " + parsed.error());
    if (parsed->object() == nullptr) refuse(path_, "the header is " + std::string(parsed->kind()));
    const std::int64_t data_at = 8 + static_cast<std::int64_t>(length);
    for (const auto& [key, value] : *parsed->object()) {
      if (key != kMetadata) {
        tensors_.push_back(parse_entry(key, value, data_at, size - data_at, path_));
      } else if (value.object() != nullptr) {
        for (const auto& [name, text] : *value.object())
          if (text.string() != nullptr) metadata_.emplace_back(name, *text.string());
      }
    }
    std::stable_sort(tensors_.begin(), tensors_.end(), [](const TensorEntry& a, const TensorEntry& b) {
      return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
    });
    check_ranges(tensors_, data_at, size, path_);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() { ::close(fd_); }

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  for (const TensorEntry& entry : tensors_)
    if (entry.name == name) return &entry;
  return nullptr;
}

std::vector<std::byte> SafetensorsFile::read(const TensorEntry& tensor) const {
  std::vector<std::byte> out(static_cast<std::size_t>(tensor.bytes));
  read_at(fd_, path_, tensor.offset, out);
  return out;
}

std::vector<double> SafetensorsFile::read_f64(const TensorEntry& tensor) const {
  const std::vector<std::byte> bytes = read(tensor);
  std::vector<double> out(bytes.size() / static_cast<std::size_t>(size_of(tensor.type)));
  const auto convert = [&]<class T>(T, auto value) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      T stored;
      std::memcpy(&stored, bytes.data() + i * sizeof(T), sizeof(T));
      out[i] = value(stored);
    }
  };
  switch (tensor.type) {
    case TensorType::f64:
      convert(double{}, [](double x) { return x; });
      break;
    case TensorType::f32:
      convert(float{}, [](float x) { return static_cast<double>(x); });
      break;
    case TensorType::f16:
      convert(std::uint16_t{}, [](std::uint16_t x) { return static_cast<double>(f16_to_f32(x)); });
      break;
    case TensorType::bf16:
      convert(std::uint16_t{}, [](std::uint16_t x) { return static_cast<double>(bf16_to_f32(x)); });
      break;
    case TensorType::i64:
      convert(std::int64_t{}, [&](std::int64_t x) {
        if (x > (std::int64_t{1} << 53) || x < -(std::int64_t{1} << 53))
          fail("{}: tensor {} holds {}, which no float64 is", path_.string(), quote(tensor.name), x);
        return static_cast<double>(x);
      });
      break;
  }
  return out;
}

}  // namespace greta
