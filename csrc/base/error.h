// The one exception of the core. The message is one line: what (node, tensor, option), what was found, what
// was expected.
#pragma once

#include <stdexcept>
#include <string>

namespace pyruntime {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

}  // namespace pyruntime
