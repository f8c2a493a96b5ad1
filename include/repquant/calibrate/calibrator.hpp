// SPDX-License-Identifier: MIT
/// calibrator: an observer per parameter set, fed with matrices.
#pragma once

#include <repquant/calibrate/concept.hpp>
#include <repquant/calibrate/quantizer_for.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

namespace repquant {

/// Watches a site: batches go in, a quantizer comes out. Where an order of batches, a split or an executor
/// does not matter to the observer, it does not matter here.
///
/// Example   calibrator watch(percentile{}, per_col{}, 768, "block.0.ln1.out");
///           for (const matrix<>& x : samples) if (failure f = watch.observe(x)) return f;
///           const auto q = watch.make(uniform{.bits = 4});
template<Observer O, Granularity G>
class calibrator {
 public:
  /// For batches of `cols` columns and any number of rows. `observer` is an unused one with the settings
  /// wanted; `site` is what errors call this place.
  calibrator(O observer, G granularity, index cols, std::string site)
      : calibrator(std::move(observer), std::move(granularity), shape{0, cols}, std::move(site)) {}
  /// For batches of one shape, as a granularity that counts rows needs; rows == 0 means any number.
  calibrator(O observer, G granularity, shape size, std::string site)
      : prototype_(std::move(observer)),
        granularity_(std::move(granularity)),
        size_(size),
        site_(std::move(site)) {
    const index groups = size.cols > 0 ? granularity_.groups(size) : 0;
    if (groups > 0) observers_.assign(static_cast<std::size_t>(groups), prototype_);
  }

  /// Takes a batch in, or refuses the whole of it.
  ///
  /// Shapes    batch [tokens x channels]
  /// Errors    group_mismatch (the granularity does not fit the shape that this was made for), empty,
  ///           shape_mismatch, non_finite (got = how many); all at the site
  /// Cost      a pass that looks for NaN and infinities, and the observers'
  template<Executor E = inline_executor>
  failure observe(matrix_view batch, const E& exec = {}) {
    if (failure f = check_batch(batch)) return f.within(site_);
    ++batches_;
    if constexpr (std::same_as<G, per_col>) {
      const index tiles = (batch.cols() + tile_cols - 1) / tile_cols;
      exec(tiles, [&](index t) { observe_columns(batch, t * tile_cols); });
      return {};
    }
    const shape s = batch.size();
    if (own_rows(s)) {
      exec(s.rows, [&](index i) { observe_row(batch, i, observers_); });
    } else if (observers_.size() == 1 && !std::same_as<E, inline_executor>) {
      const index pieces = std::min(s.rows, most_pieces);
      std::vector<std::vector<O>> parts(static_cast<std::size_t>(pieces), {prototype_});
      exec(pieces, [&](index k) {
        for (index i = s.rows * k / pieces; i < s.rows * (k + 1) / pieces; ++i) {
          observe_row(batch, i, parts[static_cast<std::size_t>(k)]);
        }
      });
      for (const std::vector<O>& part : parts) observers_[0].merge(part[0]);
    } else {
      for (index i = 0; i < s.rows; ++i) observe_row(batch, i, observers_);
    }
    return {};
  }

  /// Takes in what another calibrator of the same shape and settings has seen.
  ///
  /// Errors    shape_mismatch
  failure merge(const calibrator& other) {
    if (other.size_ != size_ || other.observers_.size() != observers_.size()) {
      return failure{errc::shape_mismatch, "merge: columns", other.size_.cols, size_.cols}.within(site_);
    }
    for (std::size_t k = 0; k < observers_.size(); ++k) observers_[k].merge(other.observers_[k]);
    batches_ += other.batches_;
    return {};
  }

  /// How many batches were taken in.
  [[nodiscard]] index batches() const noexcept { return batches_; }
  [[nodiscard]] const std::string& site() const noexcept { return site_; }
  /// One observer per parameter set.
  [[nodiscard]] std::span<const O> observers() const noexcept { return observers_; }

