// SPDX-License-Identifier: MIT
/// The whole library, as it was installed.
#include <repquant/repquant.hpp>
