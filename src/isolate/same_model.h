// Are two captures of one model? Where they are not, their rows differ with nothing wrong, and no op may be blamed.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "isolate/align.h"
#include "isolate/verdict.h"
#include "trace/record.h"

namespace greta::isolate {

/// Vocabularies, numbers of layers or widths that differ: what meets under one key is not the same tensor, so nothing is
/// judged. Widths are those of x_in. What is unknown of either side (captures that are not ours) is not held against it.
std::optional<std::string> other_model(const Capture& a, const Capture& b, std::span<const RecordPair> pairs);

/// The first weight of one name that the arms' kernels were given in another type or with other bytes, and how many there are;
/// of captures without operands, that the files differ. Nothing where both captures name one model file: what differs then was
/// altered in an arm, which is its fault.
std::optional<std::string> other_weights(const Capture& a, const Capture& b, std::span<const RecordPair> pairs);

/// The first row of ours of which an operand was not kept: one whose kernel must have had some, or that the other arm's kernel
/// on the same route has. What such a row was computed from cannot be told.
std::optional<std::string> missing_operand(const Capture& a, const Capture& b, std::span<const RecordPair> pairs);

}  // namespace greta::isolate
