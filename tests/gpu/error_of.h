// The message of the Error that a call throws.
#pragma once

#include <string>

#include "core/error.h"

namespace greta::gpu {

std::string error_of(auto&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace greta::gpu
