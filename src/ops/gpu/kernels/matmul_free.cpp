// Route `free`: the vendor's matrix product (cuBLASLt, hipBLASLt), to measure against. Its order of sums is its own, and may
// change with the number of rows. The emulation has no vendor: there it is route `invariant`.
#include "ops/gpu/kernels/table.h"

#if defined(__CUDACC__) && !__has_include(<cublasLt.h>)
#define GRETA_NO_LIBRARY "cublasLt.h was not found when greta was built"
#elif defined(__HIP__) && !defined(__CUDACC__) && !__has_include(<hipblaslt/hipblaslt.h>)
#define GRETA_NO_LIBRARY "hipblaslt/hipblaslt.h was not found when greta was built"
#endif

#if defined(GRETA_GPU_EMULATED)

namespace greta::gpu::GRETA_GPU_TARGET {
void matmul_free(Stream stream, const MatmulArgs& args) { matmul_invariant(stream, args); }
std::size_t matmul_free_scratch(const MatmulArgs& args) { return matmul_invariant_scratch(args); }
}  // namespace greta::gpu::GRETA_GPU_TARGET

#elif defined(GRETA_NO_LIBRARY)

namespace greta::gpu::GRETA_GPU_TARGET {
void matmul_free(Stream, const MatmulArgs&) { throw Error("plan free: " GRETA_NO_LIBRARY "; use plan invariant"); }
std::size_t matmul_free_scratch(const MatmulArgs&) { return 0; }
}  // namespace greta::gpu::GRETA_GPU_TARGET

#else

#include <dlfcn.h>

#include <memory>
#include <string>
#include <vector>

#if defined(__CUDACC__)
#include <cublasLt.h>
// Names of hipBLASLt differ from these by the prefix alone.
#define GRETA_LT(name) cublasLt##name
#define GRETA_LT_LIBRARY "libcublasLt.so.13"
#define GRETA_LT_TYPE(name) CUDA_##name
#define GRETA_LT_COMPUTE CUBLAS_COMPUTE_32F
#define GRETA_LT_OP_T CUBLAS_OP_T
#define GRETA_LT_ATTRIBUTE(name) CUBLASLT_MATMUL_##name
#define GRETA_LT_BIAS CUBLASLT_EPILOGUE_BIAS
using LtStatus = cublasStatus_t;
using LtType = cudaDataType_t;
#else
#include <hipblaslt/hipblaslt.h>
#define GRETA_LT(name) hipblasLt##name
#define GRETA_LT_LIBRARY "libhipblaslt.so.0"
#define GRETA_LT_TYPE(name) HIP_##name
#define GRETA_LT_COMPUTE HIPBLAS_COMPUTE_32F
#define GRETA_LT_OP_T HIPBLAS_OP_T
#define GRETA_LT_ATTRIBUTE(name) HIPBLASLT_MATMUL_##name
#define GRETA_LT_BIAS HIPBLASLT_EPILOGUE_BIAS
using LtStatus = hipblasStatus_t;
using LtType = hipDataType;
#endif

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

/// Bytes that the library may use for partial sums.
constexpr std::size_t kWorkspace = std::size_t{64} << 20;

void check(LtStatus status, const char* call) {
  if (static_cast<int>(status) != 0)
    throw Error(std::string("plan free: ") + call + " of " GRETA_LT_LIBRARY " returned status " +
                std::to_string(static_cast<int>(status)) + "; use plan invariant");
}

/// The library, loaded when the plan is first used, so that a machine without it runs every other plan.
class Library {
 public:
  Library() {
    handle_ = dlopen(GRETA_LT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr)
      throw Error(std::string("plan free: " GRETA_LT_LIBRARY " is not here (") + dlerror() +
                  "); install the vendor's BLAS, or use plan invariant");
  }
  template <class Function>
  Function* get(const char* name) const {
    auto* function = reinterpret_cast<Function*>(dlsym(handle_, name));
    if (function == nullptr)
      throw Error(std::string("plan free: " GRETA_LT_LIBRARY " has no ") + name + "; use plan invariant");
    return function;
  }

 private:
  void* handle_;
};

#if defined(__CUDACC__)
#define GRETA_LT_NAME(name) "cublasLt" #name
#else
#define GRETA_LT_NAME(name) "hipblasLt" #name
#endif
#define GRETA_LT_FUNCTION(name) decltype(GRETA_LT(name))* name = library.get<decltype(GRETA_LT(name))>(GRETA_LT_NAME(name))

struct Functions {
  Library library;
  GRETA_LT_FUNCTION(Create);
  GRETA_LT_FUNCTION(MatmulDescCreate);
  GRETA_LT_FUNCTION(MatmulDescSetAttribute);
  GRETA_LT_FUNCTION(MatrixLayoutCreate);
  GRETA_LT_FUNCTION(MatmulPreferenceCreate);
  GRETA_LT_FUNCTION(MatmulPreferenceSetAttribute);
  GRETA_LT_FUNCTION(MatmulAlgoGetHeuristic);
  GRETA_LT_FUNCTION(Matmul);
  GRETA_LT(Handle_t) handle = nullptr;
  Functions() { check(Create(&handle), "Create"); }
};

