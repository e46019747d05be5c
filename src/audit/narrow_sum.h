// What an op would write if its sums ran in another type: simulated from its operands, whatever the route.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "audit/row_case.h"
#include "core/dtype.h"

namespace greta::audit {

/// To nearest in `dtype` (f64, f32, f16 or bf16; narrow types by way of F32).
double rounded(double value, DType dtype);

/// How a simulated sum runs.
struct SumOrder {
  DType dtype = DType::f32;
  bool fused = false;     // products are not rounded on their own
  std::size_t lanes = 1;  // chains that the terms go to in turn; one tree adds them (audit/arithmetic.h)
  std::size_t exact = 1;  // terms that are added exactly before a chain gets them: the integers of a block
};

/// A running sum, rounded after every term.
class NarrowSum {
 public:
  explicit NarrowSum(SumOrder order) : order_(order), chains_(order.lanes) {}
  void add(double a, double b);
  double value() const;

 private:
  void push(double product);

  SumOrder order_;
  std::vector<double> chains_;
  std::size_t next_ = 0;
  double block_ = 0;  // of order_.exact terms
  std::size_t in_block_ = 0;
};

/// Whether the op has a sum to run otherwise: matmul, qk, pv, rmsnorm, softmax.
bool has_sum(OpClass op);

/// The row as estimate() lays it out, with its sums (of rmsnorm and softmax all their steps) in `order`; before it is stored.
/// Of a matrix product only `outputs`, one after the other; empty: all. The op must have a sum.
std::vector<double> narrow_row(const RowCase& row, SumOrder order, std::span<const std::int64_t> outputs = {});

}  // namespace greta::audit
