# SPDX-License-Identifier: MIT
# What this project's own tests, benches and examples are built with. Nothing here reaches a user.

add_library(repquant_own INTERFACE)
target_compile_options(repquant_own INTERFACE -Wall -Wextra -Wconversion -Wshadow -Wpedantic)
target_link_libraries(repquant_own INTERFACE repquant_repquant Threads::Threads)
target_include_directories(repquant_own INTERFACE "${PROJECT_SOURCE_DIR}/examples")  # "support/..."
# Where the tree lies is known to one file alone: no other object depends on it (and a compiler cache finds them all).
add_library(repquant_data_directory STATIC "${PROJECT_SOURCE_DIR}/examples/support/data_directory.cpp")
target_include_directories(repquant_data_directory PRIVATE "${PROJECT_SOURCE_DIR}/examples")
target_compile_features(repquant_data_directory PRIVATE cxx_std_20)
target_compile_definitions(repquant_data_directory PRIVATE REPQUANT_EXAMPLE_DATA="${PROJECT_SOURCE_DIR}/examples/data")
target_link_libraries(repquant_own INTERFACE repquant_data_directory)
if(REPQUANT_IO)
  target_link_libraries(repquant_own INTERFACE repquant_io)
endif()
if(ZLIB_FOUND)
  target_link_libraries(repquant_own INTERFACE ZLIB::ZLIB)
  target_compile_definitions(repquant_own INTERFACE REPQUANT_EXAMPLES_ZLIB)
endif()

# Are exceptions on? Test frameworks need them; the library does not.
include(CheckCXXSourceCompiles)
check_cxx_source_compiles("int main() { try { throw 1; } catch (int) {} }" REPQUANT_HAS_EXCEPTIONS)
