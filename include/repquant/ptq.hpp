// SPDX-License-Identifier: MIT
/// Door 2, the toolkit: calibrate, fold, reconstruct, one layer at a time. Adds Eigen.
#pragma once

#include <repquant/layer/linear.hpp>
#include <repquant/layer/norm.hpp>
#include <repquant/matrix/matrix.hpp>
#include <repquant/matrix/quantizer.hpp>
#include <repquant/run.hpp>
