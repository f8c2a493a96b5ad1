// SPDX-License-Identifier: MIT
/// shared_weights: layers that one program calls several times (a block applied twelve times) keep one set of
/// codes. What the calls must agree on is gathered from one pass of quantize_block and given to the next.
#pragma once

#include <repquant/block/layer_evidence.hpp>
#include <repquant/block/program.hpp>
#include <repquant/matrix/quantize.hpp>

#include <cmath>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace repquant {

/// What a pass over a program has seen of its shared weights, by group.
struct shared_evidence {
  std::map<int, column<double>> log_scales;  ///< of the input channels, summed over the calls
  std::map<int, index> calls;                ///< how many calls that were
  std::map<int, layer_evidence> layers;      ///< all calls together

  void add_channels(int group, std::span<const affine> channels) {
    const auto n = static_cast<index>(channels.size());
    column<double>& sum = log_scales.try_emplace(group, column<double>::Zero(n)).first->second;
    double mean = 0;
    for (const affine& p : channels) mean += std::log(static_cast<double>(p.scale));
    mean /= static_cast<double>(n);
    for (index d = 0; d < n; ++d) {
      sum(d) += std::log(static_cast<double>(channels[static_cast<std::size_t>(d)].scale)) - mean;
    }
    ++calls[group];
  }
  void add_layer(int group, const layer_evidence& e) {
    const auto [entry, added] = layers.try_emplace(group, e);
    if (!added) entry->second.add(e);
  }
};

/// Which linear layers of a program are the same one, and what was settled for them.
class shared_weights {
 public:
  shared_weights() = default;
  /// Layers with equal weights and biases are one layer called several times.
  ///
  /// Cost  a comparison of each pair of layers of one shape, which mostly ends at the first entries
  explicit shared_weights(const program& p) : groups_(p.linears.size(), -1) {
    for (std::size_t i = 0; i < p.linears.size(); ++i) {
      for (std::size_t k = 0; k < i; ++k) {
        if (!same(p.linears[i], p.linears[k])) continue;
        if (groups_[k] < 0) groups_[k] = static_cast<int>(k);
        groups_[i] = groups_[k];
        any_ = true;
        break;
      }
    }
  }

  [[nodiscard]] bool any() const noexcept { return any_; }
  /// The number of the layer's group, -1 where it is called once.
  [[nodiscard]] int group_of(const step& linear_step) const noexcept {
    return groups_.empty() ? -1 : groups_[static_cast<std::size_t>(linear_step.layer)];
  }
  /// Ratios of the channel scales at the input of a group, geometric mean 1; nullptr while not settled.
  [[nodiscard]] const column<double>* ratios(int group) const {
    const auto it = ratios_.find(group);
    return it == ratios_.end() ? nullptr : &it->second;
  }
  /// What all calls of a group have seen together; nullptr while not settled.
  [[nodiscard]] const layer_evidence* evidence(int group) const {
    const auto it = evidence_.find(group);
    return it == evidence_.end() ? nullptr : &it->second;
  }

  /// After the first pass: the ratios are the geometric means over the calls.
  void settle_ratios(const shared_evidence& seen) {
    for (const auto& [group, sum] : seen.log_scales) {
      ratios_[group] = (sum / static_cast<double>(seen.calls.at(group))).array().exp().matrix();
    }
  }
  /// After the second: the evidence of all calls.
  void settle_evidence(shared_evidence&& seen) { evidence_ = std::move(seen.layers); }

 private:
  static bool same(const linear& a, const linear& b) {
    return a.weight.rows() == b.weight.rows() && a.weight.cols() == b.weight.cols() &&
           a.bias.size() == b.bias.size() && a.weight == b.weight && a.bias == b.bias;
  }
  std::vector<int> groups_;
  bool any_ = false;
  std::map<int, column<double>> ratios_;
  std::map<int, layer_evidence> evidence_;
};

}  // namespace repquant
