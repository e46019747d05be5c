// captures/<arm>/<prompt>/: every record of an arm, as fingerprints without slices, sketches and operands.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/error.h"
#include "trace/json.h"
#include "trace/record.h"

namespace greta {

inline constexpr std::string_view kCaptureJson = "capture.json";
inline constexpr std::string_view kRecordsFile = "records.bin";

/// Writes capture.json (the arm's description and its logits) and records.bin (104 bytes a record; docs/formats.md).
/// Throws Error where a file cannot be written or a value does not fit the format.
void write_capture_dir(const std::filesystem::path& directory, const Capture& capture);
/// Gives the capture back, without what the store leaves out. Throws Error, one line naming the file: torn, wrong magic or
/// version, counts that do not match the size, a hash that does not match, an unknown stage, dtype or phase.
Capture read_capture_dir(const std::filesystem::path& directory);

/// The arm's description (everything in Capture but records and logits) as fields of a JSON object, and back.
void append_description(json::ObjectWriter& object, const Capture& capture);
Result<Capture> parse_description(const json::Value& object);

}  // namespace greta
