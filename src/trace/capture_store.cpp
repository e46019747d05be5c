// records.bin: a header, the names of routes, fixed-size records, and an XXH3-64 of all that. Little endian.
#include "trace/capture_store.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <map>

#include "core/quote.h"
#include "trace/file_io.h"
#include "trace/logits_json.h"

namespace greta {
namespace {

static_assert(std::endian::native == std::endian::little, "records.bin is little endian");

namespace fs = std::filesystem;
constexpr std::string_view kMagic = "GRETACAP";
constexpr std::uint32_t kVersion = 2;
constexpr std::uint64_t kMaxFile = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxJson = std::uint64_t{64} << 20;
constexpr std::uint16_t kNoRoute = 0xffff;
constexpr std::uint8_t kNoDType = 0xff;

struct FileHeader {
  char magic[8];
  std::uint32_t version;
  std::uint32_t record_size;
  std::uint64_t n_records;
  std::uint32_t n_routes;
  std::uint32_t route_bytes;  // of the table that follows: 2 bytes of length, then the name, each
};
static_assert(sizeof(FileHeader) == 32);

enum Flag : std::uint8_t { kReread = 1, kNotExposed = 2, kDecode = 4, kSliceOnly = 8 };

struct FileRecord {
  std::uint64_t hash_lo, hash_hi;
  double min, max, mean, rms, abs_sum;
  std::uint64_t offset_bytes;
  std::uint32_t count, nan, inf, zero;
  std::int32_t layer, position, token_id, step;
  std::uint16_t route;
  std::uint8_t stage, dtype, flags;
  std::uint8_t reserved[3];
};
// Files hold these numbers: who changes one raises kVersion.
static_assert(static_cast<int>(Stage::x_in) == 0 && static_cast<int>(Stage::k_cache) == 10 &&
              static_cast<int>(Stage::logits) == 33);
static_assert(static_cast<int>(DType::f64) == 0 && static_cast<int>(DType::f32) == 1 && static_cast<int>(DType::q4_0) == 5 &&
              static_cast<int>(DType::iq4_xs) == 15 && static_cast<int>(DType::q8_f32) == 16);
static_assert(sizeof(FileRecord) == 104 && std::is_trivially_copyable_v<FileRecord>);

template <class T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

std::uint32_t narrow(std::int64_t value, const char* what, const fs::path& path) {
  if (value < 0 || value > std::numeric_limits<std::uint32_t>::max())
    fail("{}: a row with {} {}; the format holds 0 to 2^32-1", path.string(), what, value);
  return static_cast<std::uint32_t>(value);
}

FileRecord pack(const StageRecord& record, std::uint16_t route, const fs::path& path) {
  FileRecord out{};
  const Fingerprint& print = record.print;
  out.hash_lo = print.hash.lo;
  out.hash_hi = print.hash.hi;
  out.min = print.min;
  out.max = print.max;
  out.mean = print.mean;
  out.rms = print.rms;
  out.abs_sum = print.abs_sum;
  out.offset_bytes = static_cast<std::uint64_t>(record.offset_bytes);
  out.count = narrow(print.count, "count", path);
  out.nan = narrow(print.nan, "nan", path);
  out.inf = narrow(print.inf, "inf", path);
  out.zero = narrow(print.zero, "zero", path);
  out.layer = record.layer;
  out.position = record.position;
  out.token_id = record.token_id;
  out.step = record.step;
  out.route = route;
  out.stage = static_cast<std::uint8_t>(record.stage);
  out.dtype = record.dtype ? static_cast<std::uint8_t>(*record.dtype) : kNoDType;
  out.flags =
      static_cast<std::uint8_t>((record.reread ? kReread : 0) | (record.exposure == Exposure::not_exposed ? kNotExposed : 0) |
                                (record.phase == Phase::decode ? kDecode : 0) | (print.whole_row ? 0 : kSliceOnly));
  return out;
}

std::string records_text(const Capture& capture, const fs::path& path) {
  std::map<std::string, std::uint16_t> numbers;
  std::string table;
  for (const StageRecord& record : capture.records) {
    if (record.route.empty() || numbers.contains(record.route)) continue;
    if (numbers.size() >= kNoRoute || record.route.size() > std::numeric_limits<std::uint16_t>::max())
      fail("{}: route {} does not fit (at most 65,535 routes)", path.string(), quote(record.route));
    numbers.emplace(record.route, static_cast<std::uint16_t>(numbers.size()));
    put(table, static_cast<std::uint16_t>(record.route.size()));
    table += record.route;
  }
  std::string out;
  out.reserve(sizeof(FileHeader) + table.size() + capture.records.size() * sizeof(FileRecord) + 8);
  FileHeader header{};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  header.version = kVersion;
  header.record_size = sizeof(FileRecord);
  header.n_records = capture.records.size();
  header.n_routes = static_cast<std::uint32_t>(numbers.size());
  header.route_bytes = narrow(static_cast<std::int64_t>(table.size()), "route names of bytes", path);
  put(out, header);
  out += table;
  for (const StageRecord& record : capture.records)
    put(out, pack(record, record.route.empty() ? kNoRoute : numbers.at(record.route), path));
  put(out, XXH3_64bits(out.data(), out.size()));
  return out;
}

std::string description_text(const Capture& capture) {
  std::string out;
  json::ObjectWriter object(out);
  object.field("schema", 1);
  append_description(object, capture);
  object.field("n_records", static_cast<std::int64_t>(capture.records.size()));
  std::string& list = object.raw("logits");
  list += '[';
  for (std::size_t i = 0; i < capture.logits.size(); ++i) {
    if (i > 0) list += ',';
    json::ObjectWriter entry(list);
    entry.field("phase", name(capture.logits[i].phase));
    trace::append_logits(entry, capture.logits[i]);
    entry.end();
  }
  list += ']';
  object.end();
  return out + "\n";
}

[[noreturn]] void refuse(const fs::path& path, const std::string& what) {
  fail("{}: not a whole capture: {}; record it again", path.string(), what);
}

StageRecord unpack(const FileRecord& in, const std::vector<std::string>& routes, std::uint64_t index, const fs::path& path) {
  const auto wrong = [&](const char* what, auto value) {
    refuse(path, fmt::format("record {} has {} {}", index, what, value));
  };
  if (in.stage >= kStageCount) wrong("stage", in.stage);
  if (in.dtype != kNoDType && in.dtype >= kDTypeCount) wrong("dtype", in.dtype);
  if (in.route != kNoRoute && in.route >= routes.size()) wrong("route", in.route);
  if (in.flags > (kReread | kNotExposed | kDecode | kSliceOnly)) wrong("flags", in.flags);
  if (in.layer < 0) wrong("layer", in.layer);
  if (in.position < 0) wrong("position", in.position);
  StageRecord out;
  out.stage = static_cast<Stage>(in.stage);
  out.layer = in.layer;
  out.position = in.position;
  out.token_id = in.token_id;
  out.phase = (in.flags & kDecode) != 0 ? Phase::decode : Phase::prefill;
  out.step = in.step;
  out.reread = (in.flags & kReread) != 0;
  out.exposure = (in.flags & kNotExposed) != 0 ? Exposure::not_exposed : Exposure::exposed;
  if (in.dtype != kNoDType) out.dtype = static_cast<DType>(in.dtype);
  out.offset_bytes = static_cast<std::int64_t>(in.offset_bytes);
  if (in.route != kNoRoute) out.route = routes[in.route];
  Fingerprint& print = out.print;
  print.hash = {in.hash_lo, in.hash_hi};
  print.count = in.count;
  print.min = in.min;
  print.max = in.max;
  print.mean = in.mean;
  print.rms = in.rms;
  print.abs_sum = in.abs_sum;
  print.nan = in.nan;
  print.inf = in.inf;
  print.zero = in.zero;
  print.whole_row = (in.flags & kSliceOnly) == 0;
  return out;
}

std::vector<std::string> parse_routes(std::string_view table, std::uint32_t count, const fs::path& path) {
  std::vector<std::string> out;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::uint16_t length = 0;
    if (table.size() < sizeof(length)) refuse(path, "its table of routes is cut");
    std::memcpy(&length, table.data(), sizeof(length));
    table.remove_prefix(sizeof(length));
    if (table.size() < length) refuse(path, "its table of routes is cut");
    out.emplace_back(table.substr(0, length));
    table.remove_prefix(length);
  }
  if (!table.empty()) refuse(path, "its table of routes has bytes left over");
  return out;
}

std::vector<StageRecord> parse_records(const std::string& bytes, const fs::path& path) {
  FileHeader header;
  if (bytes.size() < sizeof(header) + 8)
    refuse(path, fmt::format("{} bytes, a header takes {}", bytes.size(), sizeof(header) + 8));
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::string_view(header.magic, sizeof(header.magic)) != kMagic)
    refuse(path, fmt::format("it begins with {}, wanted {}", quote({header.magic, sizeof(header.magic)}), kMagic));
  if (header.version != kVersion || header.record_size != sizeof(FileRecord))
    refuse(path, fmt::format("version {} with records of {} bytes, this program reads version {} with {}", header.version,
                             header.record_size, kVersion, sizeof(FileRecord)));
  const std::uint64_t body = bytes.size() - sizeof(header) - 8;
  if (header.route_bytes > body || header.n_records != (body - header.route_bytes) / sizeof(FileRecord) ||
      (body - header.route_bytes) % sizeof(FileRecord) != 0)
    refuse(path,
           fmt::format("{} records and {} bytes of routes do not fill {} bytes", header.n_records, header.route_bytes, body));
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + bytes.size() - 8, 8);
  if (const std::uint64_t found = XXH3_64bits(bytes.data(), bytes.size() - 8); found != sum)
    refuse(path, fmt::format("it was altered: XXH3-64 is {:016x}, its end says {:016x}", found, sum));
  const std::vector<std::string> routes =
      parse_routes(std::string_view(bytes).substr(sizeof(header), header.route_bytes), header.n_routes, path);
  std::vector<StageRecord> out;
  out.reserve(static_cast<std::size_t>(header.n_records));
  const char* at = bytes.data() + sizeof(header) + header.route_bytes;
  for (std::uint64_t i = 0; i < header.n_records; ++i, at += sizeof(FileRecord)) {
    FileRecord record;
    std::memcpy(&record, at, sizeof(record));
    out.push_back(unpack(record, routes, i, path));
  }
  return out;
}

