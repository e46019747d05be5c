#include "fault/wrong_call.h"

#include "core/error.h"
#include "fault/catalogue.h"

namespace greta {

TensorView WrongCall::serve(const TensorView& instead_of, const KeptRow& row) {
  return serve(instead_of, std::vector<const KeptRow*>(indices.size(), &row));
}

TensorView WrongCall::serve(const TensorView& instead_of, const std::vector<const KeptRow*>& each) {
  auto& bytes = arena.bytes.emplace_back();
  auto& extents = arena.extents.emplace_back();
  auto& ids = arena.ids.emplace_back();
  TensorView view = instead_of;
  for (std::int64_t r = 0; r < n_rows(); ++r) {
    const KeptRow& row = *each[static_cast<std::size_t>(r)];
    if (instead_of.cols(r) != row.cols)
      fail("a fault at {}: the op reads {} elements a row, but the row kept from {} has {}; choose another from=",
           name(site.stage), instead_of.cols(r), name(row.origin.stage), row.cols);
    extents.push_back({static_cast<std::int64_t>(bytes.size()), row.cols});
    bytes.insert(bytes.end(), row.bytes.begin(), row.bytes.end());
    ids.push_back(row.token);
    view.dtype = row.dtype;
    view.origin = row.origin;
  }
  view.data = bytes.data();
  view.extents = extents;
  view.rows = ids;
  return view;
}

}  // namespace greta
