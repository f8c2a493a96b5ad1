// SPDX-License-Identifier: MIT
/// Layers from a safetensors file, by the names that PyTorch gives them: `<name>.weight`, `<name>.bias`.
#pragma once

#include <repquant/io/safetensors.hpp>
#include <repquant/layer/linear.hpp>
#include <repquant/layer/norm.hpp>

#include <initializer_list>
#include <string>
#include <utility>

namespace examples {

/// Whether a layer has a bias.
enum class bias : unsigned char { yes, no };

/// Gives each of `parts` as many rows of a layer that computes all of them at once (query, key and value).
inline void split_rows(const repquant::linear& whole, std::initializer_list<repquant::linear*> parts) {
  const auto count = static_cast<repquant::index>(parts.size());
  const repquant::index rows = whole.weight.rows() / count;
  const repquant::index entries = whole.bias.size() / count;
  repquant::index part = 0;
  for (repquant::linear* l : parts) {
    l->weight = whole.weight.middleRows(part * rows, rows);
    if (entries > 0) l->bias = whole.bias.segment(part * entries, entries);
    ++part;
  }
}

/// Reads one layer after the other and remembers the first thing that was wrong, so that a loader is a list
/// of names and sizes with one check at its end.
///
/// Errors  error(): those of safetensors::matrix and column (missing, other sizes), and non_finite where a
///         layer holds NaN or infinity; unused(): a tensor that no call asked for
/// Example examples::weight_reader r(file);
///         w.head = r.linear("head", 10, 64);
///         if (r.error()) return r.error();
class weight_reader {
 public:
  explicit weight_reader(const repquant::safetensors& file) : file_(file) {}

  /// `<name>.weight` [out x in] and `<name>.bias` [out].
  repquant::linear linear(const std::string& name, repquant::index out, repquant::index in,
                          bias with = bias::yes) {
    repquant::linear layer{matrix(name + ".weight", out, in), {}};
    if (with == bias::yes) layer.bias = column(name + ".bias", out);
    return layer;
  }
  /// `<name>.weight` and `<name>.bias`, both [size].
  repquant::layer_norm layer_norm(const std::string& name, repquant::index size, float eps) {
    return {column(name + ".weight", size), column(name + ".bias", size), eps};
  }
  /// `<name>.weight` [size].
  repquant::rms_norm rms_norm(const std::string& name, repquant::index size, float eps) {
    return {column(name + ".weight", size), eps};
  }
  repquant::matrix<> matrix(const std::string& name, repquant::index rows, repquant::index cols) {
    return taken(name, file_.matrix(name, rows, cols), repquant::matrix<>::Zero(0, 0).eval());
  }
  repquant::column<> column(const std::string& name, repquant::index size) {
    return taken(name, file_.column(name, size), repquant::column<>::Zero(0).eval());
  }

  /// The first thing that was wrong, or nothing.
  [[nodiscard]] const repquant::failure& error() const noexcept { return error_; }
  /// The first thing that was wrong; else a failure where the file has more tensors than were read, which
  /// says that it holds another network.
  [[nodiscard]] repquant::failure finish() const {
    const auto all = static_cast<repquant::index>(file_.tensors().size());
    if (error_ || read_ == all) return error_;
    return {repquant::errc::shape_mismatch, file_.place() + ": tensors", all, read_};
  }

 private:
  template<class T>
  T taken(const std::string& name, repquant::result<T> value, T otherwise) {
    ++read_;
    repquant::failure f;
    if (!value) {
      f = value.error();
    } else if (value->size() > 0) {
      f = repquant::check_finite(*value, file_.place() + ": " + name);
    }
    if (f && !error_) error_ = f;
    return value ? std::move(*value) : std::move(otherwise);
  }

  const repquant::safetensors& file_;
  repquant::failure error_;
  repquant::index read_ = 0;
};

}  // namespace examples
