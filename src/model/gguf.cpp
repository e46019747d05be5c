#include "model/gguf.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <numeric>

#include "core/error.h"
#include "core/quote.h"
#include "model/gguf_parse.h"
#include "model/mapped_file.h"

namespace greta {
namespace {

constexpr std::array<std::string_view, 13> kTypeNames{"u8",      "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                      "boolean", "string", "array", "u64", "i64", "f64"};

/// "an array of u32", "a string": what a value is, for messages.
std::string describe(const GgufValue& value) {
  if (value.type == GgufType::array) return fmt::format("array of {}", name(value.element));
  return std::string(name(value.type));
}

/// Positions of `items` in the order of their names, for binary search.
template <class Items, class NameOf>
std::vector<std::size_t> sorted_by_name(const Items& items, NameOf name_of) {
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return name_of(items[a]) < name_of(items[b]); });
  return order;
}

template <class Items, class NameOf>
auto find_by_name(const Items& items, const std::vector<std::size_t>& order, std::string_view wanted, NameOf name_of)
    -> decltype(&items[0]) {
  const auto less = [&](std::size_t i, std::string_view key) { return name_of(items[i]) < key; };
  const auto found = std::lower_bound(order.begin(), order.end(), wanted, less);
  return found != order.end() && name_of(items[*found]) == wanted ? &items[*found] : nullptr;
}

std::string_view key_of(const std::pair<std::string, GgufValue>& entry) { return entry.first; }
std::string_view name_of(const GgufTensor& tensor) { return tensor.name; }

/// `prefix-00001-of-00003.gguf`; part counts from 0.
std::string split_name(std::string_view prefix, int part, int count) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, part + 1, count);
}

}  // namespace

std::string_view name(GgufType type) { return kTypeNames[static_cast<std::size_t>(type)]; }

struct Gguf::Impl {
  std::filesystem::path path;
  std::vector<std::unique_ptr<const MappedFile>> files;
  std::uint32_t version = 0;
  std::uint64_t alignment = 0;
  std::vector<std::pair<std::string, GgufValue>> metadata;
  std::vector<GgufTensor> tensors;
  std::vector<std::size_t> metadata_order, tensor_order;
  mutable std::once_flag hash_once;
  mutable std::uint64_t hash = 0;

  GgufPart read_part(const std::filesystem::path& part_path) {
    files.push_back(MappedFile::open(part_path));
    return parse_gguf(files.back()->bytes(), part_path.string(), static_cast<int>(files.size()) - 1);
  }

  const GgufValue* find(std::string_view key) const {
    const auto* entry = find_by_name(metadata, metadata_order, key, key_of);
    return entry != nullptr ? &entry->second : nullptr;
  }

  /// The value of `key` as a T, or nullptr where the key is missing.
  template <class T>
  const T* find_as(std::string_view key, std::string_view wanted) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return nullptr;
    const T* typed = std::get_if<T>(&value->value);
    if (typed == nullptr) wrong_type(key, *value, wanted);
    return typed;
  }

  [[noreturn]] void wrong_type(std::string_view key, const GgufValue& value, std::string_view wanted) const {
    fail("{}: key {} is of type {}, wanted {}", path.string(), quote(key), describe(value), wanted);
  }
  [[noreturn]] void missing(std::string_view key, std::string_view wanted) const {
    fail("{}: key {} is missing, wanted {}", path.string(), quote(key), wanted);
  }

  std::optional<std::int64_t> split_int(const GgufPart& part, std::string_view key, const std::filesystem::path& file) const;
  void add_splits(const GgufPart& first);
};

/// A `split.*` key of one part: an integer of 0 to 2^31-1.
std::optional<std::int64_t> Gguf::Impl::split_int(const GgufPart& part, std::string_view key,
                                                  const std::filesystem::path& file) const {
  for (const auto& [name, value] : part.metadata) {
    if (name != key) continue;
    std::int64_t number = -1;
    if (const auto* u = std::get_if<std::uint64_t>(&value.value)) number = *u > INT32_MAX ? -1 : static_cast<std::int64_t>(*u);
    if (const auto* i = std::get_if<std::int64_t>(&value.value)) number = *i > INT32_MAX ? -1 : *i;
    if (number < 0) fail("{}: key '{}' is not an integer of 0 to {}", file.string(), key, INT32_MAX);
    return number;
  }
  return std::nullopt;
}

