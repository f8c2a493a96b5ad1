// SPDX-License-Identifier: MIT
/// All doors, and the executors. Files (io/) and laws (testing/) are included by their own names.
#pragma once

#include <repquant/block.hpp>
#include <repquant/ptq.hpp>
#include <repquant/run.hpp>
#include <repquant/train.hpp>