int current_device() {
  int device = 0;
#if defined(__CUDACC__)
  static_cast<void>(cudaGetDevice(&device));
#else
  static_cast<void>(hipGetDevice(&device));
#endif
  return device;
}

/// Of the current device: a handle of the library belongs to the one that it was made on.
const Functions& functions() {
  static std::vector<std::unique_ptr<const Functions> > found;
  const auto device = static_cast<std::size_t>(current_device());
  if (found.size() <= device) found.resize(device + 1);
  if (found[device] == nullptr) found[device] = std::make_unique<const Functions>();
  return *found[device];
}

/// A product of one shape, planned once: out^T [n_out, n_rows] = weight [n_out, n_in] x^T [n_in, n_rows], column-major.
struct Product {
  GRETA_LT(MatmulDesc_t) description = nullptr;
  GRETA_LT(MatrixLayout_t) weight = nullptr, x = nullptr, out = nullptr;
  GRETA_LT(MatmulHeuristicResult_t) chosen{};
};

GRETA_LT(MatrixLayout_t) layout(LtType type, std::int64_t rows, std::int64_t cols, std::int64_t ld) {
  GRETA_LT(MatrixLayout_t) made = nullptr;
  check(functions().MatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols), ld),
        "MatrixLayoutCreate");
  return made;
}

Product plan(const MatmulArgs& args) {
  const Functions& lt = functions();
  const LtType type = args.weight.dtype == DType::bf16 ? GRETA_LT_TYPE(R_16BF) : GRETA_LT_TYPE(R_16F);
  Product product;
  check(lt.MatmulDescCreate(&product.description, GRETA_LT_COMPUTE, GRETA_LT_TYPE(R_32F)), "MatmulDescCreate");
  const auto set = [&](auto attribute, const auto& value) {
    check(lt.MatmulDescSetAttribute(product.description, attribute, &value, sizeof value), "MatmulDescSetAttribute");
  };
  const auto transposed = GRETA_LT_OP_T;
  set(GRETA_LT_ATTRIBUTE(DESC_TRANSA), transposed);
  if (args.bias != nullptr) {
    const auto epilogue = GRETA_LT_BIAS;
    set(GRETA_LT_ATTRIBUTE(DESC_EPILOGUE), epilogue);
    set(GRETA_LT_ATTRIBUTE(DESC_BIAS_POINTER), args.bias);
  }
  const std::int64_t n_in = args.weight.n_cols, n_out = args.weight.n_rows;
  product.weight = layout(type, n_in, n_out, n_in);
  product.x = layout(type, n_in, args.n_rows, args.x.stride / 2);
  product.out = layout(GRETA_LT_TYPE(R_32F), n_out, args.n_rows, args.out.stride / static_cast<std::int64_t>(sizeof(float)));
  GRETA_LT(MatmulPreference_t) preference = nullptr;
  check(lt.MatmulPreferenceCreate(&preference), "MatmulPreferenceCreate");
  check(
      lt.MatmulPreferenceSetAttribute(preference, GRETA_LT_ATTRIBUTE(PREF_MAX_WORKSPACE_BYTES), &kWorkspace, sizeof kWorkspace),
      "MatmulPreferenceSetAttribute");
  int found = 0;
  check(lt.MatmulAlgoGetHeuristic(lt.handle, product.description, product.weight, product.x, product.out, product.out,
                                  preference, 1, &product.chosen, &found),
        "MatmulAlgoGetHeuristic");
  if (found == 0)
    throw Error("plan free: " GRETA_LT_LIBRARY " knows no product of " + std::to_string(args.n_rows) + " rows by [" +
                std::to_string(n_out) + ", " + std::to_string(n_in) + "]; use plan invariant");
  return product;
}

}  // namespace

void matmul_free(Stream stream, const MatmulArgs& args) {
  struct Planned {
    int device;
    MatmulArgs args;
    Product product;
  };
  static std::vector<std::unique_ptr<Planned> > planned;
  const auto alike = [&](const MatmulArgs& other) {
    return other.weight.n_rows == args.weight.n_rows && other.weight.n_cols == args.weight.n_cols &&
           other.weight.dtype == args.weight.dtype && other.n_rows == args.n_rows && other.x.stride == args.x.stride &&
           other.out.stride == args.out.stride && other.bias == args.bias;
  };
  const Product* known = nullptr;
  for (const auto& one : planned)
    if (one->device == current_device() && alike(one->args)) known = &one->product;
  if (known == nullptr) {
    planned.push_back(std::unique_ptr<Planned>(new Planned{current_device(), args, plan(args)}));
    known = &planned.back()->product;
  }
  const Product& product = *known;
  const float one = 1, zero = 0;
  check(functions().Matmul(functions().handle, product.description, &one, args.weight.data, product.weight, args.x.data,
                           product.x, &zero, args.out.data, product.out, args.out.data, product.out, &product.chosen.algo,
                           args.scratch, kWorkspace, native(stream)),
        "Matmul");
}

std::size_t matmul_free_scratch(const MatmulArgs&) { return kWorkspace; }

}  // namespace greta::gpu::GRETA_GPU_TARGET

#endif
