#include "runtime/tuning.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/conv_int8/conv_int8.h"
#include "kernels/depthwise_int8/depthwise_int8.h"

namespace pyruntime {
namespace {

constexpr int64_t kMostParts = 1 << 20;

template <typename Row>
bool has_row(const Row* (*list)(int*), const std::string& name) {
  int count = 0;
  const Row* rows = list(&count);
  return std::any_of(rows, rows + count, [&](const Row& row) { return name == row.name; });
}

[[noreturn]] void refuse(const std::string& text) {
  throw Error("choice '" + text + "': expected '<kernel>, <plain, folded or merged=N>, <pixels>x<channels>'");
}

// 1 to kMostParts.
int64_t parse_count(const std::string& digits, const std::string& text) {
  const bool short_number = !digits.empty() && digits.size() <= 7;
  if (!short_number || digits.find_first_not_of("0123456789") != std::string::npos) refuse(text);
  const int64_t count = std::stoll(digits);
  if (count < 1 || count > kMostParts) refuse(text);
  return count;
}

}  // namespace

LayerChoice parse_choice(const std::string& text) {
  LayerChoice choice;
  const size_t comma = text.find(", ");
  if (comma == std::string::npos) refuse(text);
  choice.kernel = text.substr(0, comma);
  std::string packing = text.substr(comma + 2);
  const size_t second = packing.find(", ");
  if (second != std::string::npos) {
    const std::string parts = packing.substr(second + 2);
    packing.resize(second);
    const size_t cross = parts.find('x');
    if (cross == std::string::npos) refuse(text);
    choice.pixel_parts = parse_count(parts.substr(0, cross), text);
    choice.channel_parts = parse_count(parts.substr(cross + 1), text);
  }
  if (packing == "folded")
    choice.folded = true;
  else if (packing.rfind("merged=", 0) == 0)
    choice.merge = parse_count(packing.substr(7), text);
  else if (packing != "plain")
    refuse(text);
  if (!has_row(conv_int8_kernels, choice.kernel) && !has_row(depthwise_int8_kernels, choice.kernel))
    throw Error("choice '" + text + "': this build has no kernel '" + choice.kernel + "'");
  return choice;
}

std::string choice_text(const LayerChoice& choice) {
  std::string text = choice.kernel + ", ";
  if (choice.merge > 1)
    text += "merged=" + std::to_string(choice.merge);
  else
    text += choice.folded ? "folded" : "plain";
  if (choice.pixel_parts > 0)
    text += ", " + std::to_string(choice.pixel_parts) + "x" + std::to_string(choice.channel_parts);
  return text;
}

}  // namespace pyruntime
