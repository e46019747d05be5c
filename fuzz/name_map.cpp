// Stage names of other engines: lines "POINT=STAGE" make the map, the others are looked up in it.
#include "trace/name_map.h"

#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta;
  using namespace greta::fuzz;
  NameMap names;
  std::string_view rest = text_of(data, size);
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (const std::size_t equals = line.find('='); equals != std::string_view::npos) {
      accepts([&] { names.add(line.substr(0, equals), line.substr(equals + 1)); });
    } else if (const auto match = names.find(line); match && match->layer) {
      require(*match->layer >= 0, "a layer from 0");
    }
  }
  return 0;
}
