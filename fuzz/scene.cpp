// The scene of a reproducer as `audit DIR` and `reproduce DIR` load it, with its model file, and the search for its cause. The
// input: two bytes of a length (little endian) and the scene's JSON, the same of its rows (safetensors), the rest is the model.
// The model's hash is not asked for: it would stop a fuzzer at the door, and a scene may name any.
#include "cli/scene.h"

#include <filesystem>

#include "cli/scene_check.h"
#include "cli/scene_files.h"
#include "fuzz/directory.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta;
  using namespace greta::fuzz;
  static const Directory directory({"audit"});
  std::string_view in = text_of(data, size);
  const auto part = [&] {
    std::size_t length = 0;
    if (in.size() >= 2)
      length = static_cast<std::uint8_t>(in[0]) | static_cast<std::size_t>(static_cast<std::uint8_t>(in[1])) << 8;
    in.remove_prefix(std::min<std::size_t>(2, in.size()));
    const std::string_view out = in.substr(0, length);
    in.remove_prefix(out.size());
    return out;
  };
  write(directory.path() / "audit" / "000_p.json", part());
  write(directory.path() / "audit" / "000_p.safetensors", part());
  write(directory.path() / "op.gguf", in);
  accepts([&] {
    for (const cli::StoredScene& stored : cli::read_scenes(directory.path())) {
      const std::shared_ptr<const Gguf> file = Gguf::open(directory.path() / "op.gguf");
      cli::check_scene(stored.scene, stored.model.n_layers, *file, stored.source);
      std::string missing;
      const auto found = cli::search_scene(stored.scene, *file, missing);
      if (!missing.empty()) require_one_line(missing);
      (void)cli::combined({{stored.scene, found, missing}});
    }
  });
  return 0;
}
