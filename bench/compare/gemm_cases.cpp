// SPDX-License-Identifier: MIT
#include "cases.hpp"
#include "own_product.hpp"
#include "peers.hpp"
#include "random.hpp"
#include <numeric>

namespace compare {
namespace {

namespace rq = repquant;

/// A case: what its operands are, and the peers it is compared with.
struct product_case {
  std::string name;
  int x_bits;
  int w_bits;
  bool laplace;
  std::vector<std::string> peers;
};
const std::vector<product_case> product_cases = {
    {"gemm_u8s7", 8, 7, false, {"openblas_f32", "onednn_u8s8"}},
    {"gemm_u8s8",
     8,
     8,
     false,
     {"xnnpack_qs8", "openblas_f32", "eigen_f32", "onednn_f32", "onednn_u8s8", "gemmlowp"}},
    {"gemm_u8s8_laplace", 8, 8, true, {"xnnpack_qs8", "openblas_f32", "onednn_u8s8"}},
    {"gemm_u8s6", 8, 6, false, {"openblas_f32", "onednn_u8s8"}},
    {"gemm_u4s4", 4, 4, false, {"openblas_f32", "onednn_u8s8"}},
    {"gemm_u8s4", 8, 4, false, {"openblas_f32", "onednn_u8s8"}},
};

/// Operands in every form that a contender reads, and room for its results.
struct operands {
  extent size;
  buffer<std::uint8_t> x;
  buffer<std::int8_t> w;
  buffer<std::int8_t> x_signed;
  buffer<std::uint8_t> w_unsigned;
  buffer<float> x_float;
  buffer<float> w_float;
  buffer<std::int32_t> sums;
  buffer<std::int32_t> own_sums;
  buffer<float> floats;
  buffer<std::uint8_t> codes;

