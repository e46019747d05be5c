// Full tensors from a safetensors file.
#include "trace/safetensors.h"

#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta;
  using namespace greta::fuzz;
  static MemoryFile file;
  file.fill(text_of(data, size));
  accepts([&] {
    const SafetensorsFile tensors(file.path());
    for (const TensorEntry& entry : tensors.tensors()) {
      require(tensors.find(entry.name) != nullptr, "a tensor found by its name");
      require(entry.offset >= 8 && entry.bytes >= 0 && static_cast<std::uint64_t>(entry.offset + entry.bytes) <= size,
              "tensors inside the file");
      accepts([&] { require(static_cast<std::int64_t>(tensors.read_f64(entry).size()) == entry.elements(), "all elements"); });
    }
  });
  return 0;
}
