// SPDX-License-Identifier: MIT
/// A saved model run in double, from the words of the format alone: plain loops, std:: functions, 64-bit
/// integer sums. Shares nothing with the library but the structs of infer/model_format.hpp.
///
/// Every float result comes with a bound on what an engine that rounds each operation once to float may
/// differ from it when it starts from the same operands. u = 2^-24 is the relative error of one rounding;
/// bounds are first order in u, and taken 1 + 2^-10 times for what is left out.
///
/// Length: one function per instruction; the bounds stand beside the formulas they belong to.
#pragma once

#include <repquant/infer/model.hpp>

#include "oracle/feedback.hpp"
#include "oracle/infer.hpp"
#include <algorithm>
#include <limits>
#include <span>
#include <string>

namespace oracle {

inline constexpr double u = 0x1p-24;

/// A register: numbers with their bounds, or codes.
struct table {
  std::ptrdiff_t rows = 0;
  std::ptrdiff_t cols = 0;
  std::vector<double> value;
  std::vector<double> error;  ///< how far a float engine may be off, given the same operands
  std::vector<int> code;

  [[nodiscard]] std::size_t at(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return static_cast<std::size_t>(i * cols + j);
  }
};

/// A table of zeros for numbers.
inline table numbers(std::ptrdiff_t rows, std::ptrdiff_t cols) {
  table t{rows, cols, {}, {}, {}};
  t.value.assign(static_cast<std::size_t>(rows * cols), 0.0);
  t.error = t.value;
  return t;
}

/// A code computed from a number that is known up to an error: where the number is not within `band` of a
/// rounding boundary, every correct engine has this code. Both distances in units of the code.
struct coded {
  int code = 0;
  double from_tie = 0.5;
  double band = 0;
};

/// clamp(rne(x / s) + z), x / s the correctly rounded float quotient. (A double quotient of floats rounded
/// to float is that: 53 >= 2 24 + 2 bits, so the first rounding does no harm.)
inline int uniform_code(float x, float s, int z, int bits) {
  if (std::isnan(x)) return std::clamp(z, 0, (1 << bits) - 1);
  const auto quotient = static_cast<float>(static_cast<double>(x) / static_cast<double>(s));
  const double q = std::nearbyint(static_cast<double>(quotient)) + z;
  return static_cast<int>(std::clamp(q, 0.0, static_cast<double>((1 << bits) - 1)));
}

/// The code of x in exact arithmetic, for x known up to `error`. The engine's quotient is within
/// error / s of x / s, and rounded once.
inline coded uniform_near(double x, double error, double s, int z, int bits) {
  const double t = x / s;
  const double q = std::clamp(std::nearbyint(t) + z, 0.0, static_cast<double>((1 << bits) - 1));
  return {static_cast<int>(q), std::fabs(t - std::floor(t) - 0.5), (error + u * (std::fabs(x) + error)) / s};
}

/// What an attention instruction says of its probability codes.
struct probability_codes {
  int steps = 0;  ///< levels in an octave; 0 for uniform codes
  int bits = 0;
  int smallest = 0;  ///< code of the smallest level above zero
  int last = 0;      ///< code of zero and below
  double scale = 0;
  int zero_point = 0;
  bool relative = false;  ///< codes of p over the largest p

