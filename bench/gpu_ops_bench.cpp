// Speed of the GPU's matrix products: each beside the device's copy bandwidth (weights read once) and, where the rate of the
// matrix cores is given, beside that. Weights rotate through buffers larger than the cache; a graph of launches is timed by the
// device's events. Build with the preset `cuda` (or `hip`), target bench_gpu.
//   bench_gpu [--backend cuda] [--peak TFLOP/s] [PART OF A NAME...]
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "core/half.h"
#include "ops/gpu/device.h"

namespace {

using namespace greta;
using namespace greta::gpu;

constexpr std::size_t kRotated = std::size_t{512} << 20;  // bytes of weights between two uses of a buffer; caches are smaller
constexpr int kReplays = 7;

class Memory {
 public:
  Memory(Device& device, std::size_t bytes) : device_(device), data_(device.allocate(bytes, "the benchmark")) {}
  ~Memory() { device_.release(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* get() const { return data_; }

 private:
  Device& device_;
  std::byte* data_;
};

/// Small numbers of any type with random codes.
std::vector<std::byte> numbers(DType dtype, std::size_t bytes) {
  std::vector<std::byte> out(bytes);
  std::uint32_t state = 1;
  const auto next = [&] { return (state = state * 1664525u + 1013904223u) >> 8; };
  const auto block = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
  for (std::size_t at = 0; at + block <= bytes; at += block) {
    const float value = static_cast<float>(next()) * 0x1p-24f - 0.5f;
    for (std::size_t i = 0; i < block; ++i) out[at + i] = static_cast<std::byte>(next());
    const std::uint16_t half =
        dtype == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value * (is_block_type(dtype) ? 0.01f : 1));
    if (dtype == DType::q8_f32)
      std::memcpy(out.data() + at, &value, sizeof value);
    else if (!is_block_type(dtype))
      std::memcpy(out.data() + at, &half, sizeof half);
    for (const std::int64_t offset : scale_offsets(dtype))
      std::memcpy(out.data() + at + static_cast<std::size_t>(offset), &half, sizeof half);
  }
  return out;
}

/// Fills device memory with repetitions of a few megabytes of numbers.
void fill(Device& device, std::byte* to, DType dtype, std::size_t bytes) {
  const auto block = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
  const std::vector<std::byte> part = numbers(dtype, std::min(bytes, (std::size_t{4} << 20) / block * block));
  for (std::size_t at = 0; at < bytes; at += part.size())
    device.upload(to + at, part.data(), std::min(part.size(), bytes - at), device.stream());
  device.synchronize(device.stream());
}

/// Median seconds of one of `n` calls of work(i), all in one graph.
template <class Work>
double seconds(Device& device, int n, const Work& work) {
  device.begin_capture();
  for (int i = 0; i < n; ++i) work(i);
  const std::unique_ptr<Graph> graph = device.end_capture();
  graph->replay();
  std::vector<double> times;
  for (int i = 0; i < kReplays; ++i) {
    device.start_clock(device.stream());
    graph->replay();
    times.push_back(device.stop_clock(device.stream()) / n);
  }
  std::nth_element(times.begin(), times.begin() + kReplays / 2, times.end());
  return times[kReplays / 2];
}

double copy_bandwidth(Device& device) {
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  const Memory from(device, kBytes), to(device, kBytes);
  fill(device, from.get(), DType::bf16, kBytes);
  return 2.0 * kBytes / seconds(device, 4, [&](int) { device.copy(to.get(), from.get(), kBytes, device.stream()); });
}

struct Case {
  RouteId route;
  DType dtype;
  std::int64_t n_out, n_in;
  std::int32_t n_rows;
  std::string name() const {
    return fmt::format("{} {} {}x{} rows {}", greta::name(route), greta::name(dtype), n_out, n_in, n_rows);
  }
};

void run(Device& device, const Case& c, double copy, double peak) {
  const DType x_type = c.route == RouteId::q8 ? DType::q8_f32 : c.dtype;
  const std::int64_t x_stride = row_bytes(x_type, c.n_in), weight_bytes = c.n_out * row_bytes(c.dtype, c.n_in);
  const int n = static_cast<int>(std::clamp<std::size_t>(kRotated / static_cast<std::size_t>(weight_bytes), 2, 48));
  MatmulArgs args;
  args.route = c.route;
  args.n_rows = c.n_rows;
  args.x = {nullptr, x_type, c.n_in, x_stride};
  args.out = {nullptr, DType::f32, c.n_out, c.n_out * 4};
  args.weight = {nullptr, c.dtype, c.n_out, c.n_in};
  const Memory x(device, static_cast<std::size_t>(x_stride * c.n_rows)),
      out(device, static_cast<std::size_t>(c.n_out * c.n_rows * 4));
  const Memory weights(device, static_cast<std::size_t>(weight_bytes * n)),
      scratch(device, device.kernels().matmul_scratch(args) + 1);
  fill(device, x.get(), x_type, static_cast<std::size_t>(x_stride * c.n_rows));
  fill(device, weights.get(), c.dtype, static_cast<std::size_t>(weight_bytes * n));
  args.x.data = x.get();
  args.out.data = out.get();
  args.scratch = scratch.get();
  const double time = seconds(device, n, [&](int i) {
    args.weight.data = weights.get() + i * weight_bytes;
    device.kernels().matmul(device.stream(), args);
  });
  const double bandwidth = static_cast<double>(weight_bytes) / time;
  const double rate = 2.0 * static_cast<double>(c.n_out * c.n_in * c.n_rows) / time;
  std::cout << fmt::format("{:<44} {:>9.2f} us {:>7.0f} GB/s {:>5.1f} % {:>7.1f} TFLOP/s", c.name(), time * 1e6,
                           bandwidth * 1e-9, 100 * bandwidth / copy, rate * 1e-12);
  if (peak > 0) std::cout << fmt::format(" {:>5.1f} %", rate / peak * 1e-10);
  std::cout << std::endl;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::int32_t rows : {1, 2, 4, 8, 16, 32, 64, 128, 512, 2048}) {
    for (const auto& [n_out, n_in] :
         {std::pair<std::int64_t, std::int64_t>{4096, 4096}, {14336, 4096}, {4096, 14336}, {1024, 4096}})
      cases.push_back({RouteId::invariant, DType::bf16, n_out, n_in, rows});
  }
  cases.push_back({RouteId::invariant, DType::bf16, 128256, 4096, 1});
  cases.push_back({RouteId::invariant, DType::f16, 14336, 4096, 2048});
  for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q4_k, DType::q6_k}) {
    for (const std::int32_t rows : {1, 4, 16, 64, 512, 2048}) {
      for (const auto& [n_out, n_in] : {std::pair<std::int64_t, std::int64_t>{4096, 4096}, {14336, 4096}, {4096, 14336}})
        cases.push_back({RouteId::q8, dtype, n_out, n_in, rows});
    }
  }
  for (const DType dtype :
       {DType::q4_1, DType::q5_0, DType::q5_1, DType::q2_k, DType::q3_k, DType::q5_k, DType::iq4_nl, DType::iq4_xs})
    cases.push_back({RouteId::q8, dtype, 14336, 4096, 1});
  return cases;
}

}  // namespace

int main(int argc, char** argv) {
  std::string backend = "cuda";
  double peak = 0;  // TFLOP/s
  std::vector<std::string> wanted;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--backend" && i + 1 < argc)
      backend = argv[++i];
    else if (word == "--peak" && i + 1 < argc)
      peak = std::stod(argv[++i]);
    else
      wanted.push_back(word);
  }
  try {
    const auto device = open_device(backend, 0);
    const double copy = copy_bandwidth(*device);
    std::cout << fmt::format("{}: copies at {:.0f} GB/s, read and written", device->info().name, copy * 1e-9) << std::endl;
    for (const Case& c : all_cases()) {
      const auto named = [&](const std::string& part) { return c.name().find(part) != std::string::npos; };
      if (wanted.empty() || std::any_of(wanted.begin(), wanted.end(), named)) run(*device, c, copy, peak);
    }
  } catch (const std::exception& error) {
    std::cerr << "bench_gpu: " << error.what() << '\n';
    return 1;
  }
}