Capture parse_capture(const std::string& text, const fs::path& path, std::int64_t& n_records) {
  const auto parsed = json::parse(text, {.depth = 8, .values = 2'000'000});
  if (!parsed) refuse(path, parsed.error());
  const json::Value* schema = parsed->find("schema");
  if (schema == nullptr || schema->integer() != 1) refuse(path, "no schema 1");
  auto capture = parse_description(*parsed);
  if (!capture) refuse(path, capture.error());
  const json::Value* count = parsed->find("n_records");
  n_records = count == nullptr ? -1 : count->integer().value_or(-1);
  const json::Value* logits = parsed->find("logits");
  if (logits != nullptr && logits->array() != nullptr) {
    for (const json::Value& entry : *logits->array()) {
      auto record = trace::parse_logits(entry);
      if (!record) refuse(path, "logits: " + record.error());
      const json::Value* phase = entry.find("phase");
      record->phase = phase && phase->string() && *phase->string() == "decode" ? Phase::decode : Phase::prefill;
      capture->logits.push_back(*record);
    }
  }
  return std::move(*capture);
}

}  // namespace

void write_capture_dir(const fs::path& directory, const Capture& capture) {
  make_directories(directory);
  atomic_write_file(directory / kRecordsFile, records_text(capture, directory / kRecordsFile));
  atomic_write_file(directory / kCaptureJson, description_text(capture));
}

Capture read_capture_dir(const fs::path& directory) {
  const fs::path json_path = directory / kCaptureJson, records_path = directory / kRecordsFile;
  std::int64_t n_records = 0;
  Capture capture = parse_capture(read_file(json_path, kMaxJson), json_path, n_records);
  capture.records = parse_records(read_file(records_path, kMaxFile), records_path);
  if (n_records != static_cast<std::int64_t>(capture.records.size()))
    refuse(records_path, fmt::format("{} records, {} says {}", capture.records.size(), kCaptureJson, n_records));
  return capture;
}

}  // namespace greta