  explicit probability_codes(const repquant::instruction& s)
      : bits(s.probability_bits),
        scale(s.probability_scale),
        zero_point(s.probability_zero),
        relative(s.probability_relative != 0) {
    if (s.probability == repquant::probability_kind::as_log2) steps = 1;
    if (s.probability == repquant::probability_kind::as_log_sqrt2) steps = 2;
    const int levels = 1 << bits;
    const bool zero = s.probability_zero_rule == 0;
    smallest = std::min(levels - (zero ? 2 : 1), steps * s.probability_depth + steps - 1);
    last = zero ? levels - 1 : smallest;
  }
  [[nodiscard]] int of_zero() const { return steps == 0 ? std::clamp(zero_point, 0, (1 << bits) - 1) : last; }
  /// The code of a probability as an engine computes it from a float.
  [[nodiscard]] int of(float p) const {
    if (steps == 0) return uniform_code(p, static_cast<float>(scale), zero_point, bits);
    const auto quotient = static_cast<float>(static_cast<double>(p) / scale);
    if (!(quotient >= std::numeric_limits<float>::min())) return last;
    const double c = std::nearbyint(-steps * std::log2(static_cast<double>(std::fmin(quotient, 1.0F))));
    return c > smallest ? last : static_cast<int>(c);
  }
  /// The code of a probability known up to a relative error. In units of the code, -steps log2(p / s), a
  /// relative error r is steps r / ln 2; the quotient adds one rounding. 2^-126: what exp gives as 0.
  [[nodiscard]] coded near(double p, double relative_error) const {
    if (steps == 0) return uniform_near(p, p * relative_error + 0x1p-126, scale, zero_point, bits);
    const double t = -steps * std::log2(std::fmin(p / scale, 1.0));
    const double c = std::nearbyint(t);
    return {c > smallest ? last : static_cast<int>(c), std::fabs(t - std::floor(t) - 0.5),
            steps * (relative_error + u + 0x1p-126 / p) / std::log(2.0)};
  }
  /// The code of a key whose score is `distance` below the largest, in nats: of e^-distance. Of logarithmic
  /// codes it is steps distance / ln 2 itself, after roundings of the distance, of the factor, of 1 / ln 2
  /// and of the product.
  [[nodiscard]] coded near_relative(double distance) const {
    if (steps == 0) return near(std::exp(-distance), (3 * distance + 4) * u);
    const double t = steps * distance / std::log(2.0);
    const double c = std::nearbyint(std::fmin(t, 1e6));
    return {c > smallest ? last : static_cast<int>(c), std::fabs(t - std::floor(t) - 0.5), 4 * u * t};
  }
  /// What a code weighs in a sum, exact: its distance from the zero point, or a power of two; codes of odd
  /// half octaves are summed apart.
  [[nodiscard]] double weight(int c) const {
    if (steps == 0) return c - zero_point;
    return last > smallest && c > smallest ? 0 : std::ldexp(1.0, -(c / steps));
  }
  /// What the sum of the even codes, or of the odd ones, is worth. The half octave is the float nearest to
  /// the root of 1/2.
  [[nodiscard]] double worth(bool odd) const {
    return odd ? scale * static_cast<double>(static_cast<float>(std::sqrt(0.5))) : scale;
  }
};

/// A saved model, ready to be run.
class model {
 public:
  explicit model(const repquant::model_view& m) : view_(m) {
    for (const repquant::instruction& s : m.instructions()) {
      std::vector<int> w;
      if (s.kind == repquant::opcode::linear) {
        for (std::int32_t o = 0; o < s.cols; ++o) {
          const auto zero = number<std::int32_t>(s.data[1], o);
          for (std::int32_t k = 0; k < s.inner; ++k) {
            w.push_back(number<std::uint8_t>(s.data[0], std::ptrdiff_t{o} * s.inner + k) - zero);
          }
        }
      }
      weights_.push_back(std::move(w));
    }
  }

  /// The result for an input, every instruction on what this oracle made of the former ones.
  [[nodiscard]] std::vector<double> run(const float* x, std::ptrdiff_t rows) const {
    std::vector<table> file(view_.row_bytes().size());
    file[0] = numbers(rows, view_.header().input_cols);
    std::copy(x, x + file[0].value.size(), file[0].value.begin());
    for (std::size_t i = 0; i < view_.instructions().size(); ++i) {
      const repquant::instruction& s = view_.instructions()[i];
      const auto operand = [&](std::int32_t r) {
        return r < 0 ? nullptr : &file[static_cast<std::size_t>(r)];
      };
      file[static_cast<std::size_t>(s.out)] =
          s.kind == repquant::opcode::encode
              ? encode(s, *operand(s.a))
              : execute(i, *operand(s.a), operand(s.b), operand(s.c), nullptr, nullptr);
    }
    return file[static_cast<std::size_t>(view_.header().output)].value;
  }

