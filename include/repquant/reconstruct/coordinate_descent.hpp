// SPDX-License-Identifier: MIT
/// coordinate_descent: the codes of another reconstructor, each weight then moved to its best code given all
/// others.
#pragma once

#include <repquant/reconstruct/descend.hpp>
#include <repquant/reconstruct/gptq.hpp>

namespace repquant {

namespace detail {
/// solver(q, w, h) on the executor, where the solver takes one.
template<class R, Codec C, Granularity G, Executor E>
result<reconstruction<C, G>> run_solver(const R& solver, const quantizer<C, G>& q, matrix_view w,
                                        const gram& h, const E& exec) {
  if constexpr (requires { solver(q, w, h, exec); }) {
    return solver(q, w, h, exec);
  } else {
    return solver(q, w, h);
  }
}
}  // namespace detail

/// The reconstructor that starts from another one's codes and descends from there.
///
/// Shapes, Errors, Cost  as descend() and the start
/// Example   const auto r = coordinate_descent<>{}(q, w, h);
template<class Start = gptq>
struct coordinate_descent {
  Start start = {};
  descent_options options = {};

  template<Codec C, Granularity G, Executor E = inline_executor>
  result<reconstruction<C, G>> operator()(const quantizer<C, G>& q, matrix_view w, const gram& h,
                                          const E& exec = {}) const {
    result<reconstruction<C, G>> first = detail::run_solver(start, q, w, h, exec);
    if (!first) return first;
    result<reconstruction<C, G>> r = descend(first->weights, w, h, options, exec);
    if (!r) return r;
    r->report.start_from(first->report);
    return r;
  }
};

}  // namespace repquant
