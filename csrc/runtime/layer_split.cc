#include "runtime/layer_split.h"

#include <algorithm>
#include <limits>

#include "runtime/kernel_choice.h"

namespace pyruntime {
namespace {

bool rows_merge(const GridStrides& s, int64_t cols) { return s.row == s.col * cols; }
bool images_merge(const GridStrides& s, int64_t rows) { return s.image == s.row * rows; }

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

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

namespace {

// Blocks of channels that fill cache lines of bytes, so that two threads do not write to one line.
int64_t whole_lines(int64_t n_block) { return n_block < 64 ? 64 / n_block * n_block : n_block; }

// Aims at `want` tasks, and prefers channels to pixels or pixels to channels.
LayerSplit divide(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block, int64_t pixel_block,
                  int want, bool split_channels) {
  LayerSplit s;
  s.groups = groups;
  s.images = grid.images;
  s.rows = s.row_size = grid.rows;
  s.cols = s.col_size = grid.cols;
  s.n = s.n_size = n;
  int64_t missing = ceil_div(want, groups * grid.images);
  auto cut_channels = [&] {
    const int64_t granule = whole_lines(n_block);
    const int64_t blocks = ceil_div(n, granule);
    s.n_size = ceil_div(blocks, std::min(missing, blocks)) * granule;
    s.n_parts = ceil_div(n, s.n_size);
    missing = ceil_div(missing, s.n_parts);
  };
  auto cut_pixels = [&] {
    if (grid.rows > 1) {
      s.row_parts = std::min(missing, grid.rows);
      s.row_size = ceil_div(grid.rows, s.row_parts);
      missing = ceil_div(missing, s.row_parts);
    } else if (grid.cols > pixel_block) {
      const int64_t blocks = ceil_div(grid.cols, pixel_block);
      s.col_block = pixel_block;
      s.col_parts = std::min(missing, blocks);
      s.col_size = std::min(grid.cols, ceil_div(blocks, s.col_parts) * pixel_block);
      missing = ceil_div(missing, s.col_parts);
    }
  };
  if (split_channels) cut_channels();
  if (missing > 1) cut_pixels();
  if (missing > 1 && !split_channels) cut_channels();
  if (groups * s.images > std::numeric_limits<int>::max() / (s.row_parts * s.col_parts * s.n_parts))
    throw Error("a layer of " + std::to_string(s.images) + " images is more than one run can take");
  return s;
}

// Of one core of a Cascade Lake: what comes from L3 while a network runs, or from memory where its weights
// are many.
double weight_cycles(const PlanContext& context, double bytes) {
  constexpr double kFitL3 = 8e6;
  return bytes / (context.program_weight_bytes > kFitL3 ? 3.4 : 10.0);
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
  const int64_t channels = whole_lines(n_block), channel_blocks = ceil_div(n, channels);
  const bool by_rows = grid.rows > 1;
  const int64_t blocks = ceil_div(by_rows ? grid.rows : grid.cols, pixel_block);
  LayerSplit s, best;
  s.groups = groups;
  s.images = grid.images;
  s.rows = s.row_size = grid.rows;
  s.cols = s.col_size = grid.cols;
  s.n = n;
  (by_rows ? s.row_block : s.col_block) = pixel_block;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t parts = 1; parts <= std::min<int64_t>(blocks, 4 * threads); ++parts) {
    (by_rows ? s.row_parts : s.col_parts) = parts;
    int64_t& size = by_rows ? s.row_size : s.col_size;
    size = std::min(by_rows ? grid.rows : grid.cols, ceil_div(blocks, parts) * pixel_block);
    for (int64_t n_parts = 1; n_parts <= std::min<int64_t>(channel_blocks, threads); ++n_parts) {
      s.n_size = std::min(n, ceil_div(channel_blocks, n_parts) * channels);
      s.n_parts = ceil_div(n, s.n_size);
      const double rounds = static_cast<double>(ceil_div(s.tasks(), threads));
      const double time = rounds * cycles(s.row_size, s.col_size, s.n_size);
      if (time >= least) continue;
      least = time;
      best = s;
    }
  }
  return best;
}

}  // namespace pyruntime