  /// The codes of numbers, which are rounded to float first: the library's meaning of a code.
  [[nodiscard]] table encode(const repquant::instruction& s, const table& a) const {
    table out{a.rows, a.cols, {}, {}, std::vector<int>(a.value.size())};
    const auto code = [&](float x, std::ptrdiff_t j) {
      const auto [scale, zero] = params(s, j);
      return uniform_code(x, scale, zero, s.bits);
    };
    for (std::ptrdiff_t t = 0; t < a.rows; ++t) {
      std::vector<float> x(static_cast<std::size_t>(a.cols));
      for (std::size_t j = 0; j < x.size(); ++j) x[j] = static_cast<float>(a.value[a.at(t, 0) + j]);
      if (s.inner > 0)
        x = feed_back(feedback_of(s), x, code, [&](int q, std::ptrdiff_t j) {
              return value_of(s, q, j);
            }).moved;
      for (std::ptrdiff_t j = 0; j < a.cols; ++j)
        out.code[a.at(t, j)] = code(x[static_cast<std::size_t>(j)], j);
    }
    return out;
  }
  /// The codes of numbers that are known up to their bounds. Where errors are fed back, those of `forced`,
  /// which an engine gave these numbers: a code that may fall either way decides about later ones.
  [[nodiscard]] std::vector<coded> near(const repquant::instruction& s, table a,
                                        const std::vector<int>& forced) const {
    std::vector<coded> all(a.value.size());
    for (std::ptrdiff_t t = 0; t < a.rows; ++t) {
      const std::size_t first = a.at(t, 0);
      if (s.inner > 0) {
        move_near(feedback_of(s), a.cols, a.value.data() + first, a.error.data() + first,
                  [&](std::ptrdiff_t j) { return value_of(s, forced[a.at(t, j)], j); });
      }
      for (std::ptrdiff_t j = 0; j < a.cols; ++j) {
        const auto [scale, zero] = params(s, j);
        const std::size_t at = a.at(t, j);
        all[at] = uniform_near(a.value[at], a.error[at], static_cast<double>(scale), zero, s.bits);
      }
    }
    return all;
  }

  /// Instruction i, which is no encode, on its operands. An attention tells `probabilities` its codes, one
  /// row per head and token, and takes the codes in `forced`, where given, for the product with the values.
  [[nodiscard]] table execute(std::size_t i, const table& a, const table* b, const table* c,
                              std::vector<coded>* probabilities, const std::vector<int>* forced) const {
    using repquant::opcode;
    const repquant::instruction& s = view_.instructions()[i];
    table y;
    switch (s.kind) {
      case opcode::linear:
        y = linear(s, weights_[i], a);
        break;
      case opcode::norm:
        y = norm(s, a);
        break;
      case opcode::attention:
        y = attention(s, a, *b, *c, probabilities, forced);
        break;
      case opcode::activate:
        y = activate(s, a);
        break;
      case opcode::hadamard:
        y = hadamard(s, a);
        break;
      default:
        y = simple(s, a, b);
        break;
    }
    for (double& e : y.error) e *= 1 + 0x1p-10;
    return y;
  }

 private:
  struct affine {
    float scale;
    int zero_point;
  };
  template<class T>
  [[nodiscard]] T number(std::uint64_t offset, std::ptrdiff_t i) const {
    T n;
    std::memcpy(&n, view_.constants().data() + offset + static_cast<std::size_t>(i) * sizeof n, sizeof n);
    return n;
  }
  [[nodiscard]] affine params(const repquant::instruction& s, std::ptrdiff_t col) const {
    const std::ptrdiff_t set = s.per_column != 0 ? 2 * col : 0;
    return {number<float>(s.data[0], set), number<std::int32_t>(s.data[0], set + 1)};
  }

