# The table of instruction sets: file name of a kernel source -> compiler flags. One row per ISA.
# A kernel source `csrc/kernels/<family>/<file>.cc` is compiled with the flags of its row and nothing else is.
set(PYRUNTIME_ISA_FILES scalar)
set(PYRUNTIME_ISA_scalar_FLAGS "")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  list(APPEND PYRUNTIME_ISA_FILES x86_avx2 x86_avx512vnni x86_avx512vbmi x86_amxint8)
  set(PYRUNTIME_ISA_x86_avx2_FLAGS -mavx2 -mfma -mf16c -mbmi -mbmi2)
  set(PYRUNTIME_ISA_x86_avx512vnni_FLAGS ${PYRUNTIME_ISA_x86_avx2_FLAGS} -mavx512f -mavx512bw -mavx512dq -mavx512vl
      -mavx512vnni -mprefer-vector-width=512)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 takes the "undefined" operands of its own AVX-512 header for uninitialized variables.
    list(APPEND PYRUNTIME_ISA_x86_avx512vnni_FLAGS -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
  set(PYRUNTIME_ISA_x86_avx512vbmi_FLAGS ${PYRUNTIME_ISA_x86_avx512vnni_FLAGS} -mavx512vbmi)
  set(PYRUNTIME_ISA_x86_amxint8_FLAGS ${PYRUNTIME_ISA_x86_avx512vnni_FLAGS} -mamx-tile -mamx-int8)
endif()

include(CheckCXXCompilerFlag)
set(PYRUNTIME_ISA_DEFINES "")
set(_usable "")
foreach(isa IN LISTS PYRUNTIME_ISA_FILES)
  string(REPLACE ";" " " _flags "${PYRUNTIME_ISA_${isa}_FLAGS}")
  string(REGEX REPLACE "^x86_|^arm_" "" _name ${isa})
  string(TOUPPER ${_name} _upper)
  check_cxx_compiler_flag("${_flags}" PYRUNTIME_COMPILES_${_upper})
  if(PYRUNTIME_COMPILES_${_upper} OR isa STREQUAL scalar)
    list(APPEND _usable ${isa})
    list(APPEND PYRUNTIME_ISA_DEFINES PYRUNTIME_HAVE_${_upper}=1)
  else()
    message(WARNING "The compiler cannot build the ${_name} kernels (${_flags}); they are left out.")
  endif()
endforeach()
set(PYRUNTIME_ISA_FILES ${_usable})
