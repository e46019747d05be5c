// The table of this target's kernels.
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {

const KernelTable& kernel_table() {
  static const KernelTable table = {
      .embed = embed,
      .rmsnorm = rmsnorm,
      .matmul = matmul,
      .matmul_scratch = matmul_scratch,
      .rope = rope,
      .kv_write = kv_write,
      .convert = convert,
      .qk = qk,
      .softmax = softmax,
      .pv = pv,
      .pv_scratch = pv_scratch,
      .add = add,
      .act_mul = act_mul,
      .softcap = softcap,
      .quantize = quantize,
      .argmax = argmax,
      .sample = sample,
      .sample_scratch = sample_scratch,
      .fingerprint = fingerprint,
  };
  return table;
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
