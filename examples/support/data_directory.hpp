// SPDX-License-Identifier: MIT
/// Where the files of examples/data and examples/models lie that programs read when they are not told
/// otherwise.
#pragma once

#include <string>

namespace examples {

/// examples/data of the source tree that this program was built from, an absolute path. One file alone is
/// compiled with it, so that nothing else depends on where the tree lies.
std::string data_directory();

}  // namespace examples
