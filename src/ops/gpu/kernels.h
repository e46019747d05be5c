// The kernels of a GPU as the host calls them: plain arguments, one function an op, one table a target. Nothing of a vendor.
//
// Pointers are device memory unless a name says `host`. Matrices are row-major with rows `stride` bytes apart; `n_rows` counts
// tokens. All work is queued on `stream` and nothing waits. Operands are checked by the caller.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/activation.h"
#include "core/dtype.h"
#include "core/fingerprint_mix.h"
#include "core/row_sums.h"
#include "ops/routes.h"

namespace greta::gpu {

/// A queue of a device: cudaStream_t, hipStream_t or nothing.
using Stream = void*;

/// Where and how large a kernel runs; `name` is the op's, for messages.
struct Launch {
  const char* name = nullptr;
  Stream stream = nullptr;
  std::int64_t x = 1;  // blocks
  std::int64_t y = 1;
  std::int64_t z = 1;
  int threads = 1;         // of a block
  std::size_t shared = 0;  // bytes of shared memory a block
};
/// Throws Error: "kernel 'qk' of 32x4x1 blocks of 128 threads, 0 bytes shared: <words>".
[[noreturn]] void launch_failed(const Launch& at, const char* words);
/// Remembers the launch: errors of a kernel show after it, and the message then names the last launch. True where the caller is
/// to wait for the kernel (wait_for_launches in device.h), so that it is surely the one.
bool note_launch(const Launch& at);

/// A deliberate error inside a kernel (fault/gpu.cpp plants them); `none` compiles to the healthy kernel.
enum class KernelFault : std::uint8_t {
  none,
  missing_barrier,   // shared memory is read before every thread has written it
  f16_accumulation,  // sums kept in binary16
  wrong_wave_size,   // a reduction that assumes waves of the other size
  unread_padding,    // columns beyond the row enter the sum
  merge_stride,      // partial sums merged with a stride off by one
  narrow_position,   // the position goes through 8 bits
};

/// Rows of a call.
struct RowsArg {
  std::int32_t n = 0;
  const std::int32_t* position = nullptr;      // [n]
  const std::int32_t* sequence = nullptr;      // [n], index of the row's sequence in KvArg
  const std::int64_t* score_offset = nullptr;  // [n], elements from a score buffer's start to the row's [n_heads, position + 1]
  std::int32_t most_keys = 0;                  // position + 1 is at most this in every row
};

/// K or V of one layer: slot of (sequence, position) at base + sequence * sequence_stride + position * slot_stride bytes.
struct KvArg {
  std::byte* base = nullptr;
  DType dtype = DType::f32;  // f32, f16 or bf16
  std::int64_t sequence_stride = 0;
  std::int64_t slot_stride = 0;
  std::int32_t width = 0;  // n_kv_heads * head_dim
};

/// A matrix of activations.
struct MatrixArg {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t n_cols = 0;
  std::int64_t stride = 0;  // bytes
};

struct WeightArg {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t n_rows = 0;  // outputs
  std::int64_t n_cols = 0;  // inputs
  bool transposed = false;  // element (o, i) at i * n_rows + o; of f32, f16 and bf16
};

struct EmbedArgs {
  WeightArg table;
  const std::int32_t* tokens = nullptr;  // [n_rows]
  std::int32_t n_rows = 0;
  float scale = 1;
  MatrixArg out;  // f32
};
struct RmsnormArgs {
  MatrixArg x, out;               // f32
  const float* weight = nullptr;  // [n]
  std::int32_t n_rows = 0;
  std::int32_t n = 0;  // columns of a group: the whole row or a head
  float eps = 0;
  KernelFault fault = KernelFault::none;
};
struct MatmulArgs {
  /// reference: x f32, any weight. q8: x q8_f32, weight of blocks. invariant: x f16 or bf16 as the weight, on matrix cores.
  RouteId route = RouteId::reference;
  MatrixArg x, out;  // out f32
  WeightArg weight;
  const float* bias = nullptr;  // [weight.n_rows] or null
  std::int32_t n_rows = 0;
  std::byte* scratch = nullptr;  // matmul_scratch() bytes
  KernelFault fault = KernelFault::none;
};
struct RopeArgs {
  MatrixArg x, out;  // f32
  std::int32_t n_rows = 0;
  std::int32_t head_dim = 0;
  std::int32_t n_rot = 0;
  bool interleaved = true;
  /// Turn of row r: (cos, sin) pairs at turns + 2 * row(r) * n_rot/2 where row(r) = position[r], or r where position is null.
  const float* turns = nullptr;
  const std::int32_t* position = nullptr;
  KernelFault fault = KernelFault::none;
};
struct KvWriteArgs {
  MatrixArg x;  // f32
  RowsArg rows;
  KvArg kv;
};
/// Elements of one type to another, as core/half.h converts; between f32 and f16 or bf16.
struct ConvertArgs {
  MatrixArg x, out;
  std::int32_t n_rows = 0;
};
struct QkArgs {
  RouteId route = RouteId::reference;
  MatrixArg q;  // f32
  RowsArg rows;
  KvArg keys;
  std::int32_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
  std::int32_t window = 0;
  float scale = 1, softcap = 0;
  float* scores = nullptr;
  KernelFault fault = KernelFault::none;
};
struct SoftmaxArgs {
  RouteId route = RouteId::reference;
  RowsArg rows;
  std::int32_t n_heads = 0;
  const float* scores = nullptr;
  float* probs = nullptr;
  KernelFault fault = KernelFault::none;
};
struct PvArgs {
  RouteId route = RouteId::reference;
  RowsArg rows;
  KvArg values;
  std::int32_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
  std::int32_t window = 0;
  const float* probs = nullptr;
  MatrixArg out;                 // f32
  std::byte* scratch = nullptr;  // pv_scratch() bytes
  KernelFault fault = KernelFault::none;
};
struct AddArgs {
  MatrixArg a, b, out;  // f32
  std::int32_t n_rows = 0;
};
struct ActMulArgs {
  Activation act = Activation::silu;
  MatrixArg gate, up, out;  // f32
  std::int32_t n_rows = 0;
};
struct SoftcapArgs {
  MatrixArg x, out;  // f32
  std::int32_t n_rows = 0;
  float cap = 1;
};
/// x f32 to out q8_f32 (core/activation_blocks.h), f16 or bf16 (ties to even).
struct QuantizeArgs {
  MatrixArg x, out;
  std::int32_t n_rows = 0;
};
/// ids[r] = index of the largest logit of row r, the lowest of equals; NaN is never chosen; -1 where all are NaN.
struct ArgmaxArgs {
  MatrixArg logits;  // f32
  std::int32_t n_rows = 0;
  std::int32_t* ids = nullptr;
};

/// Draws a token as engine/sampler.h's sample_token does, or takes the largest where temperature is 0; -1 where all are NaN.
struct SampleArgs {
  MatrixArg logits;  // f32, one row of at most kMostSampled (ops/sampling.h)
  double temperature = 0;
  std::int32_t top_k = 0;
  double top_p = 1;
  const double* unit = nullptr;  // the random number, in [0, 1)
  std::int32_t* id = nullptr;
  std::byte* scratch = nullptr;  // sample_scratch() bytes
};

/// One row to be fingerprinted. dtype f32, f16, bf16 or q8_f32.
struct PrintJob {
  const std::byte* row = nullptr;
  std::int64_t count = 0;
  DType dtype = DType::f32;
  std::int32_t sketch = -1;  // where it goes among `sketches`; -1: none is wanted
};
/// The table of places in the sketch goes by tiles of as many elements.
inline constexpr std::uint32_t kSketchTile = 2048;
/// Entries of it that a kernel reads at once.
inline constexpr int kSketchRound = 8;
/// Both kernels behind it give the same bits; which one runs depends on n_jobs alone.
struct FingerprintArgs {
  const PrintJob* jobs = nullptr;  // [n_jobs]
  std::int64_t n_jobs = 0;
  RowSums* sums = nullptr;     // [n_jobs], written whole; the same bits as on the CPU
  double* sketches = nullptr;  // [kSketchWidth] a job that wants one, likewise
  /// sketch_order.h makes both. Entry j of bucket b in tile t is at (sketch_begin[t] + j) * kSketchWidth + b: the element's
  /// index within its tile, ascending, kSketchTile where the bucket has no more; the top bit is set where the sign is -1. It
  /// covers every job that wants a sketch; null where none does.
  const std::uint32_t* sketch_order = nullptr;
  const std::uint32_t* sketch_begin = nullptr;  // [tiles + 1], entries of a bucket; multiples of kSketchRound
};

/// The kernels of one target.
struct KernelTable {
  void (*embed)(Stream, const EmbedArgs&);
  void (*rmsnorm)(Stream, const RmsnormArgs&);
  void (*matmul)(Stream, const MatmulArgs&);
  std::size_t (*matmul_scratch)(const MatmulArgs&);  // pointers are not looked at
  void (*rope)(Stream, const RopeArgs&);
  void (*kv_write)(Stream, const KvWriteArgs&);
  void (*convert)(Stream, const ConvertArgs&);
  void (*qk)(Stream, const QkArgs&);
  void (*softmax)(Stream, const SoftmaxArgs&);
  void (*pv)(Stream, const PvArgs&);
  std::size_t (*pv_scratch)(const PvArgs&);
  void (*add)(Stream, const AddArgs&);
  void (*act_mul)(Stream, const ActMulArgs&);
  void (*softcap)(Stream, const SoftcapArgs&);
  void (*quantize)(Stream, const QuantizeArgs&);
  void (*argmax)(Stream, const ArgmaxArgs&);
  void (*sample)(Stream, const SampleArgs&);
  std::size_t (*sample_scratch)(std::int64_t vocab);
  void (*fingerprint)(Stream, const FingerprintArgs&);
};

}  // namespace greta::gpu
