#include "audit/row_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "audit/attention_bound.h"
#include "audit/elementwise_bound.h"
#include "audit/norm_bound.h"
#include "audit/storage_bound.h"

namespace greta::audit {
std::vector<double> vector_of(const Tensors& tensors, const std::string& name) {
  if (name.empty()) return {};
  std::vector<double> out(static_cast<std::size_t>(tensors.find(name)->cols));
  tensors.row(name, 0, out);
  return out;
}

Matrix matrix_of(const Tensors& tensors, const std::string& name) {
  const TensorShape shape = *tensors.find(name);
  Matrix out{shape.rows, shape.cols, shape.dtype, {}, {}};
  out.row = [&tensors, name](std::int64_t o, std::span<double> weights) { tensors.row(name, o, weights); };
  out.minima = [&tensors, name](std::int64_t o, std::span<double> minima) { tensors.minima(name, o, minima); };
  return out;
}

Rotation rotation_of(const ModelContract& model, int layer) {
  const LayerContract& own = model.layers[static_cast<std::size_t>(layer)];
  return {.theta = own.rope_theta,
          .head_dim = model.head_dim,
          .n_rot = model.rope_dim,
          .interleaved = model.rope_interleaved,
          .linear_scale = own.rope_linear_scale,
          .freq_factors = model.rope_freq_factors};
}

namespace {

AttentionCase attention_of(const ModelContract& model, const Rows& rows, Place slots, int layer, int position) {
  const int window = model.layers[static_cast<std::size_t>(layer)].window;
  AttentionCase out;
  out.n_heads = model.n_heads;
  out.n_kv_heads = model.n_kv_heads;
  out.head_dim = model.head_dim;
  out.n_keys = position + std::int64_t{1};
  out.first_key = window > 0 ? std::max<std::int64_t>(0, out.n_keys - window) : 0;
  out.scale = model.attention_scale;
  out.softcap = model.attention_softcap;
  const auto dim = static_cast<std::size_t>(model.head_dim);
  out.slots = [&rows, slots, dim](std::int64_t j, int head) {
    return rows.row(slots.stage, slots.layer, static_cast<int>(j)).subspan(static_cast<std::size_t>(head) * dim, dim);
  };
  const int group = model.n_heads / model.n_kv_heads;
  out.kv_head = [group](int head) { return head / group; };
  return out;
}

bool is_slots(Stage stage) { return stage == Stage::k_cache || stage == Stage::v_cache; }

/// Appends a head's estimate to the row's.
void append(Estimate& row, Estimate&& part) {
  row.group = part.value.size();
  const auto add = [](std::vector<double>& to, const std::vector<double>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  add(row.value, part.value);
  add(row.bound, part.bound);
  add(row.worst, part.worst);
  add(row.common, part.common);
}

Estimate heads(const RowCase& row, const Arithmetic& arithmetic) {
  const AttentionCase& a = row.attention;
  const auto keys = static_cast<std::size_t>(a.n_keys), dim = static_cast<std::size_t>(a.head_dim);
  const std::span<const double> input = row.inputs[0];
  Estimate out;
  for (int head = 0; head < a.n_heads; ++head) {
    const auto h = static_cast<std::size_t>(head);
    const int source = a.kv_head ? a.kv_head(head) : 0;
    const KeyRow slots = [&a, source](std::int64_t j) { return a.slots(j, source); };
    switch (row.op.op) {
      case OpClass::qk:
        append(out, qk(input.subspan(h * dim, dim), a.n_keys, slots, {a.scale, a.softcap, a.first_key}, arithmetic));
        if (!a.own_key) put_exact(out, out.value.size() - 1, -std::numeric_limits<double>::infinity());
        break;
      case OpClass::softmax:
        append(out, softmax(input.subspan(h * keys, keys), arithmetic));
        break;
      default:
        append(out, pv(input.subspan(h * keys, keys), a.head_dim, slots, a.first_key, arithmetic));
    }
  }
  return out;
}

}  // namespace

RightCase right_case(const Contract& contract, const Rows& rows, const Op& op, Place place, int position, std::int64_t token) {
  const ModelContract& model = contract.model;
  auto row = std::make_unique<RowCase>();
  row->op = op;
  row->place = place;
  row->position = position;
  row->stored = rows.dtype(place.stage, place.layer).value_or(DType::f32);
  if (!op.weight.empty() && !contract.tensors.find(op.weight))
    return {nullptr, fmt::format("tensor {} is not in the model file", op.weight)};
  for (const Place& input : op.inputs) {
    const bool all = is_slots(input.stage);
    for (int p = all ? 0 : position; p <= position; ++p) {
      const auto values = rows.row(input.stage, input.layer, p);
      if (values.empty())
        return {nullptr, fmt::format("{} layer {} position {} was not kept", name(input.stage), input.layer, p)};
      if (!all) row->inputs.emplace_back(values.begin(), values.end());
    }
  }
  if (!op.inputs.empty()) {
    row->held = rows.dtype(op.inputs[0].stage, op.inputs[0].layer).value_or(DType::f32);
    row->quantised = op.op == OpClass::matmul && row->held == DType::q8_f32;
  }
  switch (op.op) {
    case OpClass::embed:
      row->matrix = matrix_of(contract.tensors, op.weight);
      row->factor = model.embedding_scale;
      row->token = token;
      break;
    case OpClass::rmsnorm:
      row->gain = vector_of(contract.tensors, op.weight);
      row->eps = model.rms_eps;
      break;
    case OpClass::matmul:
      row->matrix = matrix_of(contract.tensors, op.weight);
      row->bias = vector_of(contract.tensors, op.bias);
      break;
    case OpClass::rope:
      row->rotation = rotation_of(model, place.layer);
      row->turn = position;
      break;
    case OpClass::qk:
    case OpClass::pv:
      row->attention = attention_of(model, rows, op.inputs[1], place.layer, position);
      row->slots = rows.dtype(op.inputs[1].stage, op.inputs[1].layer).value_or(DType::f32);
      break;
    case OpClass::softmax:
      row->attention = attention_of(model, rows, {}, place.layer, position);
      break;
    case OpClass::softcap:
      row->factor = model.final_softcap;
      break;
    case OpClass::act_mul:
      row->activation = model.activation;
      break;
    default:
      break;
  }
  return {std::move(row), {}};
}

std::vector<Estimate> products(const RowCase& row, std::span<const std::span<const double>> inputs,
                               const Arithmetic& arithmetic, AlikeRoundings alike) {
  if (!row.quantised) return matmul(inputs, row.matrix.n_out, row.matrix.row, row.bias, arithmetic, alike);
  const auto weights = [&row](std::int64_t o, std::span<double> values, std::span<double> minima) {
    row.matrix.row(o, values);
    if (!minima.empty()) row.matrix.minima(o, minima);
  };
  return integer_matmul(inputs, row.matrix.n_out, integer_blocks(row.matrix.dtype), weights, row.bias, arithmetic);
}

void set_element(const RowCase& row, std::int64_t o, const Arithmetic& arithmetic, Estimate& due) {
  const std::span<const double> x = row.inputs[0];
  const auto at = static_cast<std::size_t>(o);
  const auto weights = [&](std::int64_t, std::span<double> values) { row.matrix.row(o, values); };
  const auto bias = row.bias.empty() ? std::span<const double>() : std::span(row.bias).subspan(at, 1);
  const Estimate one = matmul({&x, 1}, 1, weights, bias, arithmetic).front();
  due.value[at] = one.value[0];
  due.bound[at] = one.bound[0];
  due.worst[at] = one.worst[0];
  due.common[at] = one.common[0];
}

Estimate estimate(const RowCase& row, const Arithmetic& arithmetic) {
  switch (row.op.op) {
    case OpClass::embed: {
      std::vector<double> values(static_cast<std::size_t>(row.matrix.n_in));
      row.matrix.row(row.token, values);
      return embed(values, row.factor, arithmetic);
    }
    case OpClass::rmsnorm:
      return rmsnorm(row.inputs[0], row.gain, row.eps, arithmetic);
    case OpClass::matmul: {
      const std::span<const double> x = row.inputs[0];
      return std::move(products(row, {&x, 1}, arithmetic).front());
    }
    case OpClass::rope:
      return rope(row.inputs[0], row.rotation, row.turn, arithmetic);
    case OpClass::kv_write:
      return kv_write(row.inputs[0], row.stored, row.held);
    case OpClass::qk:
    case OpClass::softmax:
    case OpClass::pv:
      return heads(row, arithmetic);
    case OpClass::add:
      return add(row.inputs[0], row.inputs[1], arithmetic);
    case OpClass::act_mul:
      return act_mul(row.activation, row.inputs[0], row.inputs[1], arithmetic);
    case OpClass::softcap:
      return softcap(row.inputs[0], row.factor, arithmetic);
    case OpClass::quantize:
      return row.stored == DType::q8_f32 ? activation_blocks(row.inputs[0], row.held)
                                         : kv_write(row.inputs[0], row.stored, row.held);
    case OpClass::handoff:
      return handoff(row.inputs[0]);
  }
  return Estimate();
}

Arithmetic arithmetic_of(std::string_view route, const RowCase& row) {
  if (route == "float64") return float64_arithmetic(row.stored);
  if (row.quantised) return chain_arithmetic();
  const bool attends = row.op.op == OpClass::qk || row.op.op == OpClass::pv;
  if (attends && route == "invariant" && (row.slots == DType::f16 || row.slots == DType::bf16)) return split_core_arithmetic();
  if (row.op.op == OpClass::matmul && (row.held == DType::f16 || row.held == DType::bf16)) return matrix_core_arithmetic();
  return row.op.op == OpClass::pv ? chain_arithmetic() : reference_arithmetic();
}

}  // namespace greta::audit
