// Elementwise ops, with the operations of ops/reference/elementwise.cpp: add is one rounding; act_mul is
// (gate / (1 + exp(-v))) * up with v = gate for SiLU and 2u for GELU's tanh form; softcap is cap * tanh(x / cap).
#include "ops/gpu/kernels/elements.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

struct AddElement {
  GRETA_DEVICE float operator()(float a, float b) const { return a + b; }
};
/// gate / (1 + exp(-v)) * up.
GRETA_DEVICE float gated(float gate, float v, float up) { return gate / (1.0f + lane_exp(0.0f - v)) * up; }
struct SiluElement {
  GRETA_DEVICE float operator()(float gate, float up) const { return gated(gate, gate, up); }
};
/// 2u = sqrt(8/pi) * (x + 0.044715 x^3) = x * (sqrt(8/pi) + sqrt(8/pi) * 0.044715 * x^2).
struct GeluElement {
  GRETA_DEVICE float operator()(float gate, float up) const {
    return gated(gate, gate * fma(gate * gate, 0.071354816f, 1.5957691f), up);
  }
};
struct SoftcapElement {
  float cap;
  GRETA_DEVICE float operator()(float x, float) const { return cap * lane_tanh(x / cap); }
};

template <class Element>
GRETA_KERNEL zip_kernel(MatrixArg a, MatrixArg b, MatrixArg out, Element element, bool aligned) {
  const auto [r, first] = my_elements(out.n_cols);
  if (first >= out.n_cols) return;
  const bool whole = aligned && first + kElementsEach <= out.n_cols;
  float x[kElementsEach], y[kElementsEach];
  load_each(reinterpret_cast<const float*>(a.data + r * a.stride), first, out.n_cols, whole, x);
  load_each(reinterpret_cast<const float*>(b.data + r * b.stride), first, out.n_cols, whole, y);
  GRETA_UNROLL
  for (int i = 0; i < kElementsEach; ++i) x[i] = element(x[i], y[i]);
  store_each(reinterpret_cast<float*>(out.data + r * out.stride), first, out.n_cols, whole, x);
}

template <class Element>
void zip(const char* name, Stream stream, const MatrixArg& a, const MatrixArg& b, const MatrixArg& out, std::int32_t n_rows,
         const Element& element) {
  if (n_rows < 1) return;
  const bool aligned = all_aligned(a.data, b.data, out.data) && (a.stride | b.stride | out.stride) % 16 == 0;
  launch(element_launch(name, stream, n_rows, out.n_cols), zip_kernel<Element>, a, b, out, element, aligned);
}

}  // namespace

void add(Stream stream, const AddArgs& args) { zip("add", stream, args.a, args.b, args.out, args.n_rows, AddElement{}); }

void act_mul(Stream stream, const ActMulArgs& args) {
  if (args.act == Activation::silu) return zip("act_mul", stream, args.gate, args.up, args.out, args.n_rows, SiluElement{});
  zip("act_mul", stream, args.gate, args.up, args.out, args.n_rows, GeluElement{});
}

void softcap(Stream stream, const SoftcapArgs& args) {
  zip("softcap", stream, args.x, args.x, args.out, args.n_rows, SoftcapElement{args.cap});
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