  operands(const extent& e, int x_bits, int w_bits, bool laplace) : size(e) {
    bit_source bits;
    const auto cells = static_cast<std::size_t>(e.m * e.n);
    x = uniform_values<std::uint8_t>(bits, static_cast<std::size_t>(e.m * e.k), 0, (1 << x_bits) - 1);
    const int half = 1 << (w_bits - 1);
    w = laplace ? laplace_rows(bits, static_cast<std::size_t>(e.n), static_cast<std::size_t>(e.k))
                : uniform_values<std::int8_t>(bits, static_cast<std::size_t>(e.n * e.k), -half, half - 1);
    for (const std::uint8_t v : x) {
      x_signed.push_back(static_cast<std::int8_t>(v - 128));
      x_float.push_back(v);
    }
    for (const std::int8_t v : w) {
      w_unsigned.push_back(static_cast<std::uint8_t>(v + 128));
      w_float.push_back(v);
    }
    sums.resize(cells);
    own_sums.resize(cells);
    floats.resize(cells);
    codes.resize(cells);
  }
  [[nodiscard]] float_product in_float() { return {size, x_float.data(), w_float.data(), floats.data()}; }
  [[nodiscard]] code_product in_codes() {
    return {size,        x.data(),          x_signed.data(), w.data(), w_unsigned.data(),
            sums.data(), reinterpret_cast<std::int8_t*>(codes.data())};
  }
  /// The first row whose own sums are not those of plain 64-bit arithmetic; of a few rows, from first to last.
  [[nodiscard]] rq::failure check_own(const std::string& place) const {
    const index step = std::max<index>(1, (size.m - 1) / 4);
    for (index i = 0; i < size.m; i += step) {
      for (index j = 0; j < size.n; ++j) {
        std::int64_t sum = 0;
        for (index k = 0; k < size.k; ++k) {
          sum += std::int64_t{x[static_cast<std::size_t>(i * size.k + k)]} *
                 w[static_cast<std::size_t>(j * size.k + k)];
        }
        const std::int64_t got = own_sums[static_cast<std::size_t>(i * size.n + j)];
        if (got != sum) return {rq::errc::bad_format, place, got, sum};
      }
    }
    return {};
  }
  /// How many of a peer's sums are not ours.
  [[nodiscard]] std::size_t wrong() const {
    return std::inner_product(sums.begin(), sums.end(), own_sums.begin(), std::size_t{0}, std::plus<>(),
                              [](auto a, auto b) { return a == b ? std::size_t{0} : std::size_t{1}; });
  }
};

/// The peer of that name, if it is there.
std::vector<contender> peer(const std::string& name, operands& o, int threads) {
  if constexpr (has_openblas) {
    if (name == "openblas_f32") return {openblas_gemm(o.in_float(), threads)};
  }
  if constexpr (has_onednn) {
    if (name == "onednn_u8s8") return {onednn_gemm(o.in_codes())};
    if (name == "onednn_f32") return {onednn_gemm(o.in_float())};
  }
  if constexpr (has_xnnpack) {
    if (name == "xnnpack_qs8") return {xnnpack_gemm(o.in_codes(), threads)};
  }
  if constexpr (has_gemmlowp) {
    if (name == "gemmlowp") return {gemmlowp_gemm(o.in_codes(), threads)};
  }
  if (name == "eigen_f32") return {eigen_gemm(o.in_float(), threads)};
  return {};
}
/// A peer that gives int32 sums, which can be counted.
bool gives_sums(const std::string& name) { return name == "onednn_u8s8" || name == "gemmlowp"; }

rq::failure run_case(const session& s, const product_case& c, const extent& e, const team& exec) {
  operands o(e, c.x_bits, c.w_bits, c.laplace);
  own_product own(e, o.x, c.x_bits, o.w, c.w_bits, exec, s.options.threads);
  own.to_int32(o.own_sums.data());
  if (rq::failure f = o.check_own(c.name)) return f;
  // ours gives what the peer gives: codes, sums or floats
  std::vector<contender> all = {{"codes", [&] { own.to_codes(o.codes.data()); }},
                                {"sums", [&] { own.to_int32(o.sums.data()); }},
                                {"floats", [&] { own.to_float(o.floats.data()); }}};
  for (const std::string& name : c.peers) {
    for (contender& p : peer(name, o, s.options.threads)) {
      if (gives_sums(name)) {
        p.run();
        const std::size_t wrong = o.wrong();
        p.note += (p.note.empty() ? "" : ", ") +
                  (wrong == 0 ? "exact" : std::to_string(wrong) + " of " + std::to_string(o.sums.size()) + " int32 wrong");
      }
      all.push_back(std::move(p));
    }
  }
  const std::vector<timing> times = race(all, s.options.rules);
  const limit most = s.limit_of(limit_of(own.layout()), s.options.threads);
  for (std::size_t i = 3; i < all.size(); ++i) {
    const std::size_t ours = all[i].name == "xnnpack_qs8" ? 0U : gives_sums(all[i].name) ? 1U : 2U;
    s.rows.add(c.name, e.text(), all[i].name, gops(e.operations()), times[ours], times[i], most, all[i].note);
  }
  return {};
}

/// Ours on two threads against ours on one; on the wall, whatever clock the others have.
rq::failure two_threads(const session& s, const extent& e) {
  operands o(e, 8, 8, false);
  const team two(2);
  own_product lone(e, o.x, 8, o.w, 8, team(1), 1);
  own_product both(e, o.x, 8, o.w, 8, two, 2);
  both.to_int32(o.own_sums.data());
  if (rq::failure f = o.check_own("gemm_two_threads")) return f;
  race_rules rules = s.options.rules;
  rules.clock = clock_kind::wall;
  const std::vector<timing> times = race({{"two", [&] { both.to_int32(o.sums.data()); }},
                                          {"one", [&] { lone.to_int32(o.sums.data()); }}},
                                         rules);
  s.rows.add("gemm_two_threads", e.text(), "one_thread", gops(e.operations()), times[0], times[1],
             s.limit_of(limit_of(both.layout()), 2));
  return {};
}

}  // namespace

rq::failure gemm_cases(const session& s) {
  std::vector<extent> shapes = {{128, 384, 1536}, {197, 768, 768}, {197, 768, 3072}, {197, 3072, 768}, {512, 1024, 1024}};
  if (s.options.brief) shapes = {{13, 70, 33}};
  const team exec(s.options.threads);
  for (const product_case& c : product_cases) {
    if (!s.options.wants(c.name)) continue;
    for (const extent& e : shapes) {
      if (rq::failure f = run_case(s, c, e, exec)) return f;
    }
  }
  if (s.options.wants("gemm_two_threads")) return two_threads(s, s.options.brief ? shapes[0] : extent{197, 768, 3072});
  return {};
}

}  // namespace compare
