#include "model/gguf_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/error.h"
#include "model/ggml_types.h"

namespace greta {
namespace {

constexpr std::uint64_t kAlignment = 32;  // the format's default, so it need not be written

std::uint64_t align_up(std::uint64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }

template <class T>
void append(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void append_string(std::string& out, std::string_view text) {
  append<std::uint64_t>(out, text.size());
  out += text;
}

/// A number as `type` stores it. Values were read from that type, so none is out of its range.
template <class T>
void append_number(std::string& out, GgufType type, T value) {
  switch (type) {
    case GgufType::u8:
    case GgufType::boolean:
      return append(out, static_cast<std::uint8_t>(value));
    case GgufType::i8:
      return append(out, static_cast<std::int8_t>(value));
    case GgufType::u16:
      return append(out, static_cast<std::uint16_t>(value));
    case GgufType::i16:
      return append(out, static_cast<std::int16_t>(value));
    case GgufType::u32:
      return append(out, static_cast<std::uint32_t>(value));
    case GgufType::i32:
      return append(out, static_cast<std::int32_t>(value));
    case GgufType::u64:
      return append(out, static_cast<std::uint64_t>(value));
    case GgufType::i64:
      return append(out, static_cast<std::int64_t>(value));
    case GgufType::f32:
      return append(out, static_cast<float>(value));
    case GgufType::f64:
      return append(out, static_cast<double>(value));
    case GgufType::string:
    case GgufType::array:
      break;  // no numbers
  }
}

}  // namespace

GgufWriter::GgufWriter(std::filesystem::path path, bool overwrite)
    : path_(std::move(path)), incomplete_(path_.string() + ".incomplete"), overwrite_(overwrite) {
  if (std::filesystem::is_directory(path_)) fail("{}: is a directory, wanted a file to write", path_.string());
  if (!overwrite_ && std::filesystem::exists(path_)) fail("{}: exists already; give another name or --force", path_.string());
  fd_ = ::open(incomplete_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_with(errno, "cannot be created");
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(std::exchange(fd_, -1));  // the other writer's file stays
    fail("{}: another process is writing it", path_.string());
  }
  if (::ftruncate(fd_, 0) != 0) fail_with(errno, "cannot be emptied");
}

GgufWriter::~GgufWriter() {
  if (fd_ < 0) return;
  ::unlink(incomplete_.c_str());
  ::close(fd_);
}

void GgufWriter::fail_with(int code, std::string_view what) const {
  fail("{}: {}: {}", incomplete_.string(), what, std::system_category().message(code));
}

void GgufWriter::begin_value(std::string_view key, GgufType type) {
  if (data_start_ != 0) fail("{}: metadata '{}' after the tensor table was written", path_.string(), key);
  append_string(values_, key);
  append(values_, static_cast<std::uint32_t>(type));
  ++n_values_;
}

void GgufWriter::set(std::string_view key, std::uint32_t value) {
  begin_value(key, GgufType::u32);
  append(values_, value);
}

void GgufWriter::set(std::string_view key, float value) {
  begin_value(key, GgufType::f32);
  append(values_, value);
}

void GgufWriter::set(std::string_view key, bool value) {
  begin_value(key, GgufType::boolean);
  append(values_, static_cast<std::uint8_t>(value ? 1 : 0));
}

void GgufWriter::set(std::string_view key, std::string_view value) {
  begin_value(key, GgufType::string);
  append_string(values_, value);
}

void GgufWriter::set(std::string_view key, std::span<const std::string> values) {
  begin_value(key, GgufType::array);
  append(values_, static_cast<std::uint32_t>(GgufType::string));
  append<std::uint64_t>(values_, values.size());
  for (const auto& value : values) append_string(values_, value);
}

void GgufWriter::set(std::string_view key, std::span<const std::int32_t> values) {
  begin_value(key, GgufType::array);
  append(values_, static_cast<std::uint32_t>(GgufType::i32));
  append<std::uint64_t>(values_, values.size());
  for (const auto value : values) append(values_, value);
}

void GgufWriter::set(std::string_view key, const GgufValue& value) {
  begin_value(key, value.type);
  const auto visitor = [&](const auto& held) {
    using Held = std::decay_t<decltype(held)>;
    if constexpr (std::is_same_v<Held, std::string>) {
      append_string(values_, held);
    } else if constexpr (requires { held.size(); }) {
      append(values_, static_cast<std::uint32_t>(value.element));
      append<std::uint64_t>(values_, held.size());
      for (const auto& element : held) {
        if constexpr (std::is_same_v<Held, GgufValue::Strings>) {
          append_string(values_, element);
        } else {
          append_number(values_, value.element, element);
        }
      }
    } else {
      append_number(values_, value.type, held);
    }
  };
  std::visit(visitor, value.value);
}

std::size_t GgufWriter::add_tensor(std::string name, DType dtype, std::vector<std::int64_t> shape) {
  if (data_start_ != 0) fail("{}: tensor '{}' after the tensor table was written", path_.string(), name);
  const auto& info = dtype_info(dtype);
  if (shape.empty() || shape[0] % info.block_elems != 0) {
    fail("{}: tensor '{}': rows of {} elements, wanted a multiple of {} for type {}", path_.string(), name,
         shape.empty() ? 0 : shape[0], info.block_elems, info.name);
  }
  std::int64_t rows = 1;
  for (std::size_t d = 1; d < shape.size(); ++d) rows *= shape[d];
  const auto bytes = static_cast<std::uint64_t>(row_bytes(dtype, shape[0]) * rows);
  const std::uint64_t offset = data_bytes();
  entries_.push_back({std::move(name), dtype, std::move(shape), bytes, offset});
  return entries_.size() - 1;
}

std::uint64_t GgufWriter::data_bytes() const {
  return entries_.empty() ? 0 : align_up(entries_.back().offset + entries_.back().bytes);
}

void GgufWriter::begin_data() {
  std::string head = "GGUF";
  append<std::uint32_t>(head, 3);
  append<std::uint64_t>(head, entries_.size());
  append<std::uint64_t>(head, n_values_);
  head += values_;
  for (const auto& entry : entries_) {
    append_string(head, entry.name);
    append(head, static_cast<std::uint32_t>(entry.shape.size()));
    for (const auto extent : entry.shape) append(head, static_cast<std::uint64_t>(extent));
    append(head, ggml_type_of(entry.dtype));
    append(head, entry.offset);
  }
  head.resize(align_up(head.size()), '\0');
  data_start_ = head.size();
  const auto total = static_cast<off_t>(data_start_ + data_bytes());
  // A full disk is found now, not after minutes. Where the file system cannot reserve, the writes will tell.
  if (::fallocate(fd_, 0, 0, total) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    fail_with(errno, fmt::format("cannot reserve {} bytes", total));
  }
  if (::ftruncate(fd_, total) != 0) fail_with(errno, fmt::format("cannot be made {} bytes long", total));
  write_at(0, std::as_bytes(std::span(head)));
}

void GgufWriter::write(std::size_t tensor, std::uint64_t offset, std::span<const std::byte> bytes) {
  const Entry& entry = entries_.at(tensor);
  if (offset > entry.bytes || bytes.size() > entry.bytes - offset) {
    fail("{}: tensor '{}': {} bytes at {} pass its end at {}", path_.string(), entry.name, bytes.size(), offset, entry.bytes);
  }
  write_at(data_start_ + entry.offset + offset, bytes);
  written_ += bytes.size();
}

void GgufWriter::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail_with(done < 0 ? errno : EIO, fmt::format("cannot write {} bytes at {}", bytes.size(), offset));
    offset += static_cast<std::uint64_t>(done);
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void GgufWriter::finish() {
  std::uint64_t wanted = 0;
  for (const auto& entry : entries_) wanted += entry.bytes;
  if (data_start_ == 0) begin_data();
  if (written_ != wanted) fail("{}: {} bytes of tensor data were written, wanted {}", path_.string(), written_.load(), wanted);
  if (::fsync(fd_) != 0) fail_with(errno, "cannot be flushed to the disk");
  if (!overwrite_ && std::filesystem::exists(path_)) fail("{}: exists by now; give another name or --force", path_.string());
  if (::rename(incomplete_.c_str(), path_.c_str()) != 0)
    fail_with(errno, fmt::format("cannot be renamed to {}", path_.string()));
  ::close(std::exchange(fd_, -1));
}

}  // namespace greta