  [[nodiscard]] float value_of(const repquant::instruction& s, int code, std::ptrdiff_t col) const {
    const auto [scale, zero] = params(s, col);
    return rounded(static_cast<double>(code - zero) * static_cast<double>(scale));
  }
  [[nodiscard]] feedback feedback_of(const repquant::instruction& s) const {
    const std::byte* from = view_.constants().data();
    return {s.inner, reinterpret_cast<const std::uint8_t*>(from + s.data[2]),
            reinterpret_cast<const float*>(from + s.data[1]),
            reinterpret_cast<const std::int8_t*>(from + s.data[3])};
  }

  /// Roundings: the sum to float where it is not exact, the product, the addition.
  [[nodiscard]] table linear(const repquant::instruction& s, const std::vector<int>& w,
                             const table& a) const {
    table y = numbers(a.rows, s.cols);
    std::vector<int> x(static_cast<std::size_t>(s.inner));
    for (std::ptrdiff_t t = 0; t < a.rows; ++t) {
      for (std::ptrdiff_t k = 0; k < s.inner; ++k)
        x[static_cast<std::size_t>(k)] = a.code[a.at(t, k)] - s.zero_a;
      for (std::ptrdiff_t o = 0; o < s.cols; ++o) {
        const int* row = w.data() + o * s.inner;
        std::int64_t sum = 0;
        for (std::size_t k = 0; k < x.size(); ++k) sum += std::int64_t{x[k]} * row[k];
        const double product = static_cast<double>(sum) * static_cast<double>(number<float>(s.data[2], o));
        const std::size_t at = y.at(t, o);
        y.value[at] = product + static_cast<double>(number<float>(s.data[3], o));
        const double to_float = std::abs(sum) > 1 << 24 ? u : 0;
        y.error[at] = std::fabs(product) * (to_float + u) + std::fabs(y.value[at]) * u;
      }
    }
    return y;
  }

  /// k = ceil(n / 16) + 3 roundings on the way of an addend through a sum over 16 lanes, then a tree.
  ///
  /// mean: k u sum|x| / n from the sum, u |mean| from the division; call it m. Variance: the sum of squares
  /// about a mean off by m is too large by m^2 (the cross term vanishes), and relatively off by 2 u (the
  /// difference, squared), u (the square), k u (the sum), u (the division). The addition of eps: u; the
  /// root halves what came before and adds u, the reciprocal u. Then a difference, two products, a sum.
  [[nodiscard]] table norm(const repquant::instruction& s, const table& a) const {
    table y = numbers(a.rows, s.cols);
    const auto n = static_cast<double>(s.cols);
    const double k = std::ceil(n / 16) + 3;
    for (std::ptrdiff_t t = 0; t < a.rows; ++t) {
      double mean = 0;
      double size = 0;
      for (std::ptrdiff_t j = 0; j < s.cols; ++j) {
        mean += a.value[a.at(t, j)] / n;
        size += std::fabs(a.value[a.at(t, j)]) / n;
      }
      double off = (k * size + std::fabs(mean)) * u;
      if (s.flag != 0) mean = off = 0;
      double power = 0;
      for (std::ptrdiff_t j = 0; j < s.cols; ++j) {
        power += (a.value[a.at(t, j)] - mean) * (a.value[a.at(t, j)] - mean) / n;
      }
      const double below = power + static_cast<double>(s.eps);
      const double scale = 1 / std::sqrt(below);
      const double of_scale = (((k + 4) * u * power + off * off) / below + u) / 2 + 2 * u;
      for (std::ptrdiff_t j = 0; j < s.cols; ++j) {
        const std::size_t at = a.at(t, j);
        const auto gamma = static_cast<double>(number<float>(s.data[0], j));
        const double beta = s.flag != 0 ? 0 : static_cast<double>(number<float>(s.data[1], j));
        const double d = a.value[at] - mean;
        y.value[at] = d * scale * gamma + beta;
        y.error[at] =
            std::fabs(gamma) * scale * (off + std::fabs(d) * (of_scale + 3 * u)) + std::fabs(y.value[at]) * u;
      }
    }
    return y;
  }

