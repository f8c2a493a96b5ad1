// SPDX-License-Identifier: MIT
/// Door 3, blocks: a recipe for whole transformer blocks and models.
#pragma once

#include <repquant/ptq.hpp>
