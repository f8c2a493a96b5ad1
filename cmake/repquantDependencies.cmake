# SPDX-License-Identifier: MIT
# Finds what the library and its own tests, benches and examples use; where a package is missing, fetches a
# pinned release (REPQUANT_FETCH_DEPENDENCIES) or says which Debian package has it.
#
# find_package is called without a version and the version is checked here: a range would reject one of
# the generations that work (Eigen 3.4 and 5, xsimd 8 and 14).
#
# Gives: target Eigen3::Eigen, REPQUANT_XSIMD_INCLUDE_DIR, and where wanted and found the targets
# nlohmann_json::nlohmann_json, Catch2::Catch2, benchmark::benchmark, Threads::Threads, ZLIB::ZLIB.

include(FetchContent)

# Downloads a release and only unpacks it: the headers are used as they are, no build file of theirs runs.
function(repquant_fetch name repository tag out)
  message(STATUS "repquant: fetching ${name} ${tag}")
  FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW ON
                       SOURCE_SUBDIR no-such-folder)
  FetchContent_MakeAvailable(${name})
  set(${out} "${${name}_SOURCE_DIR}" PARENT_SCOPE)
endfunction()

function(repquant_header_target target include_dir)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} SYSTEM INTERFACE "${include_dir}")
endfunction()

function(repquant_missing what package)
  message(FATAL_ERROR "repquant: ${what} was not found. Install it (Debian: apt-get install ${package}), point "
                      "CMAKE_PREFIX_PATH to it, or configure with -DREPQUANT_FETCH_DEPENDENCIES=ON.")
endfunction()

function(repquant_at_least what version floor)
  # Some distributions put a word size behind the number.
  string(REGEX MATCH "^[0-9.]+" version "${version}")
  if(version AND version VERSION_LESS floor)
    message(FATAL_ERROR "repquant: needs ${what} ${floor} or later, found ${version}.")
  endif()
endfunction()

# -- Eigen ---------------------------------------------------------------------------------------
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 QUIET CONFIG GLOBAL)
  if(TARGET Eigen3::Eigen)
    repquant_at_least(Eigen "${Eigen3_VERSION}" 3.4)
  elseif(REPQUANT_FETCH_DEPENDENCIES)
    repquant_fetch(eigen https://gitlab.com/libeigen/eigen.git 3.4.0 source)
    repquant_header_target(Eigen3::Eigen "${source}")
  else()
    repquant_missing("Eigen 3.4 or later" libeigen3-dev)
  endif()
endif()

# -- xsimd: only its include directory -----------------------------------------------------------
# Debian's target links a library, xtl, that does not exist.
if(NOT TARGET xsimd)
  find_package(xsimd QUIET CONFIG)
  if(TARGET xsimd)
    repquant_at_least(xsimd "${xsimd_VERSION}" 8.1)
  endif()
endif()
if(TARGET xsimd)
  get_target_property(REPQUANT_XSIMD_INCLUDE_DIR xsimd INTERFACE_INCLUDE_DIRECTORIES)
elseif(REPQUANT_FETCH_DEPENDENCIES)
  repquant_fetch(xsimd_headers https://github.com/xtensor-stack/xsimd.git 8.1.0 source)
  set(REPQUANT_XSIMD_INCLUDE_DIR "${source}/include")
else()
  repquant_missing("xsimd 8.1 or later" libxsimd-dev)
endif()

# -- nlohmann-json: only repquant::io needs it ---------------------------------------------------
if(NOT TARGET nlohmann_json::nlohmann_json)
  find_package(nlohmann_json QUIET CONFIG GLOBAL)
  if(NOT TARGET nlohmann_json::nlohmann_json)
    if(REPQUANT_FETCH_DEPENDENCIES)
      repquant_fetch(nlohmann https://github.com/nlohmann/json.git v3.11.2 source)
      repquant_header_target(nlohmann_json::nlohmann_json "${source}/single_include")
    else()
      message(STATUS "repquant: no nlohmann-json (Debian: nlohmann-json3-dev), so no target repquant::io")
    endif()
  endif()
endif()

# -- for what is built here ----------------------------------------------------------------------
if(REPQUANT_BUILD_TESTS OR REPQUANT_BUILD_BENCH OR REPQUANT_BUILD_EXAMPLES)
  find_package(Threads REQUIRED)
  find_package(ZLIB QUIET)
endif()
if(REPQUANT_BUILD_TESTS)
  find_package(Catch2 QUIET CONFIG)
  if(NOT TARGET Catch2::Catch2)
    if(REPQUANT_FETCH_DEPENDENCIES)
      FetchContent_Declare(Catch2 GIT_REPOSITORY https://github.com/catchorg/Catch2.git GIT_TAG v2.13.10
                           GIT_SHALLOW ON)
      FetchContent_MakeAvailable(Catch2)
      list(APPEND CMAKE_MODULE_PATH "${catch2_SOURCE_DIR}/contrib" "${catch2_SOURCE_DIR}/extras")
    else()
      repquant_missing("Catch2 2.13 or 3 (tests; or -DREPQUANT_BUILD_TESTS=OFF)" catch2)
    endif()
  endif()
endif()
if(REPQUANT_BUILD_BENCH)
  find_package(benchmark QUIET CONFIG)
  if(NOT TARGET benchmark::benchmark)
    if(REPQUANT_FETCH_DEPENDENCIES)
      set(BENCHMARK_ENABLE_TESTING OFF)
      set(BENCHMARK_ENABLE_INSTALL OFF)
      set(BENCHMARK_ENABLE_WERROR OFF)
      FetchContent_Declare(benchmark GIT_REPOSITORY https://github.com/google/benchmark.git GIT_TAG v1.7.1
                           GIT_SHALLOW ON)
      FetchContent_MakeAvailable(benchmark)
    else()
      repquant_missing("Google Benchmark (or -DREPQUANT_BUILD_BENCH=OFF)" libbenchmark-dev)
    endif()
  endif()
endif()
