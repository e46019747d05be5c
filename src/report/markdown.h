// report.md: the original report's sections in its order, every sentence from measured values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "isolate/outcome.h"

namespace greta::report {

enum class Language : std::uint8_t { both, spanish, english };
/// "both", "es", "en"; nullopt for anything else.
std::optional<Language> language_from_name(std::string_view name);

/// Spanish first where both are asked for.
std::string markdown(const isolate::Outcome& outcome, Language language);

}  // namespace greta::report
