// One row of one op, taken apart: what it reads and what it is told. Hypotheses alter a part and compute again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "audit/arithmetic.h"
#include "audit/contract.h"
#include "audit/dot_bound.h"
#include "audit/estimate.h"
#include "audit/op_graph.h"
#include "audit/rope_bound.h"
#include "audit/rows.h"

namespace greta::audit {

/// A matrix as an op reads it: [n_out, n_in].
struct Matrix {
  std::int64_t n_out = 0, n_in = 0;
  DType dtype = DType::f32;
  WeightRow row;
  std::function<void(std::int64_t o, std::span<double> minima)> minima;
};

/// Slots of K or V as a head of a row reads them: elements [head_dim] of KV head `head` at position j.
using SlotRow = std::function<std::span<const double>(std::int64_t j, int head)>;

/// Attention over keys 0 .. n_keys-1, of which those before first_key are masked.
struct AttentionCase {
  int n_heads = 0, n_kv_heads = 0, head_dim = 0;
  std::int64_t n_keys = 0, first_key = 0;
  double scale = 1, softcap = 0;
  SlotRow slots;
  std::function<int(int head)> kv_head;  // of a query head
  bool own_key = true;                   // false: the score of the last key is -infinity
};

struct RowCase {
  Op op;
  Place place;
  int position = 0;
  std::vector<std::vector<double>> inputs;  // activations, in the order of the op's arguments
  bool quantised = false;                   // inputs[0] is of 8-bit blocks: the product is one of integers
  DType held = DType::f32;                  // type of inputs[0] as stored
  DType stored = DType::f32;                // type of the output
  Matrix matrix;                            // matmul; embed: the table
  std::vector<double> bias;                 // matmul; empty: none
  std::vector<double> gain;                 // rmsnorm
  double eps = 0;                           // rmsnorm
  double factor = 1;                        // embed: scale; softcap: the cap
  std::int64_t token = 0;                   // embed
  Activation activation = Activation::silu;
  Rotation rotation;         // rope
  std::int64_t turn = 0;     // rope: the position to turn by
  AttentionCase attention;   // qk, softmax (heads and keys), pv
  DType slots = DType::f32;  // qk, pv: type of K or V as stored
};

/// What the op reads by the contract: rows of the arm's own stages at `position`, everything else from the model file. Empty
/// with the reason where an input was not kept ("attn_norm layer 3 position 5 was not kept"). `token` is that of the position.
struct RightCase {
  std::unique_ptr<RowCase> row;
  std::string missing;
};
RightCase right_case(const Contract& contract, const Rows& rows, const Op& op, Place place, int position, std::int64_t token);

/// How Q and K of a layer turn, and a tensor of the file as a matrix or vector of an op (empty for an empty name). The model
/// and the tensors outlive them.
Rotation rotation_of(const ModelContract& model, int layer);
Matrix matrix_of(const Tensors& tensors, const std::string& name);
std::vector<double> vector_of(const Tensors& tensors, const std::string& name);

/// What the op should write, and how far rounding may move it.
Estimate estimate(const RowCase& row, const Arithmetic& arithmetic);
/// The same of a matrix product for several rows of its input at once, [n_in] each; `row` says everything else.
std::vector<Estimate> products(const RowCase& row, std::span<const std::span<const double>> inputs,
                               const Arithmetic& arithmetic, AlikeRoundings alike = AlikeRoundings::counted);
/// Sets output o of a product's estimate anew, with the roundings that are alike.
void set_element(const RowCase& row, std::int64_t o, const Arithmetic& arithmetic, Estimate& due);

/// The arithmetic that the route declares for the op: `reference`, `float64`, `q8`, `invariant`; any other name: F32 in 16
/// lanes.
Arithmetic arithmetic_of(std::string_view route, const RowCase& row);

}  // namespace greta::audit
