// SPDX-License-Identifier: MIT
/// Products of many rows.
#include "cases.hpp"
#include "operands.hpp"

namespace compare {
namespace {

namespace rq = repquant;

/// A case: what its operands are, and the peers it is compared with.
struct product_case {
  std::string name;
  int x_bits;
  int w_bits;
  bool laplace;
  index group;
  std::vector<std::string> peers;
};
const std::vector<product_case> product_cases = {
    {"gemm_u8s7", 8, 7, false, 0, {"openblas_f32", "onednn_u8s8"}},
    {"gemm_u8s8",
     8,
     8,
     false,
     0,
     {"xnnpack_qs8", "openblas_f32", "eigen_f32", "onednn_f32", "onednn_u8s8", "gemmlowp"}},
    {"gemm_u8s8_laplace", 8, 8, true, 0, {"xnnpack_qs8", "openblas_f32", "onednn_u8s8"}},
    {"gemm_u8s6", 8, 6, false, 0, {"openblas_f32", "onednn_u8s8"}},
    {"gemm_u4s4", 4, 4, false, 0, {"openblas_f32", "onednn_u8s8"}},
    {"gemm_u8s4", 8, 4, false, 0, {"openblas_f32", "onednn_u8s8"}},
    {"gemm_s8s4_g32", 8, 4, false, 32, {"openblas_f32"}},
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
  own_product own(e, o.x, o.w, {c.x_bits, c.w_bits, rq::packing_goal::speed, c.group}, exec,
                  s.options.threads);
  // ours gives what the peer gives: floats, sums or codes
  std::vector<contender> all = {{"floats", [&] { own.to_float(o.floats.data()); }}};
  if (c.group > 0) {
    all[0].run();
    if (rq::failure f = o.check_groups(c.name, c.group)) return f;
  } else {
    own.to_int32(o.own_sums.data());
    if (rq::failure f = o.check_own(c.name)) return f;
    all.push_back({"sums", [&] { own.to_int32(o.sums.data()); }});
    all.push_back({"codes", [&] { own.to_codes(o.codes.data()); }});
  }
  const std::size_t first = all.size();
  for (const std::string& name : c.peers) {
    for (contender& p : peer(name, o, s.options.threads)) {
      if (gives_sums(name)) {
        p.run();
        const std::size_t wrong = o.wrong();
        p.note +=
            (p.note.empty() ? "" : ", ") +
            (wrong == 0 ? "exact"
                        : std::to_string(wrong) + " of " + std::to_string(o.sums.size()) + " int32 wrong");
      }
      all.push_back(std::move(p));
    }
  }
  const std::vector<timing> times = race(all, s.options.rules);
  const limit most = s.limit_of(limit_of(own.layout()), s.options.threads);
  for (std::size_t i = first; i < all.size(); ++i) {
    const std::size_t ours = all[i].name == "xnnpack_qs8" ? 2U : gives_sums(all[i].name) ? 1U : 0U;
    s.rows.add(c.name, e.text(), all[i].name, gops(e.operations()), times[ours], times[i], most, all[i].note);
  }
  return {};
}

/// Ours on two threads against ours on one; on the wall, whatever clock the others have.
rq::failure two_threads(const session& s, const extent& e) {
  operands o(e, 8, 8, false);
  const team two(2);
  own_product lone(e, o.x, o.w, {}, team(1), 1);
  own_product both(e, o.x, o.w, {}, two, 2);
  both.to_int32(o.own_sums.data());
  if (rq::failure f = o.check_own("gemm_two_threads")) return f;
  race_rules rules = s.options.rules;
  rules.clock = clock_kind::wall;
  const std::vector<timing> times =
      race({{"two", [&] { both.to_int32(o.sums.data()); }}, {"one", [&] { lone.to_int32(o.sums.data()); }}},
           rules);
  s.rows.add("gemm_two_threads", e.text(), "one_thread", gops(e.operations()), times[0], times[1],
             s.limit_of(limit_of(both.layout()), 2));
  return {};
}

}  // namespace

rq::failure gemm_cases(const session& s) {
  std::vector<extent> shapes = {
      {128, 384, 1536}, {197, 768, 768}, {197, 768, 3072}, {197, 3072, 768}, {512, 1024, 1024}};
  if (s.options.brief) shapes = {{13, 70, 33}};
  const team exec(s.options.threads);
  for (const product_case& c : product_cases) {
    if (!s.options.wants(c.name)) continue;
    for (const extent& e : shapes) {
      if (rq::failure f = run_case(s, c, e, exec)) return f;
    }
  }
  if (s.options.wants("gemm_two_threads"))
    return two_threads(s, s.options.brief ? shapes[0] : extent{197, 768, 3072});
  return {};
}

}  // namespace compare
