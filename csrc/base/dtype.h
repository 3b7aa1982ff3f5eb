// Element types of tensors.
#pragma once

#include <cstddef>
#include <string>

#include "base/error.h"

namespace pyruntime {

enum class DType { f32, u8, s8, s32, s64 };

inline size_t dtype_size(DType t) {
  switch (t) {
    case DType::f32:
    case DType::s32:
      return 4;
    case DType::s64:
      return 8;
    default:
      return 1;
  }
}

inline const char* dtype_name(DType t) {
  switch (t) {
    case DType::f32:
      return "f32";
    case DType::u8:
      return "u8";
    case DType::s8:
      return "s8";
    case DType::s32:
      return "s32";
    default:
      return "s64";
  }
}

inline DType parse_dtype(const std::string& name) {
  for (DType t : {DType::f32, DType::u8, DType::s8, DType::s32, DType::s64}) {
    if (name == dtype_name(t)) return t;
  }
  throw Error("unknown dtype '" + name + "': expected f32, u8, s8, s32 or s64");
}

}  // namespace pyruntime
