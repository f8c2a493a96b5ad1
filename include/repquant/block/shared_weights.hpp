// SPDX-License-Identifier: MIT
/// shared_weights: layers that one program calls several times (a block applied twelve times) keep one set of
/// codes. What the calls must agree on is gathered from one pass of quantize_block and given to the next.
#pragma once

#include <repquant/block/common_ratios.hpp>
#include <repquant/block/layer_evidence.hpp>
#include <repquant/block/program.hpp>
#include <repquant/matrix/quantize.hpp>

#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace repquant {

/// What a pass over a program has seen of its shared weights, by group.
struct shared_evidence {
  std::map<int, std::vector<channel_costs>> channels;  ///< of the calls' inputs
  std::map<int, layer_evidence> layers;                ///< all calls together

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

  /// After the first pass: the ratios on which the calls agree (common_ratios).
  void settle_ratios(const shared_evidence& seen, int rounds) {
    for (const auto& [group, calls] : seen.channels) ratios_[group] = common_ratios(calls, rounds);
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
