// Interleaved range asymmetric numeral systems (Duda 2013) over a matrix of bytes with static tables.
//
// `lanes` coders share one stream of 16-bit words; lane l codes row l of a bundle of `lanes` rows, column by
// column. A state is 32 bits in [2^16, 2^32); one word is read whenever it falls below. So many states at
// once are what vectors are good for (Giesen 2014, "Interleaved entropy coders").
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/isa.h"

namespace pyruntime::entropy {

// The block for rows x columns symbols, given its head. Throws Error if the head does not fit the symbols.
std::vector<uint8_t> encode(const uint8_t* head, size_t head_size, const uint8_t* symbols, size_t rows,
                            size_t columns);

// The symbols of a block into `symbols`, rows x columns bytes, with instructions up to `isa`. Throws Error
// for anything malformed.
void decode(const uint8_t* block, size_t size, uint8_t* symbols, size_t rows, size_t columns, Isa isa);

}  // namespace pyruntime::entropy
