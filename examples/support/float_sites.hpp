// SPDX-License-Identifier: MIT
/// A quantized model with the sites of one class left in float: what that class costs. Codes are kept as real
/// numbers here; where a site is left in float they are neither rounded nor clipped, and all else stays as it
/// was quantized: sums are in double, where those of codes are exact, and are rounded as the engine rounds
/// them, so that no code at a tie goes another way than in the engine.
#pragma once

#include <repquant/block/quantized_model.hpp>
#include <repquant/infer/integer_products.hpp>
#include <repquant/infer/softmax.hpp>

#include <algorithm>
#include <cmath>
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
    if (s.kind != opcode::select_row && s.kind != opcode::hadamard) break;
    from = s.a;
  }
  return "other";
}

/// A quantized model that runs in float, but for the codes of its sites and weights.
class float_sites_model {
 public:
  /// `exact`: the class that is not rounded; empty: none, which is the model itself, to the bit.
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
    std::vector<bool> real(file.size());  // by register: its codes are not rounded
    file[0] = x;
    for (std::size_t i = 0; i < m.instructions().size(); ++i) {
      const repquant::instruction& s = m.instructions()[i];
      const auto at = [&](std::int32_t r) -> const repquant::matrix<>& {
        return file[static_cast<std::size_t>(r)];
      };
      repquant::matrix<>& out = file[static_cast<std::size_t>(s.out)];
      if (s.kind == repquant::opcode::encode) {
        out = encode(s, at(s.a), exact_[i]);
        real[static_cast<std::size_t>(s.out)] = exact_[i];
      } else if (s.kind == repquant::opcode::linear) {
        out = linear(s, weights_[i], at(s.a));
      } else if (s.kind == repquant::opcode::attention) {
        const bool real_scores = real[static_cast<std::size_t>(s.a)] || real[static_cast<std::size_t>(s.b)];
        out = attend(s, at(s.a), at(s.b), at(s.c), real_scores, exact_[i]);
      } else {
        run_on_floats(s, file);
      }
    }
    return std::move(file[static_cast<std::size_t>(m.header().output)]);
  }

 private:
  template<class T>
  [[nodiscard]] std::span<const T> numbers(std::uint64_t offset, index count) const {
    return model_->view().numbers<T>(offset, static_cast<std::size_t>(count));
  }
  /// Numbers in double, less their zero points, one per column.
  static repquant::matrix<double> centered(const repquant::matrix<>& x, index from,
                                           std::span<const std::int32_t> zero) {
    const auto zeros = Eigen::Map<const Eigen::Matrix<std::int32_t, 1, Eigen::Dynamic>>(
        zero.data(), static_cast<index>(zero.size()));
    return x.middleCols(from, zeros.size()).cast<double>().rowwise() - zeros.cast<double>();
  }

  /// The codes of a linear layer's weights about their zero points.
  [[nodiscard]] repquant::matrix<> weights_of(const repquant::instruction& s) const {
    const auto codes = numbers<std::uint8_t>(s.data[0], static_cast<index>(s.cols) * s.inner);
    const auto zero = numbers<std::int32_t>(s.data[1], s.cols);
    repquant::matrix<> w =
        Eigen::Map<const repquant::matrix<std::uint8_t>>(codes.data(), s.cols, s.inner).cast<float>();
    for (index o = 0; o < w.rows(); ++o)
      w.row(o).array() -= static_cast<float>(zero[static_cast<std::size_t>(o)]);
    return w;
  }
  [[nodiscard]] repquant::matrix<> linear(const repquant::instruction& s, const repquant::matrix<>& w,
                                          const repquant::matrix<>& x) const {
    const repquant::matrix<double> codes = x.cast<double>().array() - static_cast<double>(s.zero_a);
    const repquant::matrix<double> sums = codes * w.cast<double>().transpose();
    repquant::matrix<> y(x.rows(), s.cols);
    const auto n = static_cast<std::size_t>(s.cols);
    for (index t = 0; t < y.rows(); ++t) {
      repquant::requantize_row(std::span<const double>(sums.row(t).data(), n),
                               numbers<float>(s.data[2], s.cols), numbers<float>(s.data[3], s.cols),
                               std::span<float>(y.row(t).data(), n));
    }
    return y;
  }

  [[nodiscard]] repquant::matrix<> encode(const repquant::instruction& s, const repquant::matrix<>& x,
                                          bool exact) const {
    const auto params = numbers<repquant::affine>(s.data[0], s.per_column != 0 ? s.cols : 1);
    repquant::uniform codec;
    codec.bits = s.bits;
    repquant::matrix<> moved;
    if (s.inner > 0 && !exact) {
      moved.resize(x.rows(), x.cols());
      repquant::move_by_feedback(codec, params, repquant::detail::feedback_of(s, model_->view().constants()),
                                 x.data(), x.rows(), x.cols(), moved.data());
    }
    const repquant::matrix<>& from = moved.size() > 0 ? moved : x;
    repquant::matrix<> y(x.rows(), x.cols());
    for (index d = 0; d < x.cols(); ++d) {
      const repquant::affine& p = params[s.per_column != 0 ? static_cast<std::size_t>(d) : 0];
      for (index t = 0; t < x.rows(); ++t) {
        y(t, d) = exact ? x(t, d) / p.scale + static_cast<float>(p.zero_point)
                        : static_cast<float>(codec.encode(from(t, d), p));
      }
    }
    return y;
  }

  /// The softmax of a query over the keys that it sees: of sums of codes as the engine has it, of real ones
  /// (which are not integers, as softmax_of_sums needs them) that of the running float model.
  static void softmax(std::span<const double> sums, float multiplier, index seen, bool real,
                      std::span<float> p) {
    if (!real) {
      repquant::softmax_of_sums(sums, multiplier, seen, p);
      return;
    }
    const auto n = static_cast<std::size_t>(seen);
    for (std::size_t j = 0; j < n; ++j) p[j] = static_cast<float>(sums[j] * static_cast<double>(multiplier));
    repquant::softmax_row(std::span<const float>(p.first(n)), p.first(n));
  }

  /// The codes of probabilities.
  static void encode(const repquant::probability_code& code, std::span<const float> p,
                     std::span<std::uint8_t> codes) {
    const float largest = code.relative && !p.empty() ? *std::max_element(p.begin(), p.end()) : 1.0F;
    code.visit([&](const auto& codec, const auto& params) {
      for (std::size_t j = 0; j < p.size(); ++j)
        codes[j] = static_cast<std::uint8_t>(codec.encode(p[j] / largest, params));
    });
  }

  /// What a code weighs in the sums of the even codes, or in those of the odd ones.
  static void weigh(const repquant::probability_code& code, int c, double& even, double& odd) {
    code.visit([&]<class C>(const C& codec, const auto& params) {
      if constexpr (std::same_as<C, repquant::uniform>) {
        even = c - params.zero_point;
      } else if (!codec.is_zero(c)) {
        const bool half = std::same_as<C, repquant::log_sqrt2> && c % 2 != 0;
        (half ? odd : even) = std::ldexp(1.0, repquant::largest_shift(codec) - C::shift(c));
      }
    });
  }

  [[nodiscard]] repquant::matrix<> attend(const repquant::instruction& s, const repquant::matrix<>& q,
                                          const repquant::matrix<>& k, const repquant::matrix<>& v,
                                          bool real_scores, bool exact) const {
    const index d = s.inner;
    const auto width = static_cast<std::size_t>(d);
    std::vector<float> shares(static_cast<std::size_t>(repquant::probability_scratch(k.rows())));
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(k.rows()));
    std::vector<float> even_scale(width);
    std::vector<float> odd_scale(width);
    const std::vector<std::int32_t> key_zero(width, s.zero_b);
    repquant::matrix<> out(q.rows(), s.cols);
    for (index n = 0; n < s.heads; ++n) {
      const repquant::attention_head h =
          repquant::head_of(s, model_->view().constants(), n, q.rows(), k.rows());
      const index g = n / (s.heads / s.kv_heads);
      const repquant::matrix<double> scores =
          centered(q, n * d, h.q_zero) * centered(k, g * d, key_zero).transpose();
      repquant::matrix<double> even = repquant::matrix<double>::Zero(q.rows(), k.rows());
      repquant::matrix<double> odd = even;
      const repquant::value_factor factor(h.probability);
      std::vector<float> factors(static_cast<std::size_t>(q.rows()), 1.0F);
      for (index i = 0; i < q.rows(); ++i) {
        const index seen = h.visible(i);
        const std::span<const double> sums(scores.row(i).data(), static_cast<std::size_t>(k.rows()));
        if (!exact && !real_scores) {
          repquant::probability_row(h.probability, sums, h.score_multiplier, seen, shares, codes);
        } else {
          softmax(sums, h.score_multiplier, seen, real_scores, shares);
          const auto count = static_cast<std::size_t>(seen);
          if (!exact) encode(h.probability, std::span(shares).first(count), std::span(codes).first(count));
        }
        for (index j = 0; j < seen; ++j) {
          if (exact) {
            even(i, j) = static_cast<double>(shares[static_cast<std::size_t>(j)]);
          } else {
            weigh(h.probability, codes[static_cast<std::size_t>(j)], even(i, j), odd(i, j));
          }
        }
        if (!exact) factors[static_cast<std::size_t>(i)] = factor(codes.data(), seen);
      }
      repquant::value_scales scales{h.value_scale, {}};
      if (!exact) scales = repquant::scales_of(h.probability, h.value_scale, even_scale, odd_scale);
      const repquant::matrix<double> values = centered(v, g * d, h.v_zero);
      const repquant::matrix<double> even_sums = even * values;
      const repquant::matrix<double> odd_sums = odd * values;
      for (index i = 0; i < q.rows(); ++i) {
        repquant::value_row(std::span<const double>(even_sums.row(i).data(), width),
                            std::span<const double>(odd_sums.row(i).data(), scales.odd.size()), scales,
                            std::span<float>(out.row(i).data() + n * d, width),
                            factors[static_cast<std::size_t>(i)]);
      }
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
