// Choices of integer layers by measurement (`pyruntime tune`), in place of those of the cost models.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pyruntime {

// How an integer layer runs: a row, a packing of its weights, a division into tasks.
//
// As text: "<row>, <packing>[, <pixel parts>x<channel parts>]", where the packing is `plain`, `folded` (the
// taps of a row as one tap) or `merged=<groups that run as one>`.
struct LayerChoice {
  std::string kernel;
  int64_t merge = 1;
  bool folded = false;
  int64_t pixel_parts = 0, channel_parts = 0;  // 0: as costs say
};

// Throws Error for a text of another form, or a row that this build does not have.
LayerChoice parse_choice(const std::string& text);
std::string choice_text(const LayerChoice& choice);

// What a session was told of its layers.
struct Tuning {
  std::map<std::string, LayerChoice> layers;  // by signature
  bool lists_candidates = false;              // steps tell what else could run
};

struct LayerCandidate {
  std::string choice;
  double cycles;  // estimated, of one core
};

// What a step tells of its layer, in sessions with a Tuning.
struct StepTuning {
  // All that a choice depends on; of weights, what another training with the same settings keeps.
  std::string signature;
  std::string choice;  // what runs
  bool tuned = false;  // the choice comes from the Tuning
  // Rows and packings that can run the layer, best estimate first, without those that are estimated to take 3
  // times as long as the best or longer; divisions of the choice.
  std::vector<LayerCandidate> rows;
  std::vector<std::string> divisions;
};

}  // namespace pyruntime
