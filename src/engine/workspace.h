// Activation buffers of the forward pass, reused across layers and calls. Every write gets a new generation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace greta {

/// Where the buffers of a workspace lie, if not in memory of the host of their own.
class BufferMemory {
 public:
  virtual ~BufferMemory() = default;
  /// At least `bytes` for buffer `id` that is to hold `stage` of `layer`, 64-byte aligned; memory that an earlier call for the
  /// same buffer gave may be given again.
  virtual std::byte* reserve(std::uint32_t id, Stage stage, int layer, std::size_t bytes) = 0;
};

/// One reusable buffer, 64-byte aligned, poisoned with NaN bytes where it grows: an unwritten row cannot pass for zeros.
class Buffer {
 public:
  explicit Buffer(std::uint32_t id, BufferMemory* memory = nullptr) : id_(id), memory_(memory) {}
  /// A view to be written: [rows.size(), n_cols], rows padded to 64 bytes.
  TensorView next(Stage stage, int layer, DType dtype, std::span<const RowId> rows, std::int64_t n_cols);
  /// The same with ragged rows; `extents` must outlive the view; `bytes` covers them all.
  TensorView next_ragged(Stage stage, int layer, DType dtype, std::span<const RowId> rows, std::span<const RowExtent> extents,
                         std::size_t bytes);

 private:
  std::byte* reserve(Stage stage, int layer, std::size_t bytes);
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::uint32_t id_;
  BufferMemory* memory_;  // null: `data_`
  std::uint64_t generation_ = 0;
  std::size_t capacity_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

struct Workspace {
  /// `memory` outlives the workspace; null: the host's.
  explicit Workspace(BufferMemory* buffers = nullptr) : memory(buffers) {}
  BufferMemory* memory;
  Buffer x{0, memory}, attn_norm{1, memory}, q{2, memory}, k{3, memory}, v{4, memory}, q_rope{5, memory}, k_rope{6, memory},
      scores{7, memory}, probs{8, memory}, attn_out{9, memory}, wo_out{10, memory}, x_after_attn{11, memory},
      ffn_norm{12, memory}, gate{13, memory}, up{14, memory}, act{15, memory}, mlp_out{16, memory}, final_rms{17, memory},
      logits{18, memory}, attn_norm_q8{19, memory}, attn_out_q8{20, memory}, ffn_norm_q8{21, memory}, act_q8{22, memory},
      lm_head_in_q8{23, memory}, q_norm{24, memory}, k_norm{25, memory}, attn_post_norm{26, memory}, ffn_post_norm{27, memory},
      head_out{28, memory};
  std::vector<std::int32_t> positions;   // of the current call's rows
  std::vector<RowExtent> score_extents;  // of the current call, [n_heads, pos+1] a row
  std::vector<RowExtent> logit_extents;  // rows of x that the head computes
  std::vector<RowId> logit_rows;
};

}  // namespace greta
