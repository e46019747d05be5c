// Speed of whole forward passes on a GPU, as fractions of what the device does in the same run: decode of one sequence beside
// the copy bandwidth (weights read once a token), a prefill beside the rate of the vendor's bf16 matrix product; both again
// with every stage of every layer fingerprinted. Logits with and without fingerprints are compared bit for bit.
//   bench_gpu_session MODEL [--backend cuda] [--plan invariant]... [--prompt 2048] [--decode 128] [--json]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/half.h"
#include "engine/device_session.h"
#include "recording/device_recorder.h"
#include "trace/fingerprint.h"

namespace {

using namespace greta;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string model, backend = "cuda";
  std::vector<std::string> plans;
  int device = 0, prompt = 2048, decode = 128, runs = 5;
  bool json = false;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Median seconds of `work`, waited for.
template <class Work>
double seconds(gpu::Device& device, int runs, const Work& work) {
  work();
  device.synchronize(device.stream());
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const auto start = Clock::now();
    work();
    device.synchronize(device.stream());
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return median(times);
}

/// Bytes a second, read and written, of a copy far larger than any cache.
double copy_bandwidth(gpu::Device& device) {
  constexpr std::size_t kBytes = std::size_t{2} << 30;
  std::byte* from = device.allocate(kBytes, "the copy");
  std::byte* to = device.allocate(kBytes, "the copy");
  device.fill(from, 1, kBytes, device.stream());
  const double s = seconds(device, 9, [&] { device.copy(to, from, kBytes, device.stream()); });
  device.release(from);
  device.release(to);
  return 2.0 * static_cast<double>(kBytes) / s;
}

/// Operations a second of the vendor's product of random bf16 matrices of 8192 x 8192; 0 where there is no such library.
double matrix_rate(gpu::Device& device) {
  constexpr std::int64_t n = 8192;
  std::vector<std::uint16_t> numbers(static_cast<std::size_t>(n * n));
  std::uint32_t state = 1;
  for (auto& number : numbers) {
    state = state * 1664525u + 1013904223u;
    number = f32_to_bf16(static_cast<float>(state >> 8) * 0x1p-24f - 0.5f);
  }
  std::byte* a = device.allocate(numbers.size() * 2, "the product");
  std::byte* b = device.allocate(numbers.size() * 2, "the product");
  std::byte* out = device.allocate(numbers.size() * 4, "the product");
  device.upload(a, numbers.data(), numbers.size() * 2, device.stream());
  std::rotate(numbers.begin(), numbers.begin() + 12345, numbers.end());
  device.upload(b, numbers.data(), numbers.size() * 2, device.stream());
  gpu::MatmulArgs args{.route = RouteId::free,
                       .x = {b, DType::bf16, n, n * 2},
                       .out = {out, DType::f32, n, n * 4},
                       .weight = {a, DType::bf16, n, n, false},
                       .n_rows = static_cast<std::int32_t>(n)};
  args.scratch = device.allocate(device.kernels().matmul_scratch(args), "the product");
  double rate = 0;
  try {
    rate = 2.0 * n * n * n / seconds(device, 9, [&] { device.kernels().matmul(device.stream(), args); });
  } catch (const Error& error) {
    fmt::print(stderr, "bench_gpu_session: {}\n", error.what());
  }
  for (std::byte* memory : {a, b, out, args.scratch}) device.release(memory);
  return rate;
}

struct Timed {
  double prefill = 0, token = 0;  // seconds
  std::string logits;             // hash of the prefill's and of the last decode's
};

/// One plan, `traced` with every stage and layer.
class Run {
 public:
  Run(const Options& options, const Model& model, gpu::DeviceModel& device, const std::string& plan, bool traced)
      : options_(options),
        model_(model),
        session_(model, device, make_plan(plan, std::nullopt, {}, Target::gpu),
                 {.capacity = options.prompt + options.decode + 1, .most_rows = options.prompt}) {
    for (std::int32_t i = 0; i < options.prompt + options.decode; ++i)
      tokens_.push_back((i * 7919 + 13) % model.config.vocab_size);
    if (!traced) return;
    Capture capture;
    capture.tokens = tokens_;
    capture.n_layers = model.config.n_layers;
    RecorderOptions recorded;
    recorded.sample = 0;
    recorded.detail_from = options.prompt - 1;  // sketches of the last row and of decode
    recorder_ = std::make_unique<DeviceRecorder>(std::move(capture), recorded, *device.device);
  }

