#include "base/cpu_features.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

#if defined(__x86_64__) || defined(_M_X64)
#define PYRUNTIME_X86 1
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pyruntime {
namespace {

#ifdef PYRUNTIME_X86
struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(uint32_t leaf, uint32_t subleaf) {
  Leaf r;
  __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
  return r;
}

// XCR0 bits: 1 SSE, 2 YMM, 5-7 AVX-512 state, 17-18 AMX state.
constexpr uint64_t kYmmState = 0x6, kZmmState = 0xE6, kTileState = 0x60000;

uint64_t xcr0() {
  uint32_t lo = 0, hi = 0;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<uint64_t>(hi) << 32) | lo;
}

bool has_all(uint32_t word, std::initializer_list<int> bits) {
  for (int bit : bits)
    if (!((word >> bit) & 1u)) return false;
  return true;
}

// Linux hands out the 8 KB of tile data only on request (arch_prctl ARCH_REQ_XCOMP_PERM); a denial means "no
// AMX".
bool request_tile_permission(std::string* reason) {
#if defined(__linux__)
  constexpr long kGetPermission = 0x1022, kRequestPermission = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0) {
    *reason = "the operating system denied the use of AMX tile data";
    return false;
  }
  unsigned long granted = 0;
  if (syscall(SYS_arch_prctl, kGetPermission, &granted) != 0 || !((granted >> kTileData) & 1ul)) {
    *reason = "the operating system did not grant AMX tile data";
    return false;
  }
  return true;
#else
  *reason = "AMX permission is only known how to be requested on Linux";
  return false;
#endif
}

std::string brand_string() {
  if (cpuid(0x80000000u, 0).eax < 0x80000004u) return "";
  char text[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Leaf r = cpuid(0x80000002u + i, 0);
    std::memcpy(text + 16 * i, &r, 16);
  }
  std::string brand(text);
  while (!brand.empty() && brand.back() == ' ') brand.pop_back();
  return brand;
}

// The extended fields count for families from 15 on, the extended model for family 6 too.
std::string model_string() {
  const uint32_t signature = cpuid(1, 0).eax;
  uint32_t family = signature >> 8 & 0xF, model = signature >> 4 & 0xF;
  if (family == 6 || family == 15) model += (signature >> 16 & 0xF) << 4;
  if (family == 15) family += signature >> 20 & 0xFF;
  return "family " + std::to_string(family) + " model " + std::to_string(model);
}

CpuFeatures detect() {
  CpuFeatures f;
  f.brand = brand_string();
  f.model = model_string();
  const uint32_t max_leaf = cpuid(0, 0).eax;
  if (max_leaf < 7) return f;
  const Leaf l1 = cpuid(1, 0), l7 = cpuid(7, 0);
  const Leaf l71 = l7.eax >= 1 ? cpuid(7, 1) : Leaf{};
  if (!has_all(l1.ecx, {27})) return f;  // OSXSAVE
  const uint64_t state = xcr0();
  const bool ymm = (state & kYmmState) == kYmmState;
  const bool zmm = (state & kZmmState) == kZmmState;
  const bool tiles = (state & kTileState) == kTileState;
  f.avx2 =
      ymm && has_all(l1.ecx, {12, 28, 29}) && has_all(l7.ebx, {3, 5, 8});  // FMA AVX F16C; BMI1 AVX2 BMI2
  f.avxvnni = f.avx2 && has_all(l71.eax, {4});
  f.avx512vnni = f.avx2 && zmm && has_all(l7.ebx, {16, 17, 30, 31}) && has_all(l7.ecx, {11});
  f.avx512vbmi = f.avx512vnni && has_all(l7.ecx, {1});
  constexpr uint32_t kAuth = 0x68747541;  // of "AuthenticAMD"
  if (f.avx512vnni && cpuid(0, 0).ebx == kAuth) f.l3_bytes_per_cycle = 20.0;
#ifdef PYRUNTIME_EMULATE_AMX
  f.brand += " (AMX emulated)";
  f.amxint8 = f.avx512vnni;
  return f;
#endif
  if (f.avx512vnni && has_all(l7.edx, {24, 25})) {
    if (!tiles)
      f.amx_reason = "the operating system does not save AMX tiles";
    else
      f.amxint8 = request_tile_permission(&f.amx_reason);
  }
  return f;
}
#else
CpuFeatures detect() { return {}; }
#endif

struct IsaRow {
  Isa isa;
  const char* name;
  bool built;
  bool CpuFeatures::* feature;  // null: always there
};

constexpr bool kBuiltAvx2 =
#ifdef PYRUNTIME_HAVE_AVX2
    true;
#else
    false;
#endif
constexpr bool kBuiltAvxVnni =
#ifdef PYRUNTIME_HAVE_AVXVNNI
    true;
#else
    false;
