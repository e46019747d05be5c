// "Did you mean": the known name nearest to one that is not known.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace greta {

/// The known name with the smallest Levenshtein distance to `wanted` (ties: the first); empty where none is within half of
/// the longer name's length.
std::string_view nearest(std::string_view wanted, std::span<const std::string_view> known);

/// "; did you mean 'x'; known: a, b, c" for the end of an error line (without the first part where nothing is near).
std::string suggestion(std::string_view wanted, std::span<const std::string_view> known);

}  // namespace greta
