// SPDX-License-Identifier: MIT
/// A trained model with what it is calibrated on and what it is measured on.
#pragma once

#include <repquant/block/program.hpp>
#include <repquant/train/splitmix64.hpp>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace examples {

using repquant::index;

/// One input of a model.
struct model_sample {
  repquant::matrix<> input;   ///< [tokens x width], the input of the program
  std::vector<index> rows;    ///< rows of the output that count; empty: all of them
  std::vector<index> labels;  ///< class of rows[i], -1 where it is unknown; may be empty
};

/// What the output of a model is.
enum class output_kind : unsigned char {
  logits,     ///< one row of logits for each row that counts
  embedding,  ///< one row per sample; logits are scale * cosine similarity among all samples of the set
};

/// Makes a sample like those that the model will see, from the calibration samples with these numbers, which
/// rise, and from what is drawn from `random`. Only its input and rows are set.
using sample_variation =
    std::function<model_sample(std::span<const index> among, repquant::splitmix64& random)>;

/// A trained model as a program, and disjoint sets of samples: choices are made on `calibration`, what is
/// reported is measured on `evaluation`.
struct model_case {
  std::string name;
  repquant::program network;
  std::vector<model_sample> calibration;
  std::vector<model_sample> evaluation;
  std::string accuracy;  ///< "top1", "masked_accuracy", "next_token_accuracy", "" for none
  output_kind output = output_kind::logits;
  float similarity_scale = 1;
  /// May be empty.
  sample_variation vary;
};

/// The rows of a table that ids name: a look-up in an embedding.
///
/// Errors  bad_format, got = the id: one that the table does not have
inline repquant::result<repquant::matrix<>> rows_of(const repquant::matrix<>& table,
                                                    std::span<const std::int32_t> ids,
                                                    std::string_view place) {
  repquant::matrix<> m(static_cast<index>(ids.size()), table.cols());
  for (index t = 0; t < m.rows(); ++t) {
    const std::int32_t id = ids[static_cast<std::size_t>(t)];
    if (id < 0 || id >= table.rows())
      return repquant::failure{repquant::errc::bad_format, place, id, table.rows()};
    m.row(t) = table.row(id);
  }
  return m;
}

}  // namespace examples