  /// Bounds as kernel/elementary.hpp documents them.
  [[nodiscard]] static table activate(const repquant::instruction& s, const table& a) {
    table y = numbers(a.rows, a.cols);
    for (std::size_t i = 0; i < a.value.size(); ++i) {
      const double x = a.value[i];
      const double size = std::fmax(1.0, std::fabs(x));
      switch (s.function) {
        case 0:
          y.value[i] = std::fmax(x, 0.0);
          break;
        case 1:
          y.value[i] = gelu_erf(x);
          y.error[i] = 2.5e-7 * size;
          break;
        case 2:
          y.value[i] = gelu_tanh(x);
          y.error[i] = 1.3e-7 * size;
          break;
        default:
          y.value[i] = silu(x);
          y.error[i] = 1.3e-7 * size;
          break;
      }
    }
    return y;
  }

  /// Relative error of a probability, all to first order. Score x_j: one rounding, two where the sum is not
  /// exact: e_j = |x_j| u; its difference t_j from the top: u t_j; exp: one unit in the last place, 2 u.
  /// Together r_j = e_j + (t_j + 2) u. The sum is off by the mean of r_j under p and k u; the division adds
  /// u. So r_i + sum p_j r_j + (k + 1) u.
  ///
  /// Values: E and O the even and odd parts of the sum. Roundings of E: to float, s_p s_v, the product; O
  /// has one more in its scale; the last addition rounds E + O.
  [[nodiscard]] table attention(const repquant::instruction& s, const table& q, const table& k,
                                const table& v, std::vector<coded>* probabilities,
                                const std::vector<int>* forced) const {
    const probability_codes codes(s);
    table y = numbers(q.rows, s.cols);
    const std::ptrdiff_t d = s.inner;
    const auto keys = static_cast<std::size_t>(k.rows);
    std::vector<double> x(keys);
    std::vector<double> r(keys);
    std::vector<int> row(keys);
    for (std::ptrdiff_t h = 0; h < s.heads; ++h) {
      const std::ptrdiff_t g = h / (s.heads / s.kv_heads);
      const auto multiplier = static_cast<double>(number<float>(s.data[0], h));
      for (std::ptrdiff_t i = 0; i < q.rows; ++i) {
        const std::ptrdiff_t seen =
            s.flag != 0 ? std::clamp<std::ptrdiff_t>(i + 1 + k.rows - q.rows, 0, k.rows) : k.rows;
        x.resize(static_cast<std::size_t>(seen));
        for (std::ptrdiff_t j = 0; j < seen; ++j) {
          std::int64_t sum = 0;
          for (std::ptrdiff_t c = 0; c < d; ++c) {
            const auto zero = number<std::int32_t>(s.data[1], h * d + c);
            sum += std::int64_t{q.code[q.at(i, h * d + c)] - zero} * (k.code[k.at(j, g * d + c)] - s.zero_b);
          }
          const auto at = static_cast<std::size_t>(j);
          x[at] = static_cast<double>(sum) * multiplier;
        }
        const std::vector<double> p = softmax(x);
        double top = -std::numeric_limits<double>::infinity();
        for (double score : x) top = std::fmax(top, score);
        double mean = 0;
        for (std::size_t j = 0; j < x.size(); ++j) {
          // the distance, the factor of log2 e and their product are rounded; 2^x is within 4 u
          r[j] = (3 * (top - x[j]) + 4) * u;
          mean += p[j] * r[j];
        }
        const double sum_error = (std::ceil(static_cast<double>(seen) / 16) + 3 + 1) * u;
        for (std::size_t j = 0; j < keys; ++j) {
          const bool there = j < x.size();
          const coded relative = codes.relative && there ? codes.near_relative(top - x[j]) : coded{};
          row[j] = !there           ? codes.of_zero()
                   : codes.relative ? relative.code
                                    : codes.of(static_cast<float>(p[j]));
          if (forced != nullptr) row[j] = (*forced)[static_cast<std::size_t>(h * q.rows + i) * keys + j];
          if (probabilities == nullptr) continue;
          if (codes.relative && there) {
            probabilities->push_back(relative);
            continue;
          }
          probabilities->push_back(there ? codes.near(p[j], (r[j] + mean + sum_error) * (1 + 0x1p-10))
                                         : coded{codes.of_zero(), 0.5, 0});
        }
        double total[2] = {0, 0};
        for (std::ptrdiff_t j = 0; j < seen; ++j) {
          const int code = row[static_cast<std::size_t>(j)];
          total[codes.steps == 2 ? code % 2 : 0] += codes.weight(code);
        }
        const double divisor =
            codes.relative ? total[0] * codes.worth(false) + total[1] * codes.worth(true) : 1;
        for (std::ptrdiff_t c = 0; c < d; ++c) {
          const auto zero = number<std::int32_t>(s.data[2], g * d + c);
          const auto scale = static_cast<double>(number<float>(s.data[3], g * d + c));
          double part[2] = {0, 0};  // exact: below 2^53 in units of the smallest level
          for (std::ptrdiff_t j = 0; j < seen; ++j) {
            const int code = row[static_cast<std::size_t>(j)];
            part[codes.steps == 2 ? code % 2 : 0] += codes.weight(code) * (v.code[v.at(j, g * d + c)] - zero);
          }
          for (int odd : {0, 1}) part[odd] *= codes.worth(odd == 1) * scale;
          const std::size_t at = y.at(i, h * d + c);
          if (divisor == 0) continue;  // nothing has weight
          y.value[at] = (part[0] + part[1]) / divisor;
          y.error[at] = u * (3 * std::fabs(part[0]) + 4 * std::fabs(part[1]) + std::fabs(part[0] + part[1]));
          // the divisor, a sum of positive numbers, is as far off as the parts; its inverse and the product
          if (codes.relative) y.error[at] = y.error[at] / divisor + std::fabs(y.value[at]) * 7 * u;
        }
      }
    }
    return y;
  }

