// Instruction sets, weakest first. A kernel row names the one it needs; a plan may use every row up to its
// cap. avx512vbmi is no cap of its own: its rows belong to avx512vnni, on CPUs that have VBMI (Ice Lake and
// later, Zen 4; Cascade Lake has VNNI without it).
#pragma once

namespace pyruntime {

enum class Isa : int { scalar = 0, avx2, avxvnni, avx512vnni, avx512vbmi, amxint8, neondot, neoni8mm };

}  // namespace pyruntime
