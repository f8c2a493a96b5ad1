// SPDX-License-Identifier: MIT
/// A quantized model with the sites of one class left in float: what that class costs. Codes are kept as real
/// numbers here; where a site is left in float they are neither rounded nor clipped, and all else stays as it
/// was quantized.
#pragma once

#include <repquant/block/quantized_model.hpp>
#include <repquant/infer/integer_products.hpp>
#include <repquant/infer/softmax.hpp>

#include "oracle/model.hpp"
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace examples {

using repquant::index;

/// The classes of sites.
inline std::vector<std::string> site_classes() {
  return {"norm_output", "query_key", "value", "probabilities", "attention_output", "mlp_hidden", "other"};
}

/// The class of the site of an instruction: by its role, and for the input of a linear layer by what made it.
///
/// Requires  instruction i has a site
inline std::string site_class(const repquant::model_view& m, std::size_t i) {
  using repquant::opcode;
  using repquant::site_role;
  const auto all = m.instructions();
  switch (m.sites()[static_cast<std::size_t>(all[i].site)].role) {
    case site_role::norm_output:
      return "norm_output";
    case site_role::query:
    case site_role::key:
      return "query_key";
    case site_role::value:
      return "value";
    case site_role::probabilities:
      return "probabilities";
    default:
      break;
  }
  std::int32_t from = all[i].a;
  for (std::size_t k = i; k-- > 0;) {
    const repquant::instruction& s = all[k];
    if (s.out != from) continue;
    if (s.kind == opcode::norm) return "norm_output";
    if (s.kind == opcode::attention) return "attention_output";
    if (s.kind == opcode::activate || s.kind == opcode::multiply) return "mlp_hidden";
    if (s.kind != opcode::select_row) break;
    from = s.a;
  }
  return "other";
}

/// A quantized model that runs in float, but for the codes of its sites and weights.
class float_sites_model {
 public:
  /// `exact`: the class that is not rounded; empty: none, which is the model itself but for float rounding.
  float_sites_model(std::shared_ptr<const repquant::quantized_model> model, const std::string& exact)
      : model_(std::move(model)) {
    const repquant::model_view& m = model_->view();
    for (std::size_t i = 0; i < m.instructions().size(); ++i) {
      const repquant::instruction& s = m.instructions()[i];
      exact_.push_back(s.site >= 0 && site_class(m, i) == exact);
      weights_.push_back(s.kind == repquant::opcode::linear ? weights_of(s) : repquant::matrix<>());
    }
  }

  /// How many sites are left in float.
  [[nodiscard]] index exact_sites() const { return std::count(exact_.begin(), exact_.end(), true); }

  /// Shapes  x [tokens x input_cols], result [tokens' x output_cols]
  /// Errors  as quantized_model::run
  [[nodiscard]] repquant::result<repquant::matrix<>> run(const repquant::matrix<>& x) const {
    const repquant::model_view& m = model_->view();
    if (repquant::failure f = model_->prepared().check_rows(x.rows())) return f;
    if (x.cols() != m.header().input_cols) {
      return repquant::failure{repquant::errc::shape_mismatch, "model input: columns", x.cols(),
                               m.header().input_cols};
    }
    std::vector<repquant::matrix<>> file(m.row_bytes().size());
    file[0] = x;
    for (std::size_t i = 0; i < m.instructions().size(); ++i) {
      const repquant::instruction& s = m.instructions()[i];
      const auto at = [&](std::int32_t r) -> const repquant::matrix<>& {
        return file[static_cast<std::size_t>(r)];
      };
      repquant::matrix<>& out = file[static_cast<std::size_t>(s.out)];
      if (s.kind == repquant::opcode::encode) {
        out = encode(s, at(s.a), exact_[i]);
      } else if (s.kind == repquant::opcode::linear) {
        out = (at(s.a).array() - static_cast<float>(s.zero_a)).matrix() * weights_[i].transpose();
        out.rowwise() += row<float>(s.data[3], s.cols);
      } else if (s.kind == repquant::opcode::attention) {
        out = attend(s, at(s.a), at(s.b), at(s.c), exact_[i]);
      } else {
        run_on_floats(s, file);
      }
    }
    return std::move(file[static_cast<std::size_t>(m.header().output)]);
  }

 private:
  /// Constants as a row of floats.
  template<class T>
  [[nodiscard]] Eigen::RowVectorXf row(std::uint64_t offset, index count) const {
    const auto n = model_->view().numbers<T>(offset, static_cast<std::size_t>(count));
    return Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>>(n.data(), count).template cast<float>();
  }

  /// (w - zero) m, so that a product with codes about their zero point is the layer's result.
  [[nodiscard]] repquant::matrix<> weights_of(const repquant::instruction& s) const {
    const auto codes = model_->view().numbers<std::uint8_t>(
        s.data[0], static_cast<std::size_t>(s.cols) * static_cast<std::size_t>(s.inner));
    repquant::matrix<> w =
        Eigen::Map<const repquant::matrix<std::uint8_t>>(codes.data(), s.cols, s.inner).cast<float>();
    w.colwise() -= row<std::int32_t>(s.data[1], s.cols).transpose();
    w.array().colwise() *= row<float>(s.data[2], s.cols).transpose().array();
    return w;
  }

  [[nodiscard]] repquant::matrix<> encode(const repquant::instruction& s, const repquant::matrix<>& x,
                                          bool exact) const {
    const auto params = model_->view().numbers<repquant::affine>(
        s.data[0], s.per_column != 0 ? static_cast<std::size_t>(s.cols) : 1);
    repquant::uniform codec;
    codec.bits = s.bits;
    repquant::matrix<> y(x.rows(), x.cols());
    for (index d = 0; d < x.cols(); ++d) {
      const repquant::affine& p = params[s.per_column != 0 ? static_cast<std::size_t>(d) : 0];
      for (index t = 0; t < x.rows(); ++t) {
        y(t, d) = exact ? x(t, d) / p.scale + static_cast<float>(p.zero_point)
                        : static_cast<float>(codec.encode(x(t, d), p));
      }
    }
    return y;
  }

  [[nodiscard]] repquant::matrix<> attend(const repquant::instruction& s, const repquant::matrix<>& q,
                                          const repquant::matrix<>& k, const repquant::matrix<>& v,
                                          bool exact) const {
    const index d = s.inner;
    const auto multiplier = row<float>(s.data[0], s.heads);
    const auto query_zero = row<std::int32_t>(s.data[1], s.heads * d);
    const auto value_zero = row<std::int32_t>(s.data[2], s.kv_heads * d);
    const auto value_scale = row<float>(s.data[3], s.kv_heads * d);
    const oracle::probability_codes codes(s);
    const auto decoded = [&](float p) {
      const int c = codes.of(p);
      return static_cast<float>(codes.weight(c) * codes.worth(codes.steps == 2 && c % 2 == 1));
    };
    repquant::matrix<> out(q.rows(), s.cols);
    for (index h = 0; h < s.heads; ++h) {
      const index g = h / (s.heads / s.kv_heads);
      const repquant::matrix<> a = q.middleCols(h * d, d).rowwise() - query_zero.segment(h * d, d);
      const repquant::matrix<> b = k.middleCols(g * d, d).array() - static_cast<float>(s.zero_b);
      repquant::matrix<> c = v.middleCols(g * d, d).rowwise() - value_zero.segment(g * d, d);
      c.array().rowwise() *= value_scale.segment(g * d, d).array();
      const repquant::matrix<double> sums =
          (a * b.transpose()).cast<double>();  // of codes exact, so ties tie
      repquant::matrix<> p = repquant::matrix<>::Zero(q.rows(), k.rows());
      std::vector<float> shares(static_cast<std::size_t>(repquant::padded_scores(k.rows())));
      for (index i = 0; i < p.rows(); ++i) {
        const index seen =
            s.flag != 0 ? std::clamp(i + 1 + k.rows() - q.rows(), index{0}, k.rows()) : k.rows();
        repquant::softmax_of_sums(
            std::span<const double>(sums.row(i).data(), static_cast<std::size_t>(k.rows())), multiplier(h),
            seen, std::span<float>(shares));
        for (index j = 0; j < seen; ++j) {
          const float share = shares[static_cast<std::size_t>(j)];
          p(i, j) = exact ? share : decoded(share);
        }
      }
      out.middleCols(h * d, d) = p * c;
    }
    return out;
  }

  /// An instruction that reads and writes floats, as the engine does it.
  void run_on_floats(const repquant::instruction& s, std::vector<repquant::matrix<>>& file) const {
    file[static_cast<std::size_t>(s.out)].resize(
        repquant::result_rows(s, file[static_cast<std::size_t>(s.a)].rows()), s.cols);
    std::vector<repquant::activation_register> registers;
    for (repquant::matrix<>& x : file)
      registers.push_back({reinterpret_cast<std::byte*>(x.data()), x.rows()});
    repquant::integer_products none{};  // there are none
    repquant::execute(s, model_->view().constants(), registers, none);
  }

  std::shared_ptr<const repquant::quantized_model> model_;
  std::vector<bool> exact_;                  ///< by instruction: its site is left in float
  std::vector<repquant::matrix<>> weights_;  ///< by instruction
};

}  // namespace examples
