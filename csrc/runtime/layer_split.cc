#include "runtime/layer_split.h"

#include <algorithm>
#include <limits>

#include "base/cpu_features.h"
#include "runtime/kernel_choice.h"

namespace pyruntime {
namespace {

bool rows_merge(const GridStrides& s, int64_t cols) { return s.row == s.col * cols; }
bool images_merge(const GridStrides& s, int64_t rows) { return s.image == s.row * rows; }

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks of channels that fill cache lines of bytes, so that two threads do not write to one line.
int64_t whole_lines(int64_t n_block) { return n_block < 64 ? 64 / n_block * n_block : n_block; }

}  // namespace

void LayerGrid::collapse() {
  constexpr int64_t kMost = int64_t{1} << 30;  // kernels count pixels in int
  auto all = [&](auto merges, int64_t n) {
    return merges(x, n) && merges(y, n) && (!has_residual || merges(residual, n));
  };
  auto merge_rows = [&] {
    if (rows == 1 || rows * cols > kMost || !all(rows_merge, cols)) return;
    cols *= rows;
    rows = 1;
  };
  if (images > 1 && images * rows <= kMost && all(images_merge, rows)) {
    rows *= images;
    images = 1;
  }
  merge_rows();
  if (rows == 1 && images > 1) {  // an image is one row: images become rows, which may merge again
    for (GridStrides* s : {&x, &y, &residual}) s->row = s->image;
    rows = images;
    images = 1;
    merge_rows();
  }
}

LayerPiece LayerSplit::piece(int task) const {
  LayerPiece p{};
  int64_t rest = task;
  const int64_t col_part = rest % col_parts;
  rest /= col_parts;
  const int64_t row_part = rest % row_parts;
  rest /= row_parts;
  p.image = rest % images;
  rest /= images;
  const int64_t n_part = rest % n_parts;
  p.group = rest / n_parts;
  const int64_t row_blocks = ceil_div(rows, row_block);
  p.row = row_blocks * row_part / row_parts * row_block;
  p.rows = std::min(rows, row_blocks * (row_part + 1) / row_parts * row_block) - p.row;
  const int64_t blocks = ceil_div(cols, col_block);
  p.col = blocks * col_part / col_parts * col_block;
  p.cols = std::min(cols, blocks * (col_part + 1) / col_parts * col_block) - p.col;
  p.n_begin = n_part * n_size;
  p.n_end = std::min(n, p.n_begin + n_size);
  return p;
}

LayerSplit split_into(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block, int64_t pixel_block,
                      int64_t pixel_parts, int64_t channel_parts) {
  LayerSplit s;
  s.groups = groups;
  s.images = grid.images;
  s.rows = s.row_size = grid.rows;
  s.cols = s.col_size = grid.cols;
  s.n = n;
  const bool by_rows = grid.rows > 1;
  const int64_t length = by_rows ? grid.rows : grid.cols, blocks = ceil_div(length, pixel_block);
  const int64_t parts = std::min(pixel_parts, blocks);
  (by_rows ? s.row_block : s.col_block) = pixel_block;
  (by_rows ? s.row_parts : s.col_parts) = parts;
  (by_rows ? s.row_size : s.col_size) = std::min(length, ceil_div(blocks, parts) * pixel_block);
  const int64_t lines = whole_lines(n_block), channel_blocks = ceil_div(n, lines);
  s.n_size = std::min(n, ceil_div(channel_blocks, std::min(channel_parts, channel_blocks)) * lines);
  s.n_parts = ceil_div(n, s.n_size);
  if (groups * s.images > std::numeric_limits<int>::max() / (parts * s.n_parts))
    throw Error("a layer of " + std::to_string(s.images) + " images is more than one run can take");
  return s;
}

namespace {

// Aims at `want` tasks, and prefers channels to pixels or pixels to channels.
LayerSplit divide(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block, int64_t pixel_block,
                  int64_t want, bool split_channels) {
  const int64_t missing = ceil_div(want, groups * grid.images);
  const LayerSplit first = split_channels ? split_into(grid, groups, n, n_block, pixel_block, 1, missing)
                                          : split_into(grid, groups, n, n_block, pixel_block, missing, 1);
  const int64_t rest = ceil_div(missing, first.pixel_parts() * first.n_parts);
  return split_channels ? split_into(grid, groups, n, n_block, pixel_block, rest, first.n_parts)
                        : split_into(grid, groups, n, n_block, pixel_block, first.pixel_parts(), rest);
}

// Of one core of a Cascade Lake: what comes from L3 while a network runs, or from memory where its weights
// are many.
double weight_cycles(const PlanContext& context, double bytes) {
  constexpr double kFitL3 = 8e6;
  return bytes / (context.program_weight_bytes > kFitL3 ? 3.4 : cpu_features().l3_bytes_per_cycle);
}

// What the busiest thread does of all the work.
double share(const LayerSplit& s, int threads) {
  if (s.tasks() > threads) return static_cast<double>(ceil_div(s.tasks(), threads)) / s.tasks();
  const double piece = static_cast<double>(s.row_size * s.col_size) * static_cast<double>(s.n_size);
  return piece / (static_cast<double>(s.groups * s.images * s.rows * s.cols) * static_cast<double>(s.n));
}

}  // namespace

// Fitted to layers of ResNet-50 and MobileNetV2 on two threads of a Cascade Lake: a line takes 40 cycles.
double fetch_cycles(double input_bytes, int threads) {
  return input_bytes * (threads - 1) / threads / 64.0 * 40.0;
}

LayerSplit split_layer(const PlanContext& context, const LayerGrid& grid, int64_t groups, int64_t n,
                       int64_t n_block, int64_t pixel_block, const LayerWork& work) {
  const int threads = context.num_threads, want = tasks_for_cycles(work.cycles, threads);
  pixel_block = pixel_granule(grid, pixel_block);
  const auto cycles = [&](const LayerSplit& s) {
    // Threads take neighbouring tasks, so of channels that are divided each reads its own weights. Tasks of
    // pixels read all of them, where L2 does not hold them every time.
    const int reads = work.few_tasks ? static_cast<int>(ceil_div(s.tasks(), threads)) : 1;
    const double fetched = s.n_parts > 1
                               ? fetch_cycles(work.input_bytes, threads)
                               : weight_cycles(context, work.weight_bytes * (reads - 1.0 / threads));
    return share(s, threads) * work.cycles + (s.tasks() > 1 ? fetched : 0.0);
  };
  // Few channels of few pixels make slow tiles: 7x7 layers of ResNet-50 take a tenth less time in 4 tasks
  // than in 8.
  const int few = std::min(want, 2 * threads), least = std::min(want, threads);
  LayerSplit best = divide(grid, groups, n, n_block, pixel_block, work.few_tasks ? few : want, false);
  const auto consider = [&](int tasks, bool by_channels) {
    const LayerSplit s = divide(grid, groups, n, n_block, pixel_block, tasks, by_channels);
    if (cycles(s) <= cycles(best)) best = s;
  };
  consider(few, true);
  if (work.few_tasks) {
    consider(least, false);
    consider(least, true);
  }
  return best;
}

LayerSplit split_tiles(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block, int64_t pixel_block,
                       int threads,
                       const std::function<double(int64_t rows, int64_t cols, int64_t n)>& cycles) {
  const int64_t channel_blocks = ceil_div(n, whole_lines(n_block));
  const int64_t blocks = ceil_div(grid.rows > 1 ? grid.rows : grid.cols, pixel_block);
  LayerSplit best;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t parts = 1; parts <= std::min<int64_t>(blocks, 4 * threads); ++parts) {
    for (int64_t n_parts = 1; n_parts <= std::min<int64_t>(channel_blocks, threads); ++n_parts) {
      const LayerSplit s = split_into(grid, groups, n, n_block, pixel_block, parts, n_parts);
      const double rounds = static_cast<double>(ceil_div(s.tasks(), threads));
      const double time = rounds * cycles(s.row_size, s.col_size, s.n_size);
      if (time >= least) continue;
      least = time;
      best = s;
    }
  }
  return best;
}

std::vector<LayerSplit> split_candidates(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block,
                                         int64_t pixel_block, double cycles, int threads) {
  constexpr double kShort = 100e3;  // cycles, about 30 us: a hand-over takes 0.4 us, waking a worker 10
  std::vector<LayerSplit> found;
  const auto add = [&](int64_t tasks, bool by_channels) {
    const LayerSplit s = divide(grid, groups, n, n_block, pixel_block, tasks, by_channels);
    const auto same = [&](const LayerSplit& other) {
      return other.pixel_parts() == s.pixel_parts() && other.n_parts == s.n_parts;
    };
    if (std::none_of(found.begin(), found.end(), same)) found.push_back(s);
  };
  if (cycles < kShort || threads == 1) add(1, false);
  for (const int64_t tasks : {threads, 2 * threads, 4 * threads}) {
    if (threads == 1) break;
    add(tasks, false);
    add(tasks, true);
  }
  return found;
}

}  // namespace pyruntime
