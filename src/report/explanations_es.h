// What every reason of a verdict means, in Spanish.
#pragma once

#include <string_view>

#include "isolate/verdict.h"

namespace greta::report {

std::string_view explain_es(isolate::Reason reason);

}  // namespace greta::report
