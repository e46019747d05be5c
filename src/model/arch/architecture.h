// The model architectures that greta knows: one file each, one row each in table.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/arch/decoder.h"
#include "model/config.h"

namespace greta {

class Gguf;

/// What synthetic files of an architecture say beside their shape: the values of its published models, but for the window,
/// which is short enough that short prompts leave it.
struct SynthDefaults {
  int window = 0;
  double attention_softcap = 0.0, final_softcap = 0.0;
  double rope_theta = 0.0;  // 0: the shape's
  double rope_linear_scale = 1.0;
};

struct Architecture {
  std::string_view name;  // GGUF general.architecture
  ModelConfig (*read_config)(const Gguf& file);
  DecoderParts parts;
  SynthDefaults synth;
};

/// The architecture that the file names; throws Error for one that is not in the table, listing those that are.
const Architecture& find_architecture(const Gguf& file);
/// nullptr where there is none of that name.
const Architecture* architecture_named(std::string_view name);
std::vector<std::string> architecture_names();

}  // namespace greta
