// Operands of one call on their way to a device and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/site.h"
#include "core/tensor.h"
#include "ops/gpu/device.h"
#include "ops/kv_view.h"

namespace greta::gpu {

/// A deliberate error on the way of a call's matrices to the device (fault/gpu.cpp plants them).
enum class TransferFault : std::uint8_t {
  none,
  staging_reused,  // the page-locked buffer is written again while the copy out of it may still run
  wrong_stream,    // the kernel runs on the side stream and does not wait for the copy
};

/// Device memory for the operands of one call at a time. What is put there has rows 64 bytes apart, and all that is not an
/// element is NaN: what a kernel reads beyond a row, and what it forgets to write, shows.
class Staging {
 public:
  explicit Staging(Device& device) : device_(device) {}
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// From now on; none: as it should be.
  void plant(TransferFault fault) { fault_ = fault; }
  /// From now on rows have at least so many bytes of NaN behind them.
  void pad_rows(std::size_t bytes) { padding_ = bytes; }

  /// Forgets the last call's operands.
  void begin();
  std::byte* put(const void* from, std::size_t bytes);
  /// Bytes that are all 0xff.
  std::byte* room(std::size_t bytes);
  /// Rows of a view that have the same number of elements.
  MatrixArg put(const TensorView& view);
  MatrixArg room(DType dtype, std::int64_t n_rows, std::int64_t n_cols);
  /// The stream for the kernel that reads what was put.
  Stream depart();
  /// The rows of `view` from where put() or room() has them.
  void fetch(const MatrixArg& from, const TensorView& view);

  /// Positions and dense numbers of the rows' sequences, and where their scores of `n_heads` heads lie.
  RowsArg rows(std::span<const RowId> rows, std::int64_t n_heads = 0);
  /// Scores one row after the other, as rows() says.
  float* put_scores(const TensorView& scores);
  float* room_for_scores(const TensorView& scores);
  void fetch_scores(const float* from, const TensorView& scores);
  /// The slots that rows read of K or V, sequences as in rows().
  KvArg slots(KvView& kv, KvPart part, int layer, std::span<const RowId> rows);

 private:
  struct Block {
    std::byte* memory;
    std::size_t capacity, used;
  };
  /// An operand that a transfer fault holds back until depart().
  struct Late {
    std::byte* to;
    std::size_t at, bytes;  // in late_bytes_
  };
  std::byte* take(std::size_t bytes);
  std::byte* put_matrix(const void* from, std::size_t bytes);
  std::byte* locked_room(std::size_t bytes);
  void keep_busy();
  void arrive(void* to_host, const std::byte* from, std::size_t bytes);

  Device& device_;
  std::vector<Block> blocks_;
  std::vector<std::byte> host_;
  std::size_t padding_ = 0;
  TransferFault fault_ = TransferFault::none;
  std::vector<Late> late_;
  std::vector<std::byte> late_bytes_;
  std::byte* locked_ = nullptr;  // page-locked memory of the host
  std::size_t locked_bytes_ = 0;
  std::byte* busy_ = nullptr;  // device memory that nobody reads
};

}  // namespace greta::gpu