  /// Sums over entries of 1 and -1, in one block or in two that overlap. A product rounds once, every sum as
  /// often as it was halved.
  [[nodiscard]] table hadamard(const repquant::instruction& s, const table& a) const {
    std::ptrdiff_t block = 1;
    double halvings = 0;
    for (; 2 * block <= s.cols; block *= 2) ++halvings;
    table y = numbers(a.rows, s.cols);
    for (std::ptrdiff_t i = 0; i < a.rows; ++i) {
      std::vector<double> value, error;
      for (std::ptrdiff_t k = 0; k < s.cols; ++k) {
        value.push_back(a.value[a.at(i, k)] * static_cast<double>(number<float>(s.data[0], k)));
        error.push_back(std::fabs(value.back()) * u);
      }
      const std::ptrdiff_t last = s.cols - block;
      for (std::ptrdiff_t first = 0; first <= last; first += std::max<std::ptrdiff_t>(last, 1)) {
        for (std::ptrdiff_t j = first; first > 0 && j < block; ++j) {  // signs, by the golden ratio
          const auto turned = static_cast<std::uint64_t>(j) * 2654435761ULL % (1ULL << 32) >= 1ULL << 31;
          if (turned) value[static_cast<std::size_t>(j)] *= -1;
        }
        const std::vector<double> before = value;
        double all = 0;
        for (std::ptrdiff_t c = first; c < first + block; ++c) {
          all += error[static_cast<std::size_t>(c)] +
                 halvings * u * std::fabs(before[static_cast<std::size_t>(c)]);
        }
        for (std::ptrdiff_t r = 0; r < block; ++r) {
          double sum = 0;
          for (std::ptrdiff_t c = 0; c < block; ++c) {
            int ones = 0;
            for (std::ptrdiff_t both = r & c; both != 0; both &= both - 1) ++ones;
            sum += (ones % 2 == 0 ? 1 : -1) * before[static_cast<std::size_t>(first + c)];
          }
          value[static_cast<std::size_t>(first + r)] = sum;
          error[static_cast<std::size_t>(first + r)] = all;
        }
      }
      for (std::ptrdiff_t j = 0; j < s.cols; ++j) {
        y.value[y.at(i, j)] = value[static_cast<std::size_t>(j)];
        y.error[y.at(i, j)] = error[static_cast<std::size_t>(j)];
      }
    }
    return y;
  }

