// SPDX-License-Identifier: MIT
/// refine_writer: parameters back into the bytes of a model, with codes and zero points rounded.
#pragma once

#include <repquant/block/model_writer.hpp>
#include <repquant/block/refine_leaves.hpp>

#include <string_view>
#include <vector>

namespace repquant::detail {

/// Adds the numbers of a matrix to the constants, as T.
template<class T>
std::uint64_t write_matrix(model_writer& w, const matrix<>& m) {
  std::vector<T> numbers;
  numbers.reserve(static_cast<std::size_t>(m.size()));
  for (index k = 0; k < m.size(); ++k) numbers.push_back(static_cast<T>(m.data()[k]));
  return w.constants(std::span<const T>(numbers));
}

/// Writes what refinement may have changed in instruction i.
struct refine_writer {
  const model_view& model;
  const refine_flow& flow;
  const refine_parameters& parameters;
  model_writer& writer;

  void add(int i) const {
    const auto at = static_cast<std::size_t>(i);
    instruction s = flow.code[at];
    const refine_unit& u = parameters.units[at];
    switch (s.kind) {
      case opcode::encode:
        s.data[0] = affines(u);
        feedback(s);
        s.site = site(s.site);
        break;
      case opcode::linear:
        linear(s, u);
        break;
      case opcode::norm:
        s.data[0] = write_matrix<float>(writer, parameters.at(u.first));
        if (u.second >= 0) s.data[1] = write_matrix<float>(writer, parameters.at(u.second));
        break;
      case opcode::attention:
        attention(s, u);
        s.site = site(s.site);
        break;
      default:
        copy(s);
        break;
    }
    writer.add(s);
  }

 private:
  [[nodiscard]] const refine_unit& unit_of(int value) const {
    return parameters.units[static_cast<std::size_t>(value - 1)];
  }
  [[nodiscard]] std::int32_t site(std::int32_t number) const {
    const site_record& s = model.sites()[static_cast<std::size_t>(number)];
    return writer.site(model.path(s), s.bits, s.role);
  }
  /// Constants that do not change.
  void copy(instruction& s) const {
    for (int k = 0; k < 4; ++k) {
      const auto bytes = static_cast<std::size_t>(model_view::data_bytes(s, k));
      if (bytes != 0) s.data[k] = writer.constants(model.numbers<float>(s.data[k], bytes / sizeof(float)));
    }
  }
  void feedback(instruction& s) const {
    if (s.inner == 0) return;
    const error_feedback f = feedback_of(s, model.constants());
    s.data[1] = writer.constants(f.unit);
    s.data[2] = writer.constants(f.order);
    s.data[3] = writer.constants(f.reach);
  }
  [[nodiscard]] std::uint64_t affines(const refine_unit& u) const {
    std::vector<affine> sets;
    const matrix<> zero = rounded(parameters.at(u.second));
    const matrix<> scale = u.base.cwiseProduct(growth_row(parameters.at(u.first), u.base.cols()))
                               .cwiseMax(uniform::smallest_scale)
                               .cwiseMin(uniform::largest_scale);
    for (index j = 0; j < scale.cols(); ++j)
      sets.push_back({scale(0, j), static_cast<std::int32_t>(zero(0, j))});
    return writer.constants(std::span<const affine>(sets));
  }
  void linear(instruction& s, const refine_unit& u) const {
    s.data[0] = write_matrix<std::uint8_t>(writer, rounded(parameters.at(u.first)));
    s.data[1] = write_matrix<std::int32_t>(writer, u.zero);
    const float growth = parameters.growth(s.a - 1, 0, s.inner);
    s.data[2] = write_matrix<float>(
        writer, (u.base.array() * parameters.at(u.second).array().exp() * growth).matrix());
    // as it was read where nothing has moved
    const matrix<double> first = (u.start.cast<double>() + u.shift).cast<float>().cast<double>();
    const matrix<double> moved = parameters.at(u.third).cast<double>() - first;
    const matrix<double> made_good = shift_of(s, u, parameters) - u.shift;
    s.data[3] = write_matrix<float>(writer, (u.start.cast<double>() + moved - made_good).cast<float>());
    if (!unit_of(s.a).counted) {
      s.zero_a = static_cast<std::int32_t>(std::nearbyint(parameters.at(unit_of(s.a).second)(0, 0)));
    }
  }
  /// The zero points that a reader of value v subtracts, one per column.
  [[nodiscard]] std::uint64_t zeros(int v, std::uint64_t before, index cols) const {
    matrix<> z = read_matrix<std::int32_t>(model, before, 1, cols);
    if (unit_of(v).pinned.size() == 0) {
      const matrix<> now = rounded(parameters.at(unit_of(v).second));
      for (index j = 0; j < cols; ++j) z(0, j) = now(0, now.cols() > 1 ? j : 0);
    }
    return write_matrix<std::int32_t>(writer, z);
  }
  void attention(instruction& s, const refine_unit& u) const {
    const index kv_cols = static_cast<index>(s.kv_heads) * s.inner;
    matrix<> m = (u.base.array() * parameters.at(u.first).array().exp()).matrix();
    for (index h = 0; h < m.cols(); ++h) {
      m(0, h) *= parameters.growth(s.a - 1, h * s.inner, s.cols) *
                 parameters.growth(s.b - 1, h / (s.heads / s.kv_heads) * s.inner, kv_cols);
    }
    matrix<> scale = u.value_scale;
    for (index j = 0; j < kv_cols; ++j) scale(0, j) *= parameters.growth(s.c - 1, j, kv_cols);
    s.data[0] = write_matrix<float>(writer, m);
    s.data[1] = zeros(s.a, s.data[1], s.cols);
    s.data[2] = zeros(s.c, s.data[2], kv_cols);
    s.data[3] = write_matrix<float>(writer, scale);
    s.probability_scale *= std::exp(parameters.at(u.second)(0, 0));
  }
};

/// The bytes of a model with these parameters: same instructions, same sites.
///
/// Errors  those of model_writer::finish
inline result<std::vector<std::byte>> write_model(const model_view& m, const refine_flow& f,
                                                  const refine_parameters& p) {
  model_writer w;
  const refine_writer each{m, f, p, w};
  for (std::size_t i = 0; i < f.code.size(); ++i) each.add(static_cast<int>(i));
  return w.finish(0, m.header().input_cols, f.output, m.header().output_cols);
}

}  // namespace repquant::detail
