#include "report/language.h"

namespace greta::report {

std::optional<Language> language_from_name(std::string_view name) {
  if (name == "both") return Language::both;
  if (name == "es") return Language::spanish;
  if (name == "en") return Language::english;
  return std::nullopt;
}

}  // namespace greta::report
