#include "cli/audit_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/utf8.h"

namespace greta::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& cell) {
  if (cell.is_null()) return "-";
  if (cell.is_string()) return cell.get<std::string>();
  if (cell.is_number_float()) return fmt::format("{:.3g}", cell.get<double>());
  return cell.dump();
}

bool is_number(const Json& cell) { return cell.is_number() || cell.is_null(); }

}  // namespace

Json number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

void AuditTable::add(std::vector<Json> cells, std::string finding) {
  if (cells.size() != columns_.size())
    fail("internal error: audit {}: a row of {} cells for {} columns", audit_, cells.size(), columns_.size());
  rows_.push_back({std::move(cells), std::move(finding)});
}

void AuditTable::cannot_tell(std::string why) {
  if (vacuous_.empty()) vacuous_ = std::move(why);
}

std::string_view AuditTable::verdict() const {
  for (const Row& row : rows_)
    if (!row.finding.empty()) return "DIVERGED";
  return vacuous_.empty() && !rows_.empty() ? "AGREE" : "VACUOUS";
}

int AuditTable::finish(bool json) const {
  json ? print_json() : print_text();
  const std::string_view said = verdict();
  return static_cast<int>(said == "AGREE" ? ExitCode::ok : said == "DIVERGED" ? ExitCode::diverged : ExitCode::misuse);
}

/// A column of numbers alone is right-aligned; the last column is the finding.
void AuditTable::print_text() const {
  const std::size_t n = columns_.size();
  std::vector<std::size_t> width(n);
  std::vector<bool> numeric(n, true);
  for (std::size_t c = 0; c < n; ++c) {
    width[c] = columns_[c].size();
    for (const Row& row : rows_) {
      width[c] = std::max(width[c], text_of(row.cells[c]).size());
      numeric[c] = numeric[c] && is_number(row.cells[c]);
    }
  }
  const auto print = [&](const auto& cell, const std::string& end) {
    std::string line;
    for (std::size_t c = 0; c < n; ++c) {
      if (c > 0) line += "  ";
      line += numeric[c] ? fmt::format("{:>{}}", cell(c), width[c]) : fmt::format("{:<{}}", cell(c), width[c]);
    }
    fmt::print("{}  {}\n", line, end);
  };
  print([&](std::size_t c) { return columns_[c]; }, "holds");
  for (const Row& row : rows_)
    print([&](std::size_t c) { return text_of(row.cells[c]); }, row.finding.empty() ? "yes" : "NO: " + row.finding);
  for (const std::string& note : notes_) fmt::print("{}\n", note);
  fmt::print("audit {}: {}{}\n", audit_, verdict(), verdict() == "VACUOUS" ? " (" + vacuous_ + ")" : "");
}

void AuditTable::print_json() const {
  Json out{{"audit", audit_}, {"verdict", verdict()}};
  if (!vacuous_.empty()) out["reason"] = vacuous_;
  out["rows"] = Json::array();
  for (const Row& row : rows_) {
    Json object = Json::object();
    for (std::size_t c = 0; c < columns_.size(); ++c) object[columns_[c]] = row.cells[c];
    object["holds"] = row.finding.empty();
    object["finding"] = row.finding.empty() ? Json() : Json(row.finding);
    out["rows"].push_back(std::move(object));
  }
  out["notes"] = notes_;
  fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace greta::cli