  /// The range that each parameter set should cover.
  ///
  /// Errors    empty (no batch seen), bad_bits, bad_option, group_mismatch, and what the observer says; all
  ///           at the site
  /// Cost      the observer's choose, once per parameter set
  template<Codec C, Executor E = inline_executor>
  requires ObserverFor<O, C>
  [[nodiscard]] result<std::vector<range>> choose(const C& codec, const E& exec = {}) const {
    if (failure f = check_codec(codec, "codec")) return f.within(site_);
    if (failure f = check_groups()) return f.within(site_);
    if (batches_ == 0) return failure{errc::empty, "calibrator saw no batch", 0, 1}.within(site_);
    std::vector<range> ranges(observers_.size());
    std::vector<failure> failures(observers_.size());
    exec(static_cast<index>(observers_.size()), [&](index k) {
      const auto at = static_cast<std::size_t>(k);
      const result<range> r = observers_[at].choose(codec);
      if (r) {
        ranges[at] = *r;
      } else {
        failures[at] = r.error();
      }
    });
    for (const failure& f : failures) {
      if (f) return f.within(site_);
    }
    return ranges;
  }

  /// A quantizer with the chosen ranges (quantizer_for).
  ///
  /// Errors    as choose
  template<Codec C, Executor E = inline_executor>
  requires ObserverFor<O, C>
  [[nodiscard]] result<quantizer<C, G>> make(const C& codec, const E& exec = {},
                                             fit_report* report = nullptr) const {
    const result<std::vector<range>> ranges = choose(codec, exec);
    if (!ranges) return ranges.error();
    result<quantizer<C, G>> q = quantizer_for(codec, granularity_, size_, *ranges, report);
    if (!q) return q.error().within(site_);
    return q;
  }

 private:
  static constexpr index tile_rows = 256;  // a tile of 16 KB, and long enough spans for the observers
  static constexpr index tile_cols = 16;   // a cache line of each row
  static constexpr index most_pieces = 16;

  [[nodiscard]] failure check_groups() const noexcept {
    if (size_.cols < 1) return {errc::empty, "calibrator: columns", size_.cols, 1};
    if (observers_.empty())
      return {errc::group_mismatch, "calibrator: columns", size_.cols, granularity_.run(size_)};
    return {};
  }
  [[nodiscard]] failure check_batch(matrix_view batch) const noexcept {
    if (failure f = check_groups()) return f;
    if (batch.empty()) return {errc::empty, "calibration batch", batch.rows() * batch.cols(), 1};
    if (batch.cols() != size_.cols)
      return {errc::shape_mismatch, "calibration columns", batch.cols(), size_.cols};
    if (size_.rows != 0 && batch.rows() != size_.rows) {
      return {errc::shape_mismatch, "calibration rows", batch.rows(), size_.rows};
    }
    return check_finite(batch, "calibration batch");
  }
  /// True where no two rows share an observer.
  [[nodiscard]] bool own_rows(shape s) const noexcept {
    return s.rows > 1 && granularity_.groups(s) == s.rows * (s.cols / granularity_.run(s));
  }

  void observe_row(matrix_view batch, index i, std::vector<O>& observers) {
    const auto run = static_cast<std::size_t>(granularity_.run(batch.size()));
    for (std::size_t j = 0; j < static_cast<std::size_t>(batch.cols()); j += run) {
      const auto group = static_cast<std::size_t>(granularity_.group(batch.size(), i, static_cast<index>(j)));
      observers[group].observe(batch.row(i).subspan(j, run));
    }
  }

  /// Columns [first, first + 16), transposed in tiles so that each observer gets long spans.
  void observe_columns(matrix_view batch, index first) {
    std::array<std::array<float, tile_rows>, tile_cols> tile;
    const index cols = std::min(tile_cols, batch.cols() - first);
    for (index top = 0; top < batch.rows(); top += tile_rows) {
      const index rows = std::min(tile_rows, batch.rows() - top);
      for (index i = 0; i < rows; ++i) {
        const float* const row = batch.data() + (top + i) * batch.stride() + first;
        for (index j = 0; j < cols; ++j)
          tile[static_cast<std::size_t>(j)][static_cast<std::size_t>(i)] = row[j];
      }
      for (index j = 0; j < cols; ++j) {
        observers_[static_cast<std::size_t>(first + j)].observe(
            {tile[static_cast<std::size_t>(j)].data(), static_cast<std::size_t>(rows)});
      }
    }
  }

  O prototype_;
  G granularity_;
  shape size_;
  std::string site_;
  std::vector<O> observers_;
  index batches_ = 0;
};

}  // namespace repquant
