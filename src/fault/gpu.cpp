// Errors inside GPU kernels, and of copies that a kernel does not wait for.
#include <fmt/format.h>

#include <array>

#include "core/blocks.h"
#include "core/error.h"
#include "fault/catalogue.h"
#include "fault/stage_weights.h"
#include "ops/gpu/bridge_ops.h"
#include "ops/stage_op.h"

namespace greta {
namespace {

using gpu::KernelFault;
using gpu::TransferFault;

// Kernels: which have which error in them (src/ops/gpu/kernels).

bool has_variant(KernelFault fault, OpKind op, RouteId route) {
  const bool product = op == OpKind::matmul, row = op == OpKind::rmsnorm || op == OpKind::softmax;
  switch (fault) {
    case KernelFault::missing_barrier:
      return row || (product && route == RouteId::invariant);
    case KernelFault::f16_accumulation:
      return op == OpKind::pv || (product && route != RouteId::free);
    case KernelFault::wrong_wave_size:
      return row || (product && route == RouteId::q8);
    case KernelFault::unread_padding:
      return product && (route == RouteId::reference || route == RouteId::invariant);
    case KernelFault::merge_stride:
      return (op == OpKind::pv || product) && route == RouteId::invariant;
    case KernelFault::narrow_position:
      return op == OpKind::rope || op == OpKind::qk;
    case KernelFault::none:
      break;
  }
  return false;
}

/// What a matrix of the model reads where the plan chose `route`, at best: beside others of another type it may be f32.
DType input_type(RouteId route, DType weight) {
  if (route != RouteId::reference && is_block_type(weight)) return DType::q8_f32;
  const bool rounded = route == RouteId::invariant || route == RouteId::free;
  return rounded && (weight == DType::f16 || weight == DType::bf16) ? weight : DType::f32;
}

RouteId route_of(const FaultTarget& target, OpKind op, DType x, const WeightView& weight) {
  const RouteId chosen = target.routes[op];
  return op == OpKind::matmul ? gpu::matmul_route(chosen, x, weight) : chosen;
}

/// Inputs whose products are summed together (kChunk in kernels/matmul_chunks.h): sums of so many have nothing to merge.
constexpr std::int64_t kInputsOfPart = 512;

/// Why the kernel of a stage cannot have the fault; empty: it can.
std::string hides(KernelFault fault, Stage stage, std::size_t layer, const FaultTarget& target) {
  const bool capped = target.model.config.final_softcap > 0;
  const OpKind op = op_of(stage, capped);
  const WeightView weight = op == OpKind::rmsnorm  ? norm_of(target.model, stage, layer)
                            : op == OpKind::matmul ? matrix_of(target.model, stage, layer).first
                                                   : WeightView{};
  if ((op == OpKind::rmsnorm && !weight) || (stage == Stage::head_out && !capped))
    return fmt::format("the model has no {}", name(stage));
  const RouteId route = route_of(target, op, input_type(target.routes[op], weight.dtype), weight);
  if (!has_variant(fault, op, route))
    return fmt::format("stage {} is made by route {} of {}, which hides it", name(stage), name(route), name(op));
  if (fault == KernelFault::merge_stride && op == OpKind::matmul && weight.n_cols <= kInputsOfPart)
    return fmt::format("stage {} is a sum of {} inputs, and {} are one part", name(stage), weight.n_cols, kInputsOfPart);
  return "";
}

constexpr std::string_view kOnCpu = "the arm computes on the cpu";

template <KernelFault kFault>
std::string lacks_variant(const FaultSpec& fault, const FaultTarget& target) {
  if (target.target != Target::gpu) return std::string(kOnCpu);
  std::string why;
  for (const Stage stage : fault.kind->stages)
    for (std::int32_t l = 0; l < target.n_layers(); ++l) {
      if (!fault.matches_layer(l, stage, target.n_layers())) continue;
      const std::string hidden = hides(kFault, stage, static_cast<std::size_t>(l), target);
      if (hidden.empty()) return "";
      if (why.empty()) why = hidden;
    }
  return why;
}

/// Runs the call with an error in the device's work. Into: what of the ops takes it.
template <class Into, class Fault>
void run_with(Fault fault, WrongCall& call) {
  auto* device = dynamic_cast<Into*>(&call.kernel);
  if (device == nullptr) fail("internal error: a fault of a GPU at {}, which is computed elsewhere", name(call.site.stage));
  const struct Planted {
    Into& in;
    ~Planted() { in.plant(Fault::none); }
  } planted{*device};
  device->plant(fault);
  run(call.kernel, call);
}

template <KernelFault kFault>
void plant_variant(const FaultSpec& fault, WrongCall& call) {
  if (!call.op || !has_variant(kFault, *call.op, route_of(call.target, *call.op, call.x.dtype, call.weight))) return;
  call.instead(fault, [&call] { run_with<gpu::KernelFaults>(kFault, call); });
}

// Transfers: of every op that reads a matrix of activations.

std::string lacks_gpu(const FaultSpec&, const FaultTarget& target) {
  return target.target == Target::gpu ? "" : std::string(kOnCpu);
}

template <TransferFault kFault>
void plant_transfer(const FaultSpec& fault, WrongCall& call) {
  call.instead(fault, [&call] { run_with<gpu::TransferFaults>(kFault, call); });
}

constexpr std::array kBarriers{Stage::attn_norm,
                               Stage::q,
                               Stage::k,
                               Stage::v,
                               Stage::q_norm,
                               Stage::k_norm,
                               Stage::attn_probs,
                               Stage::wo_out,
                               Stage::attn_post_norm,
                               Stage::ffn_norm,
                               Stage::ffn_gate,
                               Stage::ffn_up,
                               Stage::mlp_out,
                               Stage::ffn_post_norm,
                               Stage::final_rms,
                               Stage::head_out,
                               Stage::logits};
constexpr std::array kSums{Stage::q,        Stage::k,      Stage::v,       Stage::attn_out, Stage::wo_out,
                           Stage::ffn_gate, Stage::ffn_up, Stage::mlp_out, Stage::head_out, Stage::logits};
constexpr std::array kProducts{Stage::q,      Stage::k,       Stage::v,        Stage::wo_out, Stage::ffn_gate,
                               Stage::ffn_up, Stage::mlp_out, Stage::head_out, Stage::logits};
constexpr std::array kPositions{Stage::q_rope, Stage::k_rope, Stage::attn_scores};
constexpr std::array kReaders{Stage::attn_norm,
                              Stage::attn_norm_q8,
                              Stage::q,
                              Stage::k,
                              Stage::v,
                              Stage::q_norm,
                              Stage::k_norm,
                              Stage::q_rope,
                              Stage::k_rope,
                              Stage::attn_scores,
                              Stage::attn_probs,
                              Stage::attn_out,
                              Stage::attn_out_q8,
                              Stage::wo_out,
                              Stage::attn_post_norm,
                              Stage::x_after_attn,
                              Stage::ffn_norm,
                              Stage::ffn_norm_q8,
                              Stage::ffn_gate,
                              Stage::ffn_up,
                              Stage::ffn_act,
                              Stage::ffn_act_q8,
                              Stage::mlp_out,
                              Stage::ffn_post_norm,
                              Stage::x_after_mlp,
                              Stage::final_rms,
                              Stage::lm_head_in_q8,
                              Stage::head_out,
                              Stage::logits};

constexpr std::string_view kFirst = "STAGE (omitted: the first whose kernel has it)";
constexpr std::string_view kFirstRace = "STAGE (omitted: the first whose kernel has it), as what differs between runs";
constexpr std::string_view kRace = "STAGE, as what differs between runs";
constexpr std::string_view kGpu = "a GPU backend (cuda, hip or emulated)";
constexpr std::string_view kWonRace =
    "in runs whose timing lets the copy win; the emulated device loses the race in repeats with an odd number";

const auto kRows = std::to_array<FaultInfo>({
    {.name = "gpu-missing-barrier",
     .family = "gpu",
     .doc = "threads of a block read shared memory that others have not written yet: a barrier is left out (of rmsnorm and "
            "softmax on every route, of matmul on route invariant)",
     .found_at = kFirstRace,
     .idle = "where one wave alone writes and reads; where all threads happen to be in time",
     .needs = "a GPU backend (cuda, hip or emulated), and of matrix products route invariant on weights of f16 or bf16",
     .stands_for = "missing barrier before shared memory is reused (llama.cpp#13469, #13742; flashinfer#3624)",
     .stages = kBarriers,
     .shows = ShowsIn::kernel,
     .races = true,
     .plant = plant_variant<KernelFault::missing_barrier>,
     .lacks = lacks_variant<KernelFault::missing_barrier>},
    {.name = "gpu-f16-accumulate",
     .family = "gpu",
     .doc = "a kernel keeps its sums in binary16 (matmul on routes reference, q8 and invariant, pv on every route)",
     .found_at = kFirst,
     .idle = "where every sum is exact in binary16; of route invariant, where the sums of all parts are",
     .needs = "a GPU backend (cuda, hip or emulated), and of matrix products another route than free",
     .stands_for = "FP16 accumulation overflow in QK or PV (llama.cpp#17746, #7805)",
     .stages = kSums,
     .shows = ShowsIn::kernel,
     .plant = plant_variant<KernelFault::f16_accumulation>,
     .lacks = lacks_variant<KernelFault::f16_accumulation>},
    {.name = "gpu-wave-size",
     .family = "gpu",
     .doc = "a reduction takes the wave to have the other size, 32 lanes for 64 or 64 for 32 (rmsnorm and softmax on every "
            "route, matmul on route q8)",
     .found_at = kFirst,
     .idle = "of matrix products with more than 16 rows a call, which have no such reduction",
     .needs = "a GPU backend (cuda, hip or emulated), and of matrix products route q8 on weights of a block type",
     .stands_for = "a wavefront of 64 lanes taken for 32",
     .stages = kBarriers,
     .shows = ShowsIn::kernel,
     .plant = plant_variant<KernelFault::wrong_wave_size>,
     .lacks = lacks_variant<KernelFault::wrong_wave_size>},
    {.name = "gpu-padding",
     .family = "gpu",
     .doc = "a matrix product reads its input rows to the end of their stride, where there is no element (NaN)",
     .found_at = kFirst,
     .needs = "a GPU backend (cuda, hip or emulated), and route reference, or invariant on weights of f16 or bf16",
     .stands_for = "a row stride taken for the row's length (lucebox#128, aiter#3498)",
     .stages = kProducts,
     .shows = ShowsIn::kernel,
     .plant = plant_variant<KernelFault::unread_padding>,
     .lacks = lacks_variant<KernelFault::unread_padding>},
    {.name = "gpu-merge-stride",
     .family = "gpu",
     .doc = "partial sums, of 256 keys (pv) or 512 inputs (matmul) each, are merged with a stride that is an element too long",
     .found_at = kFirst,
     .idle = "of attn_out below position 256, and of products of more than 32 rows a call: nothing is merged there",
     .needs = "a GPU backend (cuda, hip or emulated), and route invariant (of matrix products: on weights of f16 or bf16 with "
              "more than 512 inputs)",
     .stands_for = "empty chunk corrupts the merge of partial softmaxes (sglang#22688)",
     .stages = kSums,
     .shows = ShowsIn::kernel,
     .plant = plant_variant<KernelFault::merge_stride>,
     .lacks = lacks_variant<KernelFault::merge_stride>},
    {.name = "gpu-position-narrow",
     .family = "gpu",
     .doc = "a kernel keeps the position in 8 bits: RoPE turns by it, q.k scores the keys up to it",
     .found_at = "q_rope, k_rope or attn_scores (the first of those chosen), at positions of 256 and above",
     .idle = "below position 256",
     .needs = kGpu,
     .stands_for = "position buffer of 2-byte type holding 4-byte values (gretacore B3.64)",
     .stages = kPositions,
     .shows = ShowsIn::kernel,
     .plant = plant_variant<KernelFault::narrow_position>,
     .lacks = lacks_variant<KernelFault::narrow_position>},
    {.name = "gpu-staging-reused",
     .family = "gpu",
     .doc = "the page-locked buffer with the op's input is written again (with NaN) while the asynchronous copy out of it may "
            "still run",
     .found_at = kRace,
     .idle = kWonRace,
     .needs = kGpu,
     .stands_for = "staging buffer reused under an asynchronous copy (TensorRT-LLM#15546); transfer not awaited "
                   "(TensorRT-LLM#8813)",
     .stages = kReaders,
     .stage_required = true,
     .shows = ShowsIn::kernel,
     .races = true,
     .plant = plant_transfer<TransferFault::staging_reused>,
     .lacks = lacks_gpu},
    {.name = "gpu-wrong-stream",
     .family = "gpu",
     .doc = "the kernel runs on the side stream and does not wait for the copy of its input on the main one (what it reads "
            "before is NaN)",
     .found_at = kRace,
     .idle = kWonRace,
     .needs = kGpu,
     .stands_for = "library handle on the wrong stream (ik_llama.cpp#2347)",
     .stages = kReaders,
     .stage_required = true,
     .shows = ShowsIn::kernel,
     .races = true,
     .plant = plant_transfer<TransferFault::wrong_stream>,
     .lacks = lacks_gpu},
});

}  // namespace

std::span<const FaultInfo> gpu_faults() { return kRows; }

}  // namespace greta
