// SPDX-License-Identifier: MIT
/// oneDNN as contenders.
#include "memory.hpp"
#include "peers.hpp"
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

namespace compare {
namespace {

using dnnl::memory;
using type = memory::data_type;
using tag = memory::format_tag;

const dnnl::engine& cpu() {
  static const dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}
memory over(const memory::desc& d, const void* data) { return {d, cpu(), const_cast<void*>(data)}; }

/// A primitive with its arguments, ready to be run again and again.
struct prepared {
  dnnl::primitive primitive;
  std::unordered_map<int, memory> arguments;
  void run(dnnl::stream& s) const { primitive.execute(s, arguments); }
};
contender run_all(std::string name, std::vector<prepared> steps, std::string note,
                  std::shared_ptr<void> keep = {}) {
  return {std::move(name),
          [steps = std::move(steps), stream = dnnl::stream(cpu()), keep = std::move(keep)]() mutable {
            for (const prepared& p : steps) p.run(stream);
            stream.wait();
          },
          std::move(note)};
}

/// a w^T with the weights in the order that oneDNN likes best, on our kind of memory.
contender product(std::string name, const extent& e, type of_a, type of_w, type of_c, const void* a,
                  const void* w, void* c) {
  const memory::desc da({e.m, e.k}, of_a, tag::ab);
  const memory::desc dw({e.k, e.n}, of_w, tag::ba);
  const memory::desc any({e.k, e.n}, of_w, tag::any);
  const memory::desc dc({e.m, e.n}, of_c, tag::ab);
  const dnnl::matmul::primitive_desc p({da, any, dc}, cpu());
  const auto packed = std::make_shared<buffer<std::byte>>(p.weights_desc().get_size());
  const memory weights = over(p.weights_desc(), packed->data());
  memory plain = over(dw, w);
  memory target = weights;
  dnnl::stream s(cpu());
  dnnl::reorder(plain, target).execute(s, plain, target);
  s.wait();
  return run_all(std::move(name),
                 {{dnnl::matmul(p),
                   {{DNNL_ARG_SRC, over(da, a)}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, over(dc, c)}}}},
                 p.impl_info_str(), packed);
}

memory::desc heads(const float_attention& a, index rows, index cols, tag order = tag::abc) {
  return {{a.heads, rows, cols}, type::f32, order};
}
prepared scores_step(const float_attention& a) {
  const memory::desc q = heads(a, a.tokens, a.width);
  const memory::desc k = heads(a, a.width, a.tokens, tag::acb);
  const memory::desc s = heads(a, a.tokens, a.tokens);
  return {
      dnnl::matmul({{q, k, s}, cpu()}),
      {{DNNL_ARG_SRC, over(q, a.q)}, {DNNL_ARG_WEIGHTS, over(k, a.k)}, {DNNL_ARG_DST, over(s, a.scores)}}};
}
prepared softmax_step(const float_attention& a) {
  const memory::desc rows({a.heads * a.tokens, a.tokens}, type::f32, tag::ab);
  return {dnnl::softmax_forward({{dnnl::prop_kind::forward_inference, rows, 1}, cpu()}),
          {{DNNL_ARG_SRC, over(rows, a.scores)}, {DNNL_ARG_DST, over(rows, a.probabilities)}}};
}
prepared values_step(const float_attention& a) {
  const memory::desc p = heads(a, a.tokens, a.tokens);
  const memory::desc v = heads(a, a.tokens, a.width);
  return {dnnl::matmul({{p, v, v}, cpu()}),
          {{DNNL_ARG_SRC, over(p, a.probabilities)},
           {DNNL_ARG_WEIGHTS, over(v, a.v)},
           {DNNL_ARG_DST, over(v, a.out)}}};
}

}  // namespace

contender onednn_gemm(const float_product& p) {
  return product("onednn_f32", p.size, type::f32, type::f32, type::f32, p.a, p.w, p.c);
}
contender onednn_gemm(const code_product& p) {
  return product("onednn_u8s8", p.size, type::u8, type::s8, type::s32, p.a, p.w, p.c);
}
contender onednn_values(const float_attention& a) { return run_all("onednn_f32", {values_step(a)}, ""); }
contender onednn_softmax(const float_attention& a) { return run_all("onednn_f32", {softmax_step(a)}, ""); }
contender onednn_attention(const float_attention& a) {
  return run_all("onednn_f32", {scores_step(a), softmax_step(a), values_step(a)}, "");
}
contender onednn_encode(std::span<const float> x, index rows, std::span<std::uint8_t> out, float scale,
                        int zero) {
  const index cols = static_cast<index>(x.size()) / rows;
  const memory::desc from({rows, cols}, type::f32, tag::ab);
  const memory::desc to({rows, cols}, type::u8, tag::ab);
  dnnl::primitive_attr attributes;
  attributes.set_output_scales(0, {1.0F / scale});
  attributes.set_zero_points(DNNL_ARG_DST, 0, {zero});
  const dnnl::reorder::primitive_desc p(cpu(), from, cpu(), to, attributes);
  return run_all(
      "onednn_f32",
      {{dnnl::reorder(p), {{DNNL_ARG_SRC, over(from, x.data())}, {DNNL_ARG_DST, over(to, out.data())}}}},
      p.impl_info_str());
}
std::string onednn_isa() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx2:
      return "AVX2";
    case dnnl::cpu_isa::avx2_vnni:
      return "AVX2 with VNNI";
    case dnnl::cpu_isa::avx512_core:
      return "AVX-512";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "AVX-512 with VNNI";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "AVX-512 with VNNI and bf16";
    default:
      return "instruction set " + std::to_string(static_cast<int>(dnnl::get_effective_cpu_isa()));
  }
}

}  // namespace compare