#endif
constexpr bool kBuiltAvx512Vnni =
#ifdef PYRUNTIME_HAVE_AVX512VNNI
    true;
#else
    false;
#endif
constexpr bool kBuiltAvx512Vbmi =
#ifdef PYRUNTIME_HAVE_AVX512VBMI
    true;
#else
    false;
#endif
constexpr bool kBuiltAmxInt8 =
#ifdef PYRUNTIME_HAVE_AMXINT8
    true;
#else
    false;
#endif

// Weakest first. A name without kernels in this build stays known, so that asking for it gets a reason.
constexpr IsaRow kIsas[] = {
    {Isa::scalar, "scalar", true, nullptr},
    {Isa::avx2, "avx2", kBuiltAvx2, &CpuFeatures::avx2},
    {Isa::avxvnni, "avxvnni", kBuiltAvxVnni, &CpuFeatures::avxvnni},
    {Isa::avx512vnni, "avx512vnni", kBuiltAvx512Vnni, &CpuFeatures::avx512vnni},
    {Isa::avx512vbmi, "avx512vnni", kBuiltAvx512Vbmi, &CpuFeatures::avx512vbmi},
    {Isa::amxint8, "amxint8", kBuiltAmxInt8, &CpuFeatures::amxint8},
    {Isa::neondot, "neondot", false, &CpuFeatures::neondot},
    {Isa::neoni8mm, "neoni8mm", false, &CpuFeatures::neoni8mm},
};

// Whether a session can be capped at it.
bool is_cap(const IsaRow& r) { return r.isa != Isa::avx512vbmi; }

const IsaRow& row(Isa isa) {
  for (const IsaRow& r : kIsas)
    if (r.isa == isa) return r;
  throw Error("unknown instruction set number " + std::to_string(static_cast<int>(isa)));
}

std::string names(const std::vector<Isa>& isas) {
  std::string text;
  for (Isa isa : isas) text += (text.empty() ? "" : ", ") + std::string(isa_name(isa));
  return text;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

const char* isa_name(Isa isa) { return row(isa).name; }

const std::vector<Isa>& known_isas() {
  static const std::vector<Isa> all = [] {
    std::vector<Isa> v;
    for (const IsaRow& r : kIsas)
      if (is_cap(r)) v.push_back(r.isa);
    return v;
  }();
  return all;
}

Isa parse_isa(const std::string& name) {
  for (const IsaRow& r : kIsas)
    if (is_cap(r) && name == r.name) return r.isa;
  throw Error("unknown instruction set '" + name + "': expected one of " + names(known_isas()));
}

bool isa_usable(Isa isa, std::string* why_not) {
  const IsaRow& r = row(isa);
  std::string reason;
  if (r.feature && !(cpu_features().*r.feature))
    reason = isa == Isa::amxint8 && !cpu_features().amx_reason.empty() ? cpu_features().amx_reason
                                                                       : "this CPU lacks it";
  else if (!r.built)
    reason = "this build has no kernels for it";
  if (why_not) *why_not = reason;
  return reason.empty();
}

std::vector<Isa> available_isas() {
  std::vector<Isa> usable;
  for (const IsaRow& r : kIsas)
    if (is_cap(r) && isa_usable(r.isa, nullptr)) usable.push_back(r.isa);
  return usable;
}

bool isa_covers(Isa cap, Isa needed) {
  const bool arm_cap = cap == Isa::neondot || cap == Isa::neoni8mm;
  const bool arm_needed = needed == Isa::neondot || needed == Isa::neoni8mm;
  if (needed == Isa::scalar) return true;
  if (arm_cap != arm_needed) return false;
  // AVX-512 has rows of twice the width for all that AVX-VNNI has, and not all of its machines have the
  // latter.
  if (needed == Isa::avxvnni) return cap == Isa::avxvnni;
  if (needed == Isa::avx512vbmi) return cpu_features().avx512vbmi && isa_covers(cap, Isa::avx512vnni);
  return static_cast<int>(needed) <= static_cast<int>(cap);
}

Isa resolve_isa(const std::string& requested) {
  std::string name = requested;
  std::string source = "isa";
  if (name.empty()) {
    const char* env = std::getenv("PYRUNTIME_ISA");
    if (env && *env) {
      name = env;
      source = "PYRUNTIME_ISA";
    }
  }
  const std::vector<Isa> usable = available_isas();
  if (name.empty()) return usable.back();
  Isa isa = Isa::scalar;
  try {
    isa = parse_isa(name);
  } catch (const Error&) {
    throw Error(source + "='" + name + "' is no known instruction set: use one of " + names(usable));
  }
  std::string why;
  if (!isa_usable(isa, &why))
    throw Error(source + "='" + name + "' cannot be used: " + why + "; use one of " + names(usable));
  return isa;
}

}  // namespace pyruntime