/// Adds the other parts' tensors where the first part says that the model is split.
void Gguf::Impl::add_splits(const GgufPart& first) {
  const std::int64_t count = split_int(first, "split.count", path).value_or(1);
  if (count <= 1) return;
  if (count > UINT16_MAX) fail("{}: split.count is {}, wanted at most {}", path.string(), count, UINT16_MAX);
  const int n = static_cast<int>(count);
  const std::string file_name = path.filename().string();
  const std::int64_t number = split_int(first, "split.no", path).value_or(0);
  const std::string suffix = split_name("", static_cast<int>(number), n);
  if (!file_name.ends_with(suffix)) {
    fail("{}: the file says that it is part {} of {} of a split model, so its name must end in '{}'; rename it", path.string(),
         number + 1, n, suffix);
  }
  const std::string prefix = file_name.substr(0, file_name.size() - suffix.size());
  if (number != 0) {
    fail("{}: is part {} of {} of a split model; open the first part, '{}'", path.string(), number + 1, n,
         split_name(prefix, 0, n));
  }
  for (int i = 1; i < n; ++i) {
    const std::filesystem::path part_path = path.parent_path() / split_name(prefix, i, n);
    GgufPart part = read_part(part_path);
    const std::int64_t part_number = split_int(part, "split.no", part_path).value_or(-1);
    const std::int64_t part_count = split_int(part, "split.count", part_path).value_or(-1);
    if (part_number != i || part_count != n) {
      fail("{}: split.no {} and split.count {}, wanted {} and {}", part_path.string(), part_number, part_count, i, n);
    }
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(tensors));
  }
  const auto total = split_int(first, "split.tensors.count", path);
  if (total && static_cast<std::uint64_t>(*total) != tensors.size()) {
    fail("{}: the {} parts hold {} tensors, split.tensors.count wants {}", path.string(), n, tensors.size(), *total);
  }
}

std::shared_ptr<const Gguf> Gguf::open(const std::filesystem::path& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  GgufPart first = impl->read_part(path);
  impl->version = first.version;
  impl->alignment = first.alignment;
  impl->tensors = std::move(first.tensors);
  impl->add_splits(first);
  impl->metadata = std::move(first.metadata);
  impl->metadata_order = sorted_by_name(impl->metadata, key_of);
  impl->tensor_order = sorted_by_name(impl->tensors, name_of);
  for (std::size_t i = 1; i < impl->tensor_order.size(); ++i) {
    const auto& a = impl->tensors[impl->tensor_order[i - 1]];
    const auto& b = impl->tensors[impl->tensor_order[i]];
    if (a.name == b.name) {
      fail("{}: tensor {} appears in parts {} and {}", path.string(), quote(a.name), std::min(a.part, b.part) + 1,
           std::max(a.part, b.part) + 1);
    }
  }
  return std::shared_ptr<const Gguf>(new Gguf(std::move(impl)));
}

Gguf::Gguf(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gguf::~Gguf() = default;

const std::filesystem::path& Gguf::path() const { return impl_->path; }
std::uint32_t Gguf::version() const { return impl_->version; }
std::uint64_t Gguf::alignment() const { return impl_->alignment; }
std::span<const std::pair<std::string, GgufValue>> Gguf::metadata() const { return impl_->metadata; }
std::span<const GgufTensor> Gguf::tensors() const { return impl_->tensors; }
const GgufValue* Gguf::find(std::string_view key) const { return impl_->find(key); }
const GgufTensor* Gguf::find_tensor(std::string_view wanted) const {
  return find_by_name(impl_->tensors, impl_->tensor_order, wanted, name_of);
}

std::optional<std::int64_t> Gguf::optional_int(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* i = std::get_if<std::int64_t>(&value->value)) return *i;
  const auto* u = std::get_if<std::uint64_t>(&value->value);
  if (u == nullptr) impl_->wrong_type(key, *value, "an integer");
  if (*u > static_cast<std::uint64_t>(INT64_MAX)) {
    fail("{}: key {} is {}, wanted at most 2^63-1", impl_->path.string(), quote(key), *u);
  }
  return static_cast<std::int64_t>(*u);
}

std::optional<double> Gguf::optional_float(std::string_view key) const {
  const auto* value = impl_->find_as<double>(key, "f32 or f64");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<bool> Gguf::optional_bool(std::string_view key) const {
  const auto* value = impl_->find_as<bool>(key, "boolean");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

const std::string* Gguf::optional_string(std::string_view key) const { return impl_->find_as<std::string>(key, "string"); }

const GgufValue::Strings* Gguf::optional_strings(std::string_view key) const {
  return impl_->find_as<GgufValue::Strings>(key, "array of string");
}

const GgufValue::Integers* Gguf::optional_ints(std::string_view key) const {
  return impl_->find_as<GgufValue::Integers>(key, "array of integers");
}

const GgufValue::Floats* Gguf::optional_floats(std::string_view key) const {
  return impl_->find_as<GgufValue::Floats>(key, "array of f32 or f64");
}

std::int64_t Gguf::required_int(std::string_view key, std::int64_t min, std::int64_t max) const {
  const auto value = optional_int(key);
  if (!value) impl_->missing(key, fmt::format("an integer of {} to {}", min, max));
  if (*value < min || *value > max) {
    fail("{}: key {} is {}, wanted {} to {}", impl_->path.string(), quote(key), *value, min, max);
  }
  return *value;
}

const std::string& Gguf::required_string(std::string_view key) const {
  const std::string* value = optional_string(key);
  if (value == nullptr) impl_->missing(key, "a string");
  return *value;
}

std::uint64_t Gguf::content_hash() const {
  std::call_once(impl_->hash_once, [this] {
    const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
    if (state == nullptr) throw std::bad_alloc();
    XXH3_64bits_reset(state.get());
    for (const auto& file : impl_->files) XXH3_64bits_update(state.get(), file->bytes().data(), file->bytes().size());
    impl_->hash = XXH3_64bits_digest(state.get());
  });
  return impl_->hash;
}

}  // namespace greta
