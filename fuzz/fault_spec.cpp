// A fault as `--fault` takes it.
#include "fault/spec.h"
#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta;
  using namespace greta::fuzz;
  accepts([&] {
    const FaultSpec fault = parse_fault(text_of(data, size));
    const std::string text = to_string(fault);
    require(to_string(parse_fault(text)) == text, "the same fault again", text);
    for (const Stage stage : all_stages()) fault.matches(Phase::decode, 3, stage, 4);
  });
  return 0;
}
