// SPDX-License-Identifier: MIT
/// What must hold at compile time: compiling is passing.
#include <repquant/matrix/quantizer.hpp>
#include <repquant/run.hpp>

#include <type_traits>

namespace rq = repquant;

static_assert(rq::Codec<rq::uniform> && rq::Codec<rq::log2> && rq::Codec<rq::log_sqrt2>);
static_assert(rq::VectorCodec<rq::uniform, float> && rq::VectorCodec<rq::log_sqrt2, float>);
static_assert(rq::VectorCodec<rq::uniform, rq::lane_of<rq::default_arch>>);
static_assert(!rq::Codec<int> && !rq::Codec<rq::affine>);
static_assert(rq::Granularity<rq::per_tensor> && rq::Granularity<rq::per_row> &&
              rq::Granularity<rq::per_col> && rq::Granularity<rq::per_group>);
static_assert(!rq::Granularity<rq::shape>);

// Parameters are bytes: a model file is a copy of memory.
static_assert(std::is_trivially_copyable_v<rq::affine> && std::is_trivially_copyable_v<rq::log_scale>);
static_assert(std::is_trivially_copyable_v<rq::failure>);

// A quantizer cannot exist without its parameters.
static_assert(!std::is_default_constructible_v<rq::uniform_quantizer>);
static_assert(!std::is_constructible_v<rq::uniform_quantizer, rq::uniform, rq::per_tensor>);

// A view is not made from a number, nor a matrix from a view by accident.
static_assert(!std::is_convertible_v<int, rq::matrix_view>);
