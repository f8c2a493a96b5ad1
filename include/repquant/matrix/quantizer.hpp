// SPDX-License-Identifier: MIT
/// quantizer<Codec, Granularity>: a codec together with the parameters chosen for it. There is no
/// unfitted one: it is made by make(), or by a calibrator (calibrate/calibrator.hpp).
#pragma once

#include <repquant/codec/concept.hpp>
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/granularity/granularities.hpp>
#include <repquant/matrix/matrix.hpp>

#include <utility>
#include <vector>

namespace repquant {

/// A codec, a granularity and one parameter set per group.
///
/// Invariant  params().size() == granularity().groups(size()), and it is at least 1.
/// `size()` is the shape that the parameters were chosen for; a granularity that does not count rows
/// (per_tensor, per_col) serves any number of them.
template<Codec C, Granularity G>
class quantizer {
 public:
  using codec_type = C;
  using granularity_type = G;
  using params_type = typename C::params;

  /// Errors  group_mismatch: the granularity does not fit the shape; shape_mismatch: another number of
  ///         parameter sets than groups.
  static result<quantizer> make(C codec, G granularity, shape size, std::vector<params_type> params) {
    const index groups = granularity.groups(size);
    if (groups < 1) return failure{errc::group_mismatch, "quantizer: groups", groups, 1};
    if (static_cast<index>(params.size()) != groups) {
      return failure{errc::shape_mismatch, "quantizer: parameter sets",
                     static_cast<std::int64_t>(params.size()), groups};
    }
    return quantizer(std::move(codec), std::move(granularity), size, std::move(params));
  }

  [[nodiscard]] const C& codec() const noexcept { return codec_; }
  [[nodiscard]] const G& granularity() const noexcept { return granularity_; }
  [[nodiscard]] shape size() const noexcept { return size_; }
  [[nodiscard]] std::span<const params_type> params() const noexcept { return params_; }
  [[nodiscard]] const params_type& params_of(index i, index j) const noexcept {
    return params_[static_cast<std::size_t>(granularity_.group(size_, i, j))];
  }
  [[nodiscard]] std::int32_t encode(float x, index i, index j) const noexcept {
    return codec_.encode(x, params_of(i, j));
  }
  [[nodiscard]] float decode(std::int32_t q, index i, index j) const noexcept {
    return codec_.decode(q, params_of(i, j));
  }

 private:
  quantizer(C codec, G granularity, shape size, std::vector<params_type> params)
      : codec_(std::move(codec)),
        granularity_(std::move(granularity)),
        size_(size),
        params_(std::move(params)) {}
  C codec_;
  G granularity_;
  shape size_;
  std::vector<params_type> params_;
};

/// The four names that users look for.
using uniform_quantizer = quantizer<uniform, per_tensor>;
using channel_wise_quantizer = quantizer<uniform, per_col>;
using log2_quantizer = quantizer<log2, per_tensor>;
using log_sqrt2_quantizer = quantizer<log_sqrt2, per_tensor>;

}  // namespace repquant
