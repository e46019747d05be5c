// Speed of the CPU ops on all cores: matmul at decode in GB/s of weights beside a loop that only reads, matmul at prefill in
// GFLOP/s, attention at prefill and decode. Build with -DGRETA_BENCH=ON; run build/release/bench_ops.
#include <benchmark/benchmark.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/blocks.h"
#include "core/half.h"
#include "ops/cpu_ops.h"

namespace {

using namespace greta;

int cores() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }

ThreadPool& pool() {
  static ThreadPool threads(cores());
  return threads;
}

struct Activations {
  Activations(std::int64_t n_rows, std::int64_t n_cols) : values(static_cast<std::size_t>(n_rows * n_cols)) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i % 1013));
    view.data = reinterpret_cast<std::byte*>(values.data());
    view.n_rows = n_rows;
    view.n_cols = n_cols;
    view.row_stride = n_cols * std::int64_t{sizeof(float)};
  }
  std::vector<float> values;
  TensorView view;
};

/// Weights of any type with small finite values.
struct Weights {
  Weights(DType dtype, std::int64_t n_rows, std::int64_t n_cols)
      : bytes(static_cast<std::size_t>(n_rows * row_bytes(dtype, n_cols))) {
    std::uint32_t state = 1;
    const auto next = [&] { return state = state * 1664525u + 1013904223u; };
    const DTypeInfo& info = dtype_info(dtype);
    for (std::size_t at = 0; at < bytes.size(); at += static_cast<std::size_t>(info.block_bytes)) {
      std::byte* block = bytes.data() + at;
      if (dtype == DType::f32) {
        const float value = static_cast<float>(next() >> 8) * 0x1p-24f - 0.5f;
        std::memcpy(block, &value, sizeof value);
        continue;
      }
      for (std::int64_t i = 0; i < info.block_bytes; ++i) block[i] = static_cast<std::byte>(next() >> 24);
      const std::uint16_t small = dtype == DType::bf16 ? f32_to_bf16(0.01f) : f32_to_f16(0.01f);
      if (!is_block_type(dtype)) std::memcpy(block, &small, sizeof small);
      for (const std::int64_t offset : scale_offsets(dtype)) std::memcpy(block + offset, &small, sizeof small);
    }
    view = {"w", dtype, n_rows, n_cols, bytes.data(), WeightLayout::row_major};
  }
  std::vector<std::byte> bytes;
  WeightView view;
};

std::vector<RowId> rows_from(std::int32_t first, std::int64_t n) {
  std::vector<RowId> rows;
  for (std::int32_t i = 0; i < n; ++i) rows.push_back({0, first + i});
  return rows;
}

