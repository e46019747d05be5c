#include "ops/cpu/kv_shift.h"

#include <cstring>
#include <vector>

#include "ops/cpu/convert.h"
#include "ops/float64/float64.h"
#include "ops/reference/reference.h"

namespace greta {
namespace {

/// The slots that go to site.rows, one after the other as stored.
std::vector<std::byte> read_slots(const OpSite& site, const KvShift& shift, KvView& kv) {
  const auto bytes = static_cast<std::size_t>(row_bytes(kv.dtype(), kv.width()));
  std::vector<std::byte> stored;
  stored.reserve(bytes * site.rows.size());
  for (const RowId& row : site.rows) {
    const std::byte* slot = kv.read_slot(shift.part, site.layer, {row.seq, row.position - shift.delta});
    stored.insert(stored.end(), slot, slot + bytes);
  }
  return stored;
}

/// Values as activations, [rows, width].
std::vector<std::byte> widened(const std::vector<std::byte>& stored, DType from, std::int64_t n, DType to) {
  std::vector<double> values(static_cast<std::size_t>(n));
  widen_row(from, stored.data(), n, values.data());  // slots are whole blocks, so all rows are one
  std::vector<std::byte> out(static_cast<std::size_t>(row_bytes(to, n)));
  convert_row(DType::f64, reinterpret_cast<const std::byte*>(values.data()), n, to, out.data());
  return out;
}

}  // namespace

void shift_slots(const OpSite& site, const KvShift& shift, KvView& kv, DType activations, const RopeKernel& rope) {
  const auto n_rows = static_cast<std::int64_t>(site.rows.size());
  const std::int64_t width = kv.width();
  const auto slot_bytes = static_cast<std::size_t>(row_bytes(kv.dtype(), width));
  const std::vector<std::byte> stored = read_slots(site, shift, kv);
  if (shift.part == KvPart::v || shift.turn == 0) {
    for (std::size_t r = 0; r < site.rows.size(); ++r)
      std::memcpy(kv.write_slot(shift.part, site.layer, site.rows[r]), stored.data() + r * slot_bytes, slot_bytes);
    return;
  }
  std::vector<std::byte> values = widened(stored, kv.dtype(), n_rows * width, activations);
  std::vector<std::byte> turned(values.size());
  TensorView x;
  x.data = values.data();
  x.dtype = activations;
  x.n_rows = n_rows;
  x.n_cols = width;
  x.row_stride = row_bytes(activations, width);
  x.rows = site.rows;
  TensorView out = x;
  out.data = turned.data();
  rope(x, shift.rope, std::vector<std::int32_t>(site.rows.size(), shift.turn), out);
  for (std::int64_t r = 0; r < n_rows; ++r) {
    convert_row(activations, out.row(r), width, kv.dtype(),
                kv.write_slot(shift.part, site.layer, site.rows[static_cast<std::size_t>(r)]));
  }
}

namespace reference {
void kv_shift(const CpuContext& context, const OpSite& site, const KvShift& shift, KvView& kv) {
  shift_slots(site, shift, kv, DType::f32, [&context](const auto&... operands) { rope(context, operands...); });
}
}  // namespace reference

namespace float64 {
void kv_shift(const CpuContext& context, const OpSite& site, const KvShift& shift, KvView& kv) {
  shift_slots(site, shift, kv, DType::f64, [&context](const auto&... operands) { rope(context, operands...); });
}
}  // namespace float64

}  // namespace greta
