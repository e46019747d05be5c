// Languages of report.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace greta::report {

enum class Language : std::uint8_t { both, spanish, english };
/// "both", "es", "en"; nullopt for anything else.
std::optional<Language> language_from_name(std::string_view name);

}  // namespace greta::report