void read_bandwidth(benchmark::State& state) {
  const std::vector<std::uint64_t> data(std::size_t{1} << 27, 3);  // 1 GiB
  constexpr std::int64_t kPiece = 1 << 15;
  std::vector<std::uint64_t> sums(data.size() / kPiece);
  for (auto _ : state) {
    pool().parallel_for(static_cast<std::int64_t>(sums.size()), [&](std::int64_t piece) {
      std::uint64_t sum[8] = {};
      const std::uint64_t* from = data.data() + piece * kPiece;
      for (std::int64_t i = 0; i < kPiece; i += 8) {
        for (int lane = 0; lane < 8; ++lane) sum[lane] ^= from[i + lane];
      }
      for (const std::uint64_t part : sum) sums[static_cast<std::size_t>(piece)] ^= part;
    });
    benchmark::DoNotOptimize(sums.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(data.size() * sizeof(data[0])));
}

void matmul(benchmark::State& state, RouteId route, DType dtype, Isa isa, std::int64_t n_rows, std::int64_t n_in,
            std::int64_t n_out) {
  const Weights weights(dtype, n_out, n_in);
  const Activations x(n_rows, n_in), out(n_rows, n_out);
  const std::vector<RowId> rows = rows_from(0, n_rows);
  RouteTable routes;
  routes.route.fill(route);
  const auto ops = make_cpu_ops({.routes = routes, .isa = isa, .pool = pool()});
  for (auto _ : state) ops->matmul({Stage::ffn_up, 0, rows}, x.view, weights.view, {}, out.view);
  state.SetBytesProcessed(state.iterations() * weights.view.size());
  const double flops = 2.0 * static_cast<double>(n_rows * n_in * n_out) * static_cast<double>(state.iterations());
  state.counters["FLOP"] = benchmark::Counter(flops, benchmark::Counter::kIsRate);
}

/// One allocation, slot after slot.
class BenchKv final : public KvView {
 public:
  BenchKv(DType dtype, std::int64_t width, std::int64_t n)
      : dtype_(dtype), width_(width), bytes_(static_cast<std::size_t>(n * row_bytes(dtype, width))) {}
  DType dtype() const override { return dtype_; }
  std::int64_t width() const override { return width_; }
  std::byte* write_slot(KvPart, int, RowId token) override {
    return bytes_.data() + token.position * row_bytes(dtype_, width_);
  }
  const std::byte* read_slot(KvPart, int, RowId token) override {
    return bytes_.data() + token.position * row_bytes(dtype_, width_);
  }

 private:
  DType dtype_;
  std::int64_t width_;
  std::vector<std::byte> bytes_;
};

/// 32 heads of 64 over 8 KV heads, rows at the end of `n_keys` positions.
void attention(benchmark::State& state, OpKind op, DType dtype, Isa isa, std::int64_t n_rows, std::int64_t n_keys) {
  const AttentionParams params{32, 8, 64, 0.125};
  BenchKv kv(dtype, params.n_kv_heads * params.head_dim, n_keys);
  const Activations q(n_rows, params.n_heads * params.head_dim), out(n_rows, params.n_heads * params.head_dim);
  const std::vector<RowId> rows = rows_from(static_cast<std::int32_t>(n_keys - n_rows), n_rows);
  Activations scores(n_rows, params.n_heads * n_keys), probs(n_rows, params.n_heads * n_keys);
  std::vector<RowExtent> extents;
  std::int64_t total = 0;
  for (std::int64_t r = 0; r < n_rows; ++r) {
    extents.push_back({r * scores.view.row_stride, params.n_heads * (rows[static_cast<std::size_t>(r)].position + 1)});
    total += extents.back().cols;
  }
  scores.view.extents = probs.view.extents = extents;
  const auto ops = make_cpu_ops({.isa = isa, .pool = pool()});
  const OpSite site{Stage::attn_scores, 0, rows};
  for (auto _ : state) {
    if (op == OpKind::qk) ops->qk(site, q.view, params, kv, scores.view);
    if (op == OpKind::softmax) ops->softmax(site, scores.view, params, probs.view);
    if (op == OpKind::pv) ops->pv(site, probs.view, params, kv, out.view);
  }
  const double flops = op == OpKind::softmax ? 0 : 2.0 * static_cast<double>(total * params.head_dim);
  state.counters["FLOP"] = benchmark::Counter(flops * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["scores"] =
      benchmark::Counter(static_cast<double>(total) * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

template <class F>
void add_bench(const std::string& name, const F& body) {
  benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime();
}

void add_matmul(const std::string& what, RouteId route, DType dtype, Isa isa, std::int64_t n_rows, std::int64_t n_in,
                std::int64_t n_out) {
  add_bench(what + "/" + std::string(name(dtype)) + "/" + std::string(route == RouteId::reference ? name(isa) : name(route)),
            [=](benchmark::State& state) { matmul(state, route, dtype, isa, n_rows, n_in, n_out); });
}

void add_attention(const std::string& what, OpKind op, DType dtype, Isa isa, std::int64_t n_rows, std::int64_t n_keys) {
  add_bench(what + "/" + std::string(name(op)) + "/" + std::string(name(dtype)) + "/" + std::string(name(isa)),
            [=](benchmark::State& state) { attention(state, op, dtype, isa, n_rows, n_keys); });
}

void register_all() {
  add_bench("read", read_bandwidth);
  for (const Isa isa : supported_isas()) {
    if (isa == Isa::scalar) continue;
    for (const DType dtype : weight_dtypes()) {
      add_matmul("decode", RouteId::reference, dtype, isa, 1, 8192, 65536);
      for (const std::int64_t n_rows : {4, 16, 512})
        add_matmul("rows" + std::to_string(n_rows), RouteId::reference, dtype, isa, n_rows, 2048, 8192);
    }
    for (const OpKind op : {OpKind::qk, OpKind::softmax, OpKind::pv}) {
      for (const DType dtype : {DType::f32, DType::f16}) {
        add_attention("prefill256", op, dtype, isa, 256, 512);
        add_attention("decode2048", op, dtype, isa, 1, 2048);
      }
    }
  }
  add_matmul("decode", RouteId::reference, DType::q8_0, Isa::scalar, 1, 2048, 1024);
  add_matmul("rows1", RouteId::float64, DType::q8_0, Isa::scalar, 1, 2048, 8192);
  add_matmul("rows40", RouteId::float64, DType::q8_0, Isa::scalar, 40, 2048, 8192);
}

}  // namespace

int main(int argc, char** argv) {
  register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
