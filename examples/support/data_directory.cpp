// SPDX-License-Identifier: MIT
/// The path is that of the build: REPQUANT_EXAMPLE_DATA, which CMake gives to this file.
#include "support/data_directory.hpp"

std::string examples::data_directory() { return REPQUANT_EXAMPLE_DATA; }
