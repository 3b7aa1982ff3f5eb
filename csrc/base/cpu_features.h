// What this CPU and operating system let us run, and the choice of an instruction set.
// No dependency: CPUID, XGETBV and (Linux) the AMX permission request. Features are demanded in groups, never
// bit by bit.
#pragma once

#include <string>
#include <vector>

#include "base/isa.h"

namespace pyruntime {

struct CpuFeatures {
  bool avx2 = false;        // AVX2, FMA, F16C, BMI2 and the OS saves YMM
  bool avxvnni = false;     // avx2 and AVX-VNNI
  bool avx512vnni = false;  // avx2, AVX-512 F/BW/DQ/VL/VNNI and the OS saves ZMM
  bool avx512vbmi = false;  // avx512vnni and AVX-512 VBMI
  bool amxint8 = false;     // avx512vnni, AMX-TILE, AMX-INT8 and the OS granted tile data to this process
  bool neondot = false;
  bool neoni8mm = false;
  // Of weights that one core takes in a cycle while the others do, too: 10 on servers of Intel (Cascade
  // Lake), 20 on those of AMD with AVX-512 (Zen 5). For cost models only.
  double l3_bytes_per_cycle = 10.0;
  std::string amx_reason;  // why amxint8 is false although the CPU has it; else empty
  std::string brand;       // CPUID brand string, may be empty
  std::string model;       // "family 6 model 143", since virtual machines cut brands down to "AMD EPYC"
};

const CpuFeatures& cpu_features();  // detected once

const char* isa_name(Isa isa);  // "avx512vnni" for avx512vbmi too
// Throws Error that lists the known names.
Isa parse_isa(const std::string& name);
// All names there are, weakest first.
const std::vector<Isa>& known_isas();
// True if this CPU and this build can run kernels of `isa`; otherwise the reason goes to *why_not (may be
// null).
bool isa_usable(Isa isa, std::string* why_not);
std::vector<Isa> available_isas();  // usable ones, weakest first
// True if a session capped at `cap` may run a kernel that needs `needed`.
bool isa_covers(Isa cap, Isa needed);
// `requested` if not empty, else environment PYRUNTIME_ISA, else the strongest usable. Throws Error for an
// unknown or unusable name: never a silent fallback.
Isa resolve_isa(const std::string& requested);

}  // namespace pyruntime
