#include "cli/arm_flags.h"

#include "cli/checks.h"
#include "core/error.h"
#include "core/quote.h"

namespace greta::cli {

void BareFlags::add_to(CLI::App& verb) {
  verb.add_option("--backend", backend, "cpu (default), or auto");
  verb.add_option("--device", device, "Number of the backend's device")->check(at_least(0));
  verb.add_option("--plan", plan, "reference (default: F32, the same bits for any chunk, batch, threads) or float64 (the judge)");
  verb.add_option("--route", routes, "Route of one op: --route softmax=float64 (greta routes lists them)");
  verb.add_option("--kv", kv, "Type of the KV cache: f64 (default of plan float64), f32 (default), f16");
  verb.add_option("--threads", threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  verb.add_option("--chunk", chunk, "Rows of one prefill call at most (default 0: the whole prompt)")->check(at_least(0));
  verb.add_option("--isa", isa, "Instruction set: scalar, avx2 or avx512 (default: the best there is)");
}

ArmOptions BareFlags::options() const {
  ArmOptions out;
  out.backend = backend;
  out.plan = plan;
  out.kv = kv;
  out.isa = isa;
  if (chunk >= 0) out.chunk = chunk;
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
