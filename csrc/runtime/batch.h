// Large batches run in slices, one after the other: what a layer reads and writes then stays in cache.
#pragma once

#include "runtime/layout.h"

namespace pyruntime {

// Samples of each slice for these input shapes; none where the values of the whole batch are small, where
// reading all weights once a slice would cost more, or where samples are not worked on one by one.
std::vector<int64_t> batch_slices(const Program& program, const Operators& operators,
                                  const std::vector<Shape>& input_shapes);

// Shapes of a slice of so many samples.
std::vector<Shape> with_samples(std::vector<Shape> shapes, int64_t samples);

// keeps_samples() of operators whose inputs broadcast to a tensor of `rank`: axis 0 of the batched ones must
// be its axis 0. Where others have one sample for each of the batch, shapes of slices do not fit.
bool broadcasts_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched, size_t rank);

}  // namespace pyruntime
