#include "report/tsv.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <vector>

namespace greta::report {
namespace {

constexpr Stage kMaeColumns[] = {Stage::ffn_norm, Stage::mlp_out,   Stage::x_after_mlp,
                                 Stage::x_out,    Stage::final_rms, Stage::lm_head_in};

std::string cell(const std::optional<double>& value) { return value ? python_repr(*value) : "None"; }
std::string cell(const std::optional<int>& value) { return value ? fmt::format("{}", *value) : "None"; }
std::string cell(const std::optional<bool>& value) { return value ? (*value ? "true" : "false") : "None"; }

}  // namespace

std::string python_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const auto e = text.find('e');
  int exponent = 0;
  const auto* digits_of_exponent = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits_of_exponent, end, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);  // both write two digits of exponent at least
  const auto fixed_end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  std::string fixed(buffer, fixed_end);
  if (fixed.find('.') == std::string::npos) fixed += ".0";
  return fixed;
}

std::string tsv(const isolate::Outcome& outcome) {
  std::vector<std::string> columns = {"prompt", "exp", "first_mismatch_stage"};
  for (const Stage stage : kMaeColumns) columns.push_back(fmt::format("{}_mae", name(stage)));
  for (const char* column : {"logits_mean_delta", "prefill_last_top1", "decode0_top1"}) columns.emplace_back(column);
  columns.push_back(fmt::format("collapse_{}", outcome.collapse.id));
  for (const char* column : {"first_mismatch_layer", "first_mismatch_pos"}) columns.emplace_back(column);

  std::string out = fmt::format("{}\n{}\n", outcome.experiment.title, fmt::join(columns, "\t"));
  for (const isolate::PromptOutcome& prompt : outcome.prompts) {
    const isolate::TableRow& row = prompt.table;
    std::vector<std::string> cells = {prompt.id, std::string(isolate::name(prompt.exp)), row.first_mismatch_stage};
    for (const Stage stage : kMaeColumns) cells.push_back(cell(row.mae_of(stage)));
    cells.push_back(cell(row.logits_mean_delta));
    cells.push_back(cell(row.prefill_last_top1));
    cells.push_back(cell(row.decode0_top1));
    cells.push_back(cell(row.collapse));
    cells.push_back(cell(row.first_mismatch_layer));
    cells.push_back(cell(row.first_mismatch_pos));
    out += fmt::format("{}\n", fmt::join(cells, "\t"));
  }
  return out;
}

}  // namespace greta::report
