// Expects an Error whose message is one line and says what the test wants said.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/error.h"

namespace greta::test {

/// Runs `action`; it must throw greta::Error with one line that contains every one of `parts`. Returns the line.
template <class Action>
std::string expect_error(Action action, const std::vector<std::string>& parts) {
  try {
    action();
  } catch (const Error& error) {
    const std::string line = error.what();
    EXPECT_THAT(line, testing::Not(testing::HasSubstr("\n")));
    for (const auto& part : parts) EXPECT_THAT(line, testing::HasSubstr(part));
    return line;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "wanted greta::Error, got: " << error.what();
    return {};
  }
  ADD_FAILURE() << "wanted an error, got none";
  return {};
}

}  // namespace greta::test
