// SPDX-License-Identifier: MIT
/// quantized<Codec, Granularity>: codes together with what they mean; quantize and dequantize.
#pragma once

#include <repquant/codec/check.hpp>
#include <repquant/kernel/decode.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/matrix/quantizer.hpp>

#include <utility>

namespace repquant {

/// Nothing, or why a quantizer cannot serve a matrix of shape s: group_mismatch where its granularity does
/// not fit s, shape_mismatch where s has other groups or columns than its parameters were chosen for.
template<Codec C, Granularity G>
failure check_shape(const quantizer<C, G>& q, shape s, std::string_view place) noexcept {
  const index groups = q.granularity().groups(s);
  const auto sets = static_cast<index>(q.params().size());
  if (groups < 1)
    return failure{errc::group_mismatch, "columns", s.cols, q.granularity().run(s)}.within(place);
  if (groups != sets) return failure{errc::shape_mismatch, "parameter sets", sets, groups}.within(place);
  if (sets > 1 && q.size().cols != s.cols) {
    return failure{errc::shape_mismatch, "columns", s.cols, q.size().cols}.within(place);
  }
  return {};
}

/// A matrix of codes and its quantizer.
///
/// Requires  codes in 0 .. levels-1, of a shape that the quantizer serves; quantize() gives such
template<Codec C, Granularity G>
class quantized {
 public:
  using code_type = code_type_t<C>;

  quantized(repquant::quantizer<C, G> quantizer, matrix<code_type> codes)
      : quantizer_(std::move(quantizer)), codes_(std::move(codes)) {
    REPQUANT_ASSERT(!check_shape(quantizer_, {codes_.rows(), codes_.cols()}, ""));
  }

  [[nodiscard]] const repquant::quantizer<C, G>& quantizer() const noexcept { return quantizer_; }
  [[nodiscard]] const matrix<code_type>& codes() const noexcept { return codes_; }
  [[nodiscard]] index rows() const noexcept { return codes_.rows(); }
  [[nodiscard]] index cols() const noexcept { return codes_.cols(); }

 private:
  repquant::quantizer<C, G> quantizer_;
  matrix<code_type> codes_;
};

/// The codes of a matrix.
///
///   codes(i, j) = q.encode(x(i, j), i, j)
///
/// Errors   empty, non_finite (got = how many), group_mismatch, shape_mismatch, bad_bits
/// Cost     two passes: one that looks for NaN and infinities, one that encodes (kernel/encode.hpp)
/// Example  const auto codes = quantize(*q, w);
template<class Arch = default_arch, Codec C, Granularity G>
result<quantized<C, G>> quantize(const quantizer<C, G>& q, matrix_view x,
                                 std::string_view place = "quantize") {
  if (failure f = check_codec(q.codec(), place)) return f;
  if (x.empty()) return failure{errc::empty, place, x.rows() * x.cols(), 1};
  if (failure f = check_shape(q, x.size(), place)) return f;
  if (failure f = check_finite(x, place)) return f;
  matrix<code_type_t<C>> codes(x.rows(), x.cols());
  encode<Arch>(q.codec(), q.granularity(), x.size(), q.params(), x.data(), x.stride(), codes.data(),
               codes.cols());
  return quantized<C, G>(q, std::move(codes));
}

/// The values that the codes stand for.
///
///   x(i, j) = decode(codes(i, j), i, j)
///
/// Cost  one pass
template<class Arch = default_arch, Codec C, Granularity G>
matrix<> dequantize(const quantized<C, G>& q) {
  const auto& codes = q.codes();
  matrix<> x(codes.rows(), codes.cols());
  decode<Arch>(q.quantizer().codec(), q.quantizer().granularity(), shape{codes.rows(), codes.cols()},
               q.quantizer().params(), codes.data(), codes.cols(), x.data(), x.cols());
  return x;
}

}  // namespace repquant
