// SPDX-License-Identifier: MIT
/// row_levels: the values that a quantizer can give to the weights of one row, for searches that move a
/// weight from level to level.
#pragma once

#include <repquant/matrix/quantizer.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace repquant {

/// A value that a codec gives, and its code.
struct level {
  double value = 0;
  std::int32_t code = 0;
};

/// The levels of each column of one row, ascending. Only codes that `encode` produces are levels, so that
/// no two levels of a column are equal.
///
/// Cost      one table of levels() entries for each parameter set of the row
template<Codec C, Granularity G>
class row_levels {
 public:
  row_levels(const quantizer<C, G>& q, index row, shape size) : run_(q.granularity().run(size)) {
    const C& codec = q.codec();
    for (index j = 0; j < size.cols; j += run_) {
      const std::size_t begin = levels_.size();
      first_.push_back(begin);
      const auto& p = q.params_of(row, j);
      for (std::int32_t code = 0; code < codec.levels(); ++code) {
        const float value = codec.decode(code, p);
        if (codec.encode(value, p) == code) levels_.push_back({static_cast<double>(value), code});
      }
      if (levels_.size() > begin && levels_[begin].value > levels_.back().value) {
        std::reverse(levels_.begin() + static_cast<std::ptrdiff_t>(begin), levels_.end());
      }
    }
    first_.push_back(levels_.size());
  }

  /// The levels of column j.
  [[nodiscard]] std::span<const level> of(index j) const noexcept {
    const auto group = static_cast<std::size_t>(j / run_);
    return std::span<const level>(levels_).subspan(first_[group], first_[group + 1] - first_[group]);
  }
  /// The position in of(j) of the level nearest to a value; of two equally near ones the lower.
  [[nodiscard]] std::size_t nearest(index j, double value) const noexcept {
    const std::span<const level> all = of(j);
    const auto above =
        std::lower_bound(all.begin(), all.end(), value, [](const level& l, double v) { return l.value < v; });
    if (above == all.begin()) return 0;
    const auto i = static_cast<std::size_t>(above - all.begin());
    if (above == all.end()) return i - 1;
    return value - all[i - 1].value <= all[i].value - value ? i - 1 : i;
  }

 private:
  index run_;
  std::vector<level> levels_;
  std::vector<std::size_t> first_;
};

}  // namespace repquant
