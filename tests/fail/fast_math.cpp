// SPDX-License-Identifier: MIT
/// -ffast-math would change codes: it is refused with a sentence.
// flags: -ffast-math
// expect: repquant: -ffast-math removes NaN
#include <repquant/core/config.hpp>

int main() {}
