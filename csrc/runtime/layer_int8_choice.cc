// Which row of conv_int8 runs a layer, and on which packing: by costs, or as a tuning says.
#include <algorithm>
#include <cmath>

#include "kernels/conv_int8/conv_int8.h"
#include "runtime/kernel_choice.h"
#include "runtime/layer.h"
#include "runtime/layer_int8_requant.h"

namespace pyruntime {
namespace {

// Whether a session that asks for `choice` wants this format first. Dense rows stand in where that has none.
bool is_forced(std::optional<WeightFormat> choice, WeightFormat format) {
  return choice == format && format != WeightFormat::dense;
}

bool is_allowed(std::optional<WeightFormat> choice, WeightFormat format) {
  return !choice.has_value() || choice == format || format == WeightFormat::dense;
}

constexpr int64_t kMostSparseBlocks = 65536;  // of an output: lists number them in 16 bits

bool is_sparse(WeightFormat format) {
  return format == WeightFormat::block4 || format == WeightFormat::bitmask;
}

}  // namespace

std::vector<Int8Layer::Choice> Int8Layer::usable_rows(const PlanContext& context,
                                                      const LayerGrid& grid) const {
  int count = 0;
  const ConvInt8Kernel* rows = conv_int8_kernels(&count);
  const ConvInt8Grid pixels{grid.images, grid.rows, grid.cols, grid.is_window()};
  std::vector<Choice> usable;
  for (const Packing& packing : packings_) {
    if (packing.folded && !taps_fold(shape_, grid, 1)) continue;
    const ConvInt8Weights weights{in_memory(packing.merge), static_cast<int>(packing.n),
                                  static_cast<int>(packing.taps), static_cast<int>(packing.k)};
    for (int i = 0; i < count; ++i) {
      const ConvInt8Kernel& row = rows[i];
      const double density = row.format == WeightFormat::block4    ? packing.blocks
                             : row.format == WeightFormat::bitmask ? packing.weights
                                                                   : 1.0;
      if (!isa_covers(context.isa, row.isa) || !is_allowed(context.weight_format, row.format)) continue;
      if (row.format == WeightFormat::int4 && !packing.fits_int4) continue;
      if (row.format == WeightFormat::winograd && !(packing.fits_winograd && pixels.window)) continue;
      if (is_sparse(row.format) && packing.taps * ((packing.k + 3) / 4) > kMostSparseBlocks) continue;
      double cycles = row.cost(weights, density, pixels) * static_cast<double>(packing.groups);
      // Of weights that stand in blocks, lists of blocks say the same in fewer bytes: 0.7 of the time (Zen
      // 5).
      const bool in_blocks = packing.blocks < 1.1 * packing.weights;
      if (row.format == WeightFormat::bitmask && in_blocks) cycles *= 1.6;
      if (is_forced(context.weight_format, row.format)) cycles *= 1e-9;
      usable.push_back({&row, &packing, cycles});
    }
  }
  if (usable.empty())
    throw Error(std::string("no conv_int8 kernel is usable under ISA ") + isa_name(context.isa));
  return usable;
}

Int8Layer::Choice Int8Layer::choose(const PlanContext& context, const std::vector<Choice>& usable,
                                    const StepTuning* report) const {
  if (const LayerChoice* wanted = tuned_choice(context, report)) {
    for (Choice choice : usable) {
      const bool found = choice.kernel->name == wanted->kernel && choice.packing->merge == wanted->merge &&
                         choice.packing->folded == wanted->folded;
      if (!found) continue;
      choice.pixel_parts = wanted->pixel_parts;
      choice.channel_parts = wanted->channel_parts;
      return choice;
    }
    fail_tuned(*wanted);
  }
  const Choice* best = &usable.front();
  for (const Choice& c : usable) {
    // Reading weights may take all the time, whatever the instructions: then the stronger ones.
    const bool equal = c.cycles == best->cycles && c.kernel->isa > best->kernel->isa;
    if (c.cycles < best->cycles || equal) best = &c;
  }
  return *best;
}

const LayerChoice* Int8Layer::tuned_choice(const PlanContext& context, const StepTuning* report) {
  return report != nullptr && report->tuned ? &context.tuning->layers.at(report->signature) : nullptr;
}

void Int8Layer::fail_tuned(const LayerChoice& wanted) const {
  info_.fail("cannot run as its tuning says ('" + choice_text(wanted) + "'): tune the model again");
}

std::shared_ptr<StepTuning> Int8Layer::start_report(const PlanContext& context, const LayerGrid& grid) const {
  if (context.tuning == nullptr) return nullptr;
  auto report = std::make_shared<StepTuning>();
  report->signature = signature(context, grid);
  report->tuned = context.tuning->layers.count(report->signature) != 0;
  return report;
}

void Int8Layer::report_choice(const PlanContext& context, const LayerGrid& grid, const Choice& choice,
                              const LayerSplit& split, const std::vector<Choice>& usable,
                              StepTuning* report) const {
  const auto layer_choice = [](const Choice& c) {
    return LayerChoice{c.kernel->name, c.packing->merge, c.packing->folded, 0, 0};
  };
  report_split(layer_choice(choice), split, report);
  if (!context.tuning->lists_candidates) return;
  const Packing& p = *choice.packing;
  report_divisions(layer_choice(choice),
                   split_candidates(grid, p.groups, p.n, choice.kernel->n_block, pixel_block(choice, grid),
                                    choice.cycles, context.num_threads),
                   report);
  constexpr double kWorthATry = 3.0;
  std::vector<Choice> rows = usable;
  const auto cheaper = [](const Choice& a, const Choice& b) { return a.cycles < b.cycles; };
  std::stable_sort(rows.begin(), rows.end(), cheaper);
  for (const Choice& c : rows) {
    if (c.cycles < kWorthATry * rows.front().cycles)
      report->rows.push_back({choice_text(layer_choice(c)), c.cycles});
  }
}

void Int8Layer::report_split(LayerChoice choice, const LayerSplit& split, StepTuning* report) {
  choice.pixel_parts = split.pixel_parts();
  choice.channel_parts = split.n_parts;
  report->choice = choice_text(choice);
}

void Int8Layer::report_divisions(LayerChoice choice, const std::vector<LayerSplit>& splits,
                                 StepTuning* report) {
  for (const LayerSplit& split : splits) {
    choice.pixel_parts = split.pixel_parts();
    choice.channel_parts = split.n_parts;
    report->divisions.push_back(choice_text(choice));
  }
}

namespace {

// A fraction in steps of a factor of 2^(1/4), in percent.
std::string rounded_percent(double fraction) {
  const double steps = std::min(std::round(-4.0 * std::log2(std::max(fraction, 1e-3))), 40.0);
  return std::to_string(static_cast<int>(std::lround(100.0 * std::exp2(-0.25 * steps)))) + "%";
}

// Bits of the widest weight, with its sign.
int weight_bits(const int8_t* w, int64_t count) {
  uint8_t magnitudes = 0;  // of x and -1 - x, bit by bit
  for (int64_t i = 0; i < count; ++i) magnitudes |= static_cast<uint8_t>(w[i] ^ (w[i] >> 7));
  int bits = 1;
  for (; magnitudes != 0; magnitudes >>= 1) ++bits;
  return bits;
}

}  // namespace

std::string Int8Layer::signature(const PlanContext& context, const LayerGrid& grid) const {
  const auto text = [](int64_t number) { return std::to_string(number); };
  const auto list = [&](const char* name) {
    std::string joined;
    for (const int64_t v : info_.get_ints(name, {})) joined += (joined.empty() ? "" : "x") + text(v);
    return joined;
  };
  std::string s = info_.node().op + " " + text(shape_.k * shape_.groups) + "->" + text(shape_.n);
  if (shape_.taps() > 1) s += " window " + text(shape_.kh) + "x" + text(shape_.kw);
  if (shape_.groups > 1) s += " groups " + text(shape_.groups);
  for (const char* name : {"strides", "dilations"}) {
    if (info_.has(name)) s += std::string(" ") + name + " " + list(name);
  }
  for (const Packing& p : packings_) {
    if (p.merge > 1 || p.folded) continue;
    s += " weights " + rounded_percent(p.weights) + " blocks " + rounded_percent(p.blocks);
    if (p.fits_int4) s += " int4";
    if (p.fits_winograd) s += " winograd";
  }
  s += " bits " + text(weight_bits(static_cast<const int8_t*>(info_.constant(1).data),
                                   shape_.n * shape_.taps() * shape_.k));
  s += requant_->f32_output ? " to f32" : " to u8";
  if (grid.has_residual) s += " residual";
  if (context.table != nullptr) s += " table";
  // What a run reads between two runs of the layer decides where its weights come from.
  const int megabytes = std::ilogb(std::max(context.program_weight_bytes, 1e6) / 1e6 * 0.999) + 1;
  s += " in " + text(int64_t{1} << megabytes) + " MB";
  s += " on " + text(grid.images) + "x" + text(grid.rows) + "x" + text(grid.cols);
  return s;
}

}  // namespace pyruntime
