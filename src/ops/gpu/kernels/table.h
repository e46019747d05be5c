// What every kernel file defines: the host's side of its op for this target (ops/gpu/kernels.h says what each computes).
#pragma once

#include "ops/gpu/portable.h"

namespace greta::gpu::GRETA_GPU_TARGET {

void embed(Stream stream, const EmbedArgs& args);
void rmsnorm(Stream stream, const RmsnormArgs& args);
/// By route and type of weight: matmul_reference, matmul_q8, matmul_invariant or matmul_free.
void matmul(Stream stream, const MatmulArgs& args);
std::size_t matmul_scratch(const MatmulArgs& args);
void matmul_reference(Stream stream, const MatmulArgs& args);
void matmul_q8(Stream stream, const MatmulArgs& args);
std::size_t matmul_q8_scratch(const MatmulArgs& args);
void matmul_invariant(Stream stream, const MatmulArgs& args);
std::size_t matmul_invariant_scratch(const MatmulArgs& args);
void matmul_free(Stream stream, const MatmulArgs& args);
std::size_t matmul_free_scratch(const MatmulArgs& args);
void rope(Stream stream, const RopeArgs& args);
void kv_write(Stream stream, const KvWriteArgs& args);
void convert(Stream stream, const ConvertArgs& args);
void qk(Stream stream, const QkArgs& args);
void qk_invariant(Stream stream, const QkArgs& args);  // of f16 and bf16
void softmax(Stream stream, const SoftmaxArgs& args);
void pv(Stream stream, const PvArgs& args);
void pv_invariant(Stream stream, const PvArgs& args);  // of f16 and bf16
std::size_t pv_scratch(const PvArgs& args);
void add(Stream stream, const AddArgs& args);
void act_mul(Stream stream, const ActMulArgs& args);
void softcap(Stream stream, const SoftcapArgs& args);
void quantize(Stream stream, const QuantizeArgs& args);
void argmax(Stream stream, const ArgmaxArgs& args);
void sample(Stream stream, const SampleArgs& args);
std::size_t sample_scratch(std::int64_t vocab);
void fingerprint(Stream stream, const FingerprintArgs& args);

const KernelTable& kernel_table();

}  // namespace greta::gpu::GRETA_GPU_TARGET
