// SPDX-License-Identifier: MIT
/// XNNPACK as contenders.
#include "memory.hpp"
#include "peers.hpp"
#include <cpuinfo.h>
#include <cstdio>
#include <cstring>
#include <memory>
#include <xnnpack.h>

namespace compare {
namespace {

/// XNNPACK with our kind of memory, on which it packs its weights.
bool initialized() {
  static const bool done = [] {
    static const xnn_allocator memory = {nullptr,
                                         [](void*, std::size_t n) { return compare::allocate(n); },
                                         [](void*, void* old, std::size_t n) { return std::realloc(old, n); },
                                         [](void*, void* p) { std::free(p); },
                                         [](void*, std::size_t alignment, std::size_t n) {
                                           return compare::allocate(n, std::max<std::size_t>(alignment, 64));
                                         },
                                         [](void*, void* p) { std::free(p); }};
    return xnn_initialize(&memory) == xnn_status_success;
  }();
  return done;
}
void check(xnn_status s, const char* what) {
  if (s == xnn_status_success) return;
  static_cast<void>(
      std::fprintf(stderr, "compare: XNNPACK refuses %s (status %d)\n", what, static_cast<int>(s)));
  std::abort();
}

/// Threads for all operators that ask for the same number.
pthreadpool_t pool(int threads) {
  static const std::unique_ptr<pthreadpool, decltype(&pthreadpool_destroy)> two(
      threads > 1 ? pthreadpool_create(static_cast<std::size_t>(threads)) : nullptr, &pthreadpool_destroy);
  return threads > 1 ? two.get() : nullptr;
}

/// Creates, sets up, and hands out a contender that runs the operator.
template<class Create, class SetUp>
contender operation(std::string name, const char* what, int threads, Create create, SetUp set_up) {
  xnn_operator_t raw = nullptr;
  check(initialized() ? create(&raw) : xnn_status_uninitialized, what);
  check(set_up(raw, pool(threads)), what);
  const std::shared_ptr<xnn_operator> op(raw, [](xnn_operator_t o) { xnn_delete_operator(o); });
  return {std::move(name), [op, threads] { xnn_run_operator(op.get(), pool(threads)); }};
}

}  // namespace

void xnnpack_hold([[maybe_unused]] std::string_view isa) {
#if defined(__x86_64__)
  // XNNPACK asks cpuinfo when it is initialized, and cpuinfo's answers are a variable
  cpuinfo_initialize();
  cpuinfo_x86_isa& has = cpuinfo_isa;
  if (isa != "native") {
    has.avx512f = has.avx512cd = has.avx512dq = has.avx512bw = has.avx512vl = has.avx512vnni =
        has.avx512vbmi = false;
  }
  if (isa == "sse4") has.avx = has.avx2 = has.fma3 = has.f16c = false;
#endif
}

contender xnnpack_gemm(const code_product& p, int threads) {
  const auto m = static_cast<std::size_t>(p.size.m);
  const auto k = static_cast<std::size_t>(p.size.k);
  const auto n = static_cast<std::size_t>(p.size.n);
  return operation(
      "xnnpack_qs8", "a product", threads,
      [&](xnn_operator_t* op) {
        return xnn_create_fully_connected_nc_qs8(k, n, k, n, 1, 0.1F, 0.01F, p.w, nullptr, 1, 1.0F, -128, 127,
                                                 0, op);
      },
      [&](xnn_operator_t op, pthreadpool_t t) {
        return xnn_setup_fully_connected_nc_qs8(op, m, p.a_signed, p.c_codes, t);
      });
}
contender xnnpack_softmax(const float_attention& a, int threads) {
  const auto tokens = static_cast<std::size_t>(a.tokens);
  return operation(
      "xnnpack_f32", "a softmax", threads,
      [&](xnn_operator_t* op) { return xnn_create_softmax_nc_f32(tokens, tokens, tokens, 0, op); },
      [&](xnn_operator_t op, pthreadpool_t t) {
        return xnn_setup_softmax_nc_f32(op, static_cast<std::size_t>(a.heads) * tokens, a.scores,
                                        a.probabilities, t);
      });
}
contender xnnpack_encode(std::span<const float> x, index rows, std::span<std::uint8_t> out, float scale,
                         int zero, int threads) {
  const std::size_t cols = x.size() / static_cast<std::size_t>(rows);
  return operation(
      "xnnpack_qu8", "an encode", threads,
      [&](xnn_operator_t* op) {
        return xnn_create_convert_nc_f32_qu8(cols, cols, cols, scale, static_cast<std::uint8_t>(zero), 0, 255,
                                             0, op);
      },
      [&](xnn_operator_t op, pthreadpool_t t) {
        return xnn_setup_convert_nc_f32_qu8(op, static_cast<std::size_t>(rows), x.data(), out.data(), t);
      });
}
contender xnnpack_decode(std::span<const std::uint8_t> q, index rows, std::span<float> out, float scale,
                         int zero, int threads) {
  const std::size_t cols = q.size() / static_cast<std::size_t>(rows);
  return operation(
      "xnnpack_qu8", "a decode", threads,
      [&](xnn_operator_t* op) {
        return xnn_create_convert_nc_qu8_f32(cols, cols, cols, scale, static_cast<std::uint8_t>(zero), 0, op);
      },
      [&](xnn_operator_t op, pthreadpool_t t) {
        return xnn_setup_convert_nc_qu8_f32(op, static_cast<std::size_t>(rows), q.data(), out.data(), t);
      });
}

}  // namespace compare
