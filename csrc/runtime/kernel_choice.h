// Selection among the rows of a kernel family.
#pragma once

#include "base/cpu_features.h"
#include "base/error.h"

namespace pyruntime {

// The strongest row usable under `cap` that satisfies `accepts`; the first of equals. Throws Error if there
// is none.
template <typename Row, typename Accepts>
const Row& strongest_row(const Row* rows, int count, Isa cap, const char* family, Accepts accepts) {
  const Row* best = nullptr;
  for (int i = 0; i < count; ++i) {
    if (!isa_covers(cap, rows[i].isa) || !accepts(rows[i])) continue;
    if (best == nullptr || static_cast<int>(rows[i].isa) > static_cast<int>(best->isa)) best = &rows[i];
  }
  if (best == nullptr)
    throw Error(std::string("no ") + family + " kernel is usable under ISA " + isa_name(cap));
  return *best;
}

template <typename Row>
const Row& strongest_row(const Row* rows, int count, Isa cap, const char* family) {
  return strongest_row(rows, count, cap, family, [](const Row&) { return true; });
}

// How many tasks a step of `cycles` estimated cycles is worth: a few per thread, none shorter than about 20
// us, but one for every thread from 2000 cycles on. Costs are those of whole tiles and quiet cores: layers of
// few channels take two to three times as long, so about 2 us, and a hand-over takes 0.4 us. Workers also
// fall asleep during a row of steps that are not shared, which costs 10 us.
inline int tasks_for_cycles(double cycles, int num_threads) {
  if (num_threads <= 1) return 1;
  constexpr double kCyclesPerTask = 60e3;  // 20 us at 3 GHz
  const double most = 4.0 * num_threads;
  const double want = cycles / kCyclesPerTask;
  if (want >= most) return static_cast<int>(most);
  if (want >= num_threads) return static_cast<int>(want) / num_threads * num_threads;
  constexpr double kCyclesToShare = 2e3;
  return cycles > kCyclesToShare ? num_threads : 1;
}

}  // namespace pyruntime