  /// One rounding for an addition or a product, none for a copy; a mean adds its rows one by one and divides.
  [[nodiscard]] table simple(const repquant::instruction& s, const table& a, const table* b) const {
    using repquant::opcode;
    const std::ptrdiff_t rows = s.kind == opcode::prepend_row                                 ? a.rows + 1
                                : s.kind == opcode::select_row || s.kind == opcode::mean_rows ? 1
                                                                                              : a.rows;
    table y = numbers(rows, s.cols);
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      for (std::ptrdiff_t j = 0; j < s.cols; ++j) {
        const std::size_t at = y.at(i, j);
        double roundings = 1;
        double size = 0;
        switch (s.kind) {
          case opcode::add:
            y.value[at] = a.value[at] + b->value[at];
            break;
          case opcode::multiply:
            y.value[at] = a.value[at] * b->value[at];
            break;
          case opcode::add_rows:
            y.value[at] = a.value[at] + static_cast<double>(number<float>(s.data[0], i * s.cols + j));
            break;
          case opcode::prepend_row:
            y.value[at] = i == 0 ? static_cast<double>(number<float>(s.data[0], j)) : a.value[a.at(i - 1, j)];
            roundings = 0;
            break;
          case opcode::rotate: {
            const std::ptrdiff_t half = s.cols / s.heads / 2;
            const std::ptrdiff_t angle = i * half + j % (2 * half) / 2;
            const double c = static_cast<double>(number<float>(s.data[0], angle));
            const double n = static_cast<double>(number<float>(s.data[1], angle));
            const double straight = a.value[at] * c;
            const double crossed = j % 2 == 0 ? -a.value[a.at(i, j + 1)] * n : a.value[a.at(i, j - 1)] * n;
            y.value[at] = straight + crossed;
            size = std::fabs(straight) + std::fabs(crossed);
            break;
          }
          case opcode::mix_heads:
            for (std::ptrdiff_t k = 0; k < s.inner; ++k) {
              const std::ptrdiff_t from = j / s.inner * s.inner + k;
              const double term = a.value[a.at(i, from)] *
                                  static_cast<double>(number<float>(s.data[0], from * s.inner + j % s.inner));
              y.value[at] += term;
              size += std::fabs(term) * static_cast<double>(s.inner + 1);
            }
            break;
          case opcode::select_row:
            y.value[at] = a.value[a.at(s.row < 0 ? a.rows + s.row : s.row, j)];
            roundings = 0;
            break;
          default:
            for (std::ptrdiff_t t = 0; t < a.rows; ++t) {
              y.value[at] += a.value[a.at(t, j)] / static_cast<double>(a.rows);
              size += std::fabs(a.value[a.at(t, j)]);
            }
            break;
        }
        y.error[at] =
            roundings * std::fabs(y.value[at]) * u + size * u;  // (rows - 1) u size / rows, and less
      }
    }
    return y;
  }

  repquant::model_view view_;
  std::vector<std::vector<int>> weights_;
};

}  // namespace oracle
