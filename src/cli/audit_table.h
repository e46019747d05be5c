// What an audit prints: a table with one verdict, as text or as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace greta::cli {

/// A number for a table or JSON, which has no infinities: "inf", "-inf" and "nan" are strings.
nlohmann::ordered_json number(double value);

/// Cells are strings, numbers or null (printed "-"). Every row says whether it holds.
class AuditTable {
 public:
  AuditTable(std::string audit, std::vector<std::string> columns) : audit_(std::move(audit)), columns_(std::move(columns)) {}

  /// One cell a column. `finding`: what is wrong, in one line; empty where the row holds.
  void add(std::vector<nlohmann::ordered_json> cells, std::string finding = {});
  /// A line below the table.
  void note(std::string line) { notes_.push_back(std::move(line)); }
  /// The audit could not tell: nothing was compared, or what was compared could not have failed.
  void cannot_tell(std::string why);

  /// Prints to stdout and returns the exit code: 0 AGREE, 1 DIVERGED (a row has a finding), 2 VACUOUS.
  int finish(bool json) const;

 private:
  struct Row {
    std::vector<nlohmann::ordered_json> cells;
    std::string finding;
  };
  std::string_view verdict() const;
  void print_text() const;
  void print_json() const;

  std::string audit_;
  std::vector<std::string> columns_;
  std::vector<Row> rows_;
  std::vector<std::string> notes_;
  std::string vacuous_;
};

}  // namespace greta::cli
