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

/// One reusable buffer, 64-byte aligned, poisoned with NaN bytes where it grows: an unwritten row cannot pass for zeros.
class Buffer {
 public:
  explicit Buffer(std::uint32_t id) : id_(id) {}
  /// A view to be written: [rows.size(), n_cols], rows padded to 64 bytes.
  TensorView next(Stage stage, int layer, DType dtype, std::span<const RowId> rows, std::int64_t n_cols);
  /// The same with ragged rows; `extents` must outlive the view; `bytes` covers them all.
  TensorView next_ragged(Stage stage, int layer, DType dtype, std::span<const RowId> rows,
                         std::span<const RowExtent> extents, std::size_t bytes);

 private:
  void reserve(std::size_t bytes);
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::uint32_t id_;
  std::uint64_t generation_ = 0;
  std::size_t capacity_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

struct Workspace {
  Buffer x{0}, attn_norm{1}, q{2}, k{3}, v{4}, q_rope{5}, k_rope{6}, scores{7}, probs{8}, attn_out{9}, wo_out{10},
      x_after_attn{11}, ffn_norm{12}, gate{13}, up{14}, act{15}, mlp_out{16}, final_rms{17}, logits{18}, attn_norm_q8{19}, attn_out_q8{20},
      ffn_norm_q8{21}, act_q8{22}, lm_head_in_q8{23}, q_norm{24}, k_norm{25}, attn_post_norm{26}, ffn_post_norm{27}, head_out{28};
  std::vector<std::int32_t> positions;    // of the current call's rows
  std::vector<RowExtent> score_extents;   // of the current call, [n_heads, pos+1] a row
  std::vector<RowExtent> logit_extents;   // rows of x that the head computes
  std::vector<RowId> logit_rows;
};

}  // namespace greta
