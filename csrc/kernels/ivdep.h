// PYRUNTIME_IVDEP before a loop: its iterations touch different memory, so the compiler may vectorize it.
#pragma once

#if defined(__clang__)
#define PYRUNTIME_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define PYRUNTIME_IVDEP _Pragma("GCC ivdep")
#endif
