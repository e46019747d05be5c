// KV write: rows rounded to the cache's dtype, half to even.
#include <vector>

#include "ops/cpu/convert.h"
#include "ops/reference/reference.h"

namespace greta::reference {

void kv_write(const CpuContext&, const OpSite& site, const TensorView& x, KvPart part, KvView& kv) {
  for (std::int64_t r = 0; r < x.n_rows; ++r) {
    std::byte* slot = kv.write_slot(part, site.layer, site.rows[static_cast<std::size_t>(r)]);
    convert_row(x.dtype, x.row(r), x.n_cols, kv.dtype(), slot);
  }
}

}  // namespace greta::reference
