// Instruction sets, weakest first. A kernel row names the one it needs; a plan may use every row up to its
// cap.
#pragma once

namespace pyruntime {

enum class Isa : int { scalar = 0, avx2, avxvnni, avx512vnni, amxint8, neondot, neoni8mm };

}  // namespace pyruntime