  Timed time() {
    Timed timed;
    timed.prefill = seconds(session_.device(), options_.runs, [&] {
      forget();
      timed.logits = hash(prefill());
    });
    std::vector<double> steps;
    for (std::int32_t p = options_.prompt; p < options_.prompt + options_.decode; ++p) {
      forget();
      const auto start = Clock::now();
      (void)session_.decode_sampled(tokens_[static_cast<std::size_t>(p)], p, {}, 0, recorder_.get());
      steps.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    timed.token = median(steps);
    const RowId last{0, options_.prompt + options_.decode - 1};
    const std::int32_t wanted = 0;
    timed.logits += hash(session_.step(Phase::decode, {{&tokens_.back(), 1}, {&last, 1}, {&wanted, 1}}, recorder_.get()));
    return timed;
  }

 private:
  TensorView prefill() {
    std::vector<RowId> rows;
    for (std::int32_t p = 0; p < options_.prompt; ++p) rows.push_back({0, p});
    const std::int32_t wanted = options_.prompt - 1;
    const std::span<const std::int32_t> tokens(tokens_.data(), rows.size());
    return session_.step(Phase::prefill, {tokens, rows, {&wanted, 1}}, recorder_.get());
  }
  /// Records are not kept: memory would grow with the runs.
  void forget() {
    if (recorder_) recorder_->forget();
  }
  static std::string hash(const TensorView& logits) { return to_hex(row_hash(logits.row(0), logits.dtype, logits.n_cols)); }

  const Options& options_;
  const Model& model_;
  DeviceSession session_;
  std::vector<std::int32_t> tokens_;
  std::unique_ptr<DeviceRecorder> recorder_;
};

/// Operations of one row's products, and bytes of weights that one token reads.
struct Work {
  double operations = 0, bytes = 0;
};
Work work_of(const Model& model) {
  Work work;
  const auto add = [&](const WeightView& weight) {
    if (weight.n_rows > 1) work.operations += 2.0 * static_cast<double>(weight.n_rows) * static_cast<double>(weight.n_cols);
    if (weight) work.bytes += static_cast<double>(weight.size());
  };
  for (const LayerWeights& w : model.weights.layers)
    for (const WeightView* weight : {&w.wq, &w.wk, &w.wv, &w.wo, &w.gate, &w.up, &w.down}) add(*weight);
  return work;
}

void bench(const Options& options) {
  const auto model = Model::load(options.model);
  gpu::DeviceModel device;
  device.device = gpu::open_device(options.backend, options.device);
  device.weights = std::make_unique<gpu::WeightStore>(*device.device, all_weights(model->weights));
  device.weights->upload_all({});
  const double bandwidth = copy_bandwidth(*device.device), rate = matrix_rate(*device.device);
  const Work work = work_of(*model);
  const WeightView& head = model->weights.lm_head;
  const double token_bytes = work.bytes + static_cast<double>(head.size());
  nlohmann::ordered_json out{{"device", device.device->info().name},
                             {"model", options.model},
                             {"copy_bytes_per_s", bandwidth},
                             {"matrix_flop_per_s", rate},
                             {"prompt", options.prompt},
                             {"plans", nlohmann::ordered_json::array()}};
  if (!options.json)
    fmt::print("{}: copy {:.2f} TB/s, bf16 products {:.0f} TFLOP/s\n{:<10} {:>8} {:>12} {:>9} {:>12} {:>9} {:>15} {:>8}\n",
               device.device->info().name, bandwidth / 1e12, rate / 1e12, "plan", "traced", "decode ms", "of copy",
               "prefill ms", "of rate", "tokens/s d/p", "logits");
  for (const std::string& plan : options.plans) {
    Timed plain;
    for (const bool traced : {false, true}) {
      const Timed timed = Run(options, *model, device, plan, traced).time();
      if (!traced) plain = timed;
      const double of_copy = token_bytes / timed.token / bandwidth;
      const double of_rate = rate > 0 ? work.operations * options.prompt / timed.prefill / rate : 0;
      const bool same = timed.logits == plain.logits;
      out["plans"].push_back({{"plan", plan},
                              {"traced", traced},
                              {"decode_s", timed.token},
                              {"decode_of_copy", of_copy},
                              {"decode_over_untraced", timed.token / plain.token},
                              {"prefill_s", timed.prefill},
                              {"prefill_of_rate", of_rate},
                              {"prefill_over_untraced", timed.prefill / plain.prefill},
                              {"logits_equal_untraced", same}});
      if (!options.json)
        fmt::print("{:<10} {:>8} {:>6.3f} {:>5.3f}x {:>8.1f}% {:>6.1f} {:>5.3f}x {:>8.1f}% {:>7.1f}/{:>7.0f} {:>8}\n", plan,
                   traced ? "yes" : "no", timed.token * 1e3, timed.token / plain.token, of_copy * 100, timed.prefill * 1e3,
                   timed.prefill / plain.prefill, of_rate * 100, 1 / timed.token, options.prompt / timed.prefill,
                   same ? "equal" : "DIFFER");
      std::fflush(stdout);
    }
  }
  if (options.json) std::cout << out.dump(2) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Speed of forward passes on a GPU"};
  app.add_option("model", options.model)->required();
  app.add_option("--backend", options.backend)->capture_default_str();
  app.add_option("--device", options.device)->capture_default_str();
  app.add_option("--plan", options.plans, "invariant, free, reference or q8; may be repeated (default invariant, free)");
  app.add_option("--prompt", options.prompt)->capture_default_str();
  app.add_option("--decode", options.decode)->capture_default_str();
  app.add_option("--runs", options.runs)->capture_default_str();
  app.add_flag("--json", options.json);
  CLI11_PARSE(app, argc, argv);
  if (options.plans.empty()) options.plans = {"invariant", "free"};
  try {
    bench(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_gpu_session: {}\n", error.what());
    return 2;
  }
  return 0;
}
