#include "cli/arm_flags.h"

#include "cli/checks.h"
#include "core/error.h"
#include "core/quote.h"

namespace greta::cli {

void BareFlags::add_to(CLI::App& verb) {
  verb.add_option("--backend", backend, "cpu (default), cuda, hip, emulated (GPU kernels on the CPU), or auto");
  verb.add_option("--device", device, "Number of the backend's device")->check(at_least(0));
  verb.add_option(
      "--plan", plan,
      "reference (default on the cpu: F32, the same bits for any chunk, batch, threads), q8 (the fast one there: quantised "
      "inputs, integer products; the same bits likewise), float64 (the judge); on a GPU reference, q8, invariant (default: "
      "matrix cores, the same bits likewise) or free (the vendor's library)");
  verb.add_option("--route", routes, "Route of one op: --route softmax=float64 (greta routes lists them)");
  verb.add_option("--kv", kv,
                  "Type of the KV cache: f64 (default of plan float64), f32 (default), f16 (default of plans invariant and "
                  "free), bf16, q8_0 "
                  "(blocks of 32 along head_dim)");
  verb.add_option("--threads", threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  verb.add_option("--chunk", chunk, "Rows of one prefill call at most (default 0: the whole prompt)")->check(at_least(0));
  verb.add_option("--batch", batch, "Sequences computed together: the prompt and companions that differ from it (default 1)")
      ->check(CLI::Range(1, kLargestBatch));
  verb.add_option("--isa", isa, "Instruction set: scalar, avx2 or avx512 (default: the best there is)");
}

ArmOptions BareFlags::options() const {
  ArmOptions out;
  out.backend = backend;
  out.plan = plan;
  out.kv = kv;
  out.isa = isa;
  if (chunk >= 0) out.chunk = chunk;
  if (batch > 0) out.batch = batch;
  if (threads > 0) out.threads = threads;
  if (device >= 0) out.device = device;
  for (const std::string& route : routes) {
    const std::size_t equals = route.find('=');
    if (equals == std::string::npos) fail("--route {} is not op=route; for example softmax=float64", quote(route));
    out.routes[route.substr(0, equals)] = route.substr(equals + 1);
  }
  return out;
}

}  // namespace greta::cli
