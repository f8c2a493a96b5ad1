# SPDX-License-Identifier: MIT
# repquant_add_dispatch(<target>): links the target with the engine compiled for every instruction set of the
# processor, of which dispatched_engine chooses one when the program runs. The target's own flags stay.
#
# No function compiled for one instruction set may serve another (docs/decisions/0015): in each unit the
# namespaces repquant and xsimd have names of their own, and what the standard library leaves is inlined, so the
# units are optimized in every configuration. tests/dispatch reads the objects.

function(repquant_add_dispatch target)
  if(NOT TARGET repquant_dispatch)
    # One line per instruction set: its name, the architecture of its lanes, its flags.
    string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
    if(processor MATCHES "^(x86_64|amd64)$")
      set(avx512 "-mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl")
      set(lines "scalar,scalar_arch,-march=x86-64"
                "sse2,default_arch,-march=x86-64"
                "sse4,default_arch,-march=x86-64 -msse4.1"
                "avx2,default_arch,-march=x86-64 -mavx2"
                "avx_vnni,default_arch,-march=x86-64 -mavx2 -mavxvnni"
                "avx512,default_arch,-march=x86-64 ${avx512}"
                "avx512_vnni,default_arch,-march=x86-64 ${avx512} -mavx512vnni")
    elseif(processor MATCHES "^(aarch64|arm64)$")
      set(lines "scalar,scalar_arch,-march=armv8-a"
                "neon,default_arch,-march=armv8-a"
                "neon_dotprod,default_arch,-march=armv8-a+dotprod"
                "neon_i8mm,default_arch,-march=armv8-a+dotprod+i8mm")
    else()
      set(lines "scalar,scalar_arch,")
    endif()
    set(folder "${CMAKE_CURRENT_BINARY_DIR}/repquant_dispatch")
    set(declarations)
    set(addresses)
    set(sources)
    foreach(line IN LISTS lines)
      string(REPLACE "," ";" fields "${line}")
      list(GET fields 0 name)
      list(GET fields 1 arch)
      list(GET fields 2 flags)
      separate_arguments(options UNIX_COMMAND "${flags}")
      set(source "${folder}/${name}.cpp")
      file(CONFIGURE OUTPUT "${source}" @ONLY CONTENT [[
#include <repquant/infer/engine_unit.hpp>
extern "C" {
extern const repquant_units::engine_unit repquant_engine_@name@;
const repquant_units::engine_unit repquant_engine_@name@ = repquant::make_engine_unit<repquant::@arch@>();
}
]])
      set_source_files_properties("${source}" PROPERTIES
        COMPILE_DEFINITIONS "repquant=repquant_${name};xsimd=repquant_xsimd_${name}"
        COMPILE_OPTIONS "${options};-O2;-fno-exceptions;-fno-rtti")
      list(APPEND sources "${source}")
      string(APPEND declarations "extern const repquant_units::engine_unit repquant_engine_${name};\n")
      string(APPEND addresses "&repquant_engine_${name}, ")
    endforeach()
    file(CONFIGURE OUTPUT "${folder}/units.cpp" @ONLY CONTENT [[
#include <repquant/infer/dispatched_engine.hpp>
extern "C" {
@declarations@
const repquant_units::engine_unit* const* repquant_linked_engine_units(std::size_t* count) noexcept {
  static const repquant_units::engine_unit* const units[] = {@addresses@};
  *count = sizeof units / sizeof *units;
  return units;
}
}
]])
    add_library(repquant_dispatch STATIC ${sources} "${folder}/units.cpp")
    target_link_libraries(repquant_dispatch PRIVATE repquant::run)
    set_target_properties(repquant_dispatch PROPERTIES UNITY_BUILD OFF INTERPROCEDURAL_OPTIMIZATION OFF)
  endif()
  target_link_libraries(${target} PRIVATE repquant_dispatch)
endfunction()
