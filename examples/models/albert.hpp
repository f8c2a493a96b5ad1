// SPDX-License-Identifier: MIT
/// RXNMapper's ALBERT, a masked language model of chemical reactions.
///
/// Length: the files and the variations of one model.
#pragma once

#include <repquant/block/evaluate.hpp>

#include "models/albert_model.hpp"
#include "models/smiles.hpp"
#include "models/splitmix64.hpp"
#include "models/text_file.hpp"
#include "models/vary.hpp"
#include <charconv>
#include <cmath>
#include <memory>
#include <set>

namespace examples {

/// A tokenised reaction, and the positions whose tokens are to be guessed.
struct masked_reaction {
  std::vector<std::int32_t> ids;  ///< nothing masked
  std::vector<index> masked;
};

namespace detail {
/// The numbers of a text, separated by spaces.
template<class T>
repquant::result<std::vector<T>> numbers_of(std::string_view text, std::string_view place) {
  std::vector<T> all;
  for (const std::string_view word : split(text, ' ')) {
    T n = 0;
    const auto end = std::from_chars(word.data(), word.data() + word.size(), n);
    if (end.ec != std::errc{} || end.ptr != word.data() + word.size())
      return repquant::failure{repquant::errc::bad_format, place, static_cast<index>(all.size()), 0};
    all.push_back(n);
  }
  return all;
}
}  // namespace detail

/// Lines of ids, a tab, and positions.
///
/// Errors  io; bad_format: no tab, no number, a position outside of the line
inline repquant::result<std::vector<masked_reaction>> read_masked_reactions(const std::string& path) {
  const auto text = read_text(path);
  if (!text) return text.error();
  const std::string place = repquant::detail::file_name(path, 40);
  std::vector<masked_reaction> all;
  for (const std::string_view line : split(*text, '\n')) {
    const std::string at = place + ": line " + std::to_string(all.size() + 1);
    const std::size_t tab = line.find('\t');
    if (tab == std::string_view::npos) return repquant::failure{repquant::errc::bad_format, at};
    auto ids = detail::numbers_of<std::int32_t>(line.substr(0, tab), at);
    if (!ids) return ids.error();
    auto masked = detail::numbers_of<index>(line.substr(tab + 1), at);
    if (!masked) return masked.error();
    const auto length = static_cast<index>(ids->size());
    for (const index p : *masked) {
      if (p < 0 || p >= length) return repquant::failure{repquant::errc::bad_format, at, p, length};
    }
    all.push_back({std::move(*ids), std::move(*masked)});
  }
  return all;
}

/// One token a line, its number counted from 0.
///
/// Errors  io; bad_format: no token "." or ">>", which stand between molecules and between sides
inline repquant::result<smiles_vocabulary> read_vocabulary(const std::string& path) {
  const auto text = read_text(path);
  if (!text) return text.error();
  smiles_vocabulary v;
  std::int32_t number = 0;
  for (const std::string_view token : split(*text, '\n')) v.numbers.emplace(token, number++);
  for (const std::string token : {".", ">>"}) {
    if (!v.numbers.contains(token))
      return repquant::failure{repquant::errc::bad_format, "vocabulary: token " + token, 0, 1};
  }
  return v;
}

/// The reactions of a text, one a line, that are not among `others`, each with 15 % of its tokens chosen to
/// be guessed (never [CLS] or [SEP]), by splitmix64 from the seed 0.
inline std::vector<masked_reaction> spare_reactions(std::string_view text,
                                                    const smiles_vocabulary& vocabulary,
                                                    const std::vector<masked_reaction>& others) {
  std::set<std::vector<std::int32_t>> known;
  for (const masked_reaction& r : others) known.insert(r.ids);
  splitmix64 random;
  std::vector<masked_reaction> all;
  for (const std::string_view line : split(text, '\n')) {
    std::vector<std::int32_t> ids = vocabulary.ids(line);
    if (known.contains(ids)) continue;
    const auto length = static_cast<index>(ids.size());
    const auto count = std::max<index>(1, std::lround(0.15 * static_cast<double>(length - 2)));
    if (length < 3) continue;
    std::vector<index> masked = choose(random, 1, length - 1, count);
    all.push_back({std::move(ids), std::move(masked)});
  }
  return all;
}

/// Masked reactions as the program reads them; labels are the tokens behind the masks.
inline repquant::result<std::vector<model_sample>> samples_of(const albert_model& m,
                                                              const std::vector<masked_reaction>& reactions) {
  std::vector<model_sample> all;
  for (const masked_reaction& r : reactions) {
    std::vector<std::int32_t> ids = r.ids;
    model_sample s;
    for (const index p : r.masked) {
      s.labels.push_back(ids[static_cast<std::size_t>(p)]);
      ids[static_cast<std::size_t>(p)] = smiles_vocabulary::mask;
    }
    s.rows = r.masked;
    auto input = m.embed(ids);
    if (!input) return input.error();
    s.input = std::move(*input);
    all.push_back(std::move(s));
  }
  return all;
}

/// Masks 10 to 30 % of the tokens between the first and the last, and writes in their places what the network
/// guesses, drawn with the probabilities that it gives.
///
/// Cost  a float run
inline void rewrite_tokens(const albert_model& model, const repquant::program& network,
                           repquant::splitmix64& random, std::vector<std::int32_t>& ids) {
  const auto length = static_cast<index>(ids.size());
  const float share = between(random, 0.1F, 0.3F);
  const index count = std::clamp<index>(std::lround(share * static_cast<float>(length - 2)), 1, length - 2);
  const std::vector<index> chosen = choose(random, 1, length - 1, count);
  for (const index p : chosen) ids[static_cast<std::size_t>(p)] = smiles_vocabulary::mask;
  const repquant::matrix<> logits = repquant::evaluate(network, model.embed(ids).value()).value();
  for (const index p : chosen) ids[static_cast<std::size_t>(p)] = drawn_token(logits.row(p), random);
}

/// A reaction with its molecules on each side in another order, in one case of four with those of another
/// reaction among its reactants, in one of two a part of it rewritten by the network, and fresh masks on 15 %
/// of its tokens.
///
/// Requires  a vocabulary of read_vocabulary; network: the program of the model
inline sample_variation reaction_variations(const albert_model& model, const repquant::program& network,
                                            const smiles_vocabulary& vocabulary,
                                            const std::vector<masked_reaction>& reactions) {
  using molecule = std::vector<std::int32_t>;
  struct sides {
    std::vector<molecule> left, right;
  };
  struct known {
    albert_model model;
    repquant::program network;
    std::vector<sides> reactions;
    std::int32_t dot, arrow;
  };
  auto shared = std::make_shared<known>();
  shared->model = model;
  shared->network = network;
  shared->dot = vocabulary.numbers.find(".")->second;
  shared->arrow = vocabulary.numbers.find(">>")->second;
  for (const masked_reaction& r : reactions) {
    sides both;
    std::vector<molecule>* side = &both.left;
    side->emplace_back();
    for (std::size_t k = 1; k + 1 < r.ids.size(); ++k) {
      if (r.ids[k] == shared->arrow) {
        side = &both.right;
        side->emplace_back();
      } else if (r.ids[k] == shared->dot) {
        side->emplace_back();
      } else {
        side->back().push_back(r.ids[k]);
      }
    }
    shared->reactions.push_back(std::move(both));
  }
  return [shared](std::span<const index> among, repquant::splitmix64& random) {
    const auto reaction = [&]() -> const sides& {
      return shared->reactions[static_cast<std::size_t>(any(random, among))];
    };
    sides r = reaction();
    const auto shuffle = [&](std::vector<molecule>& m) {
      for (std::size_t k = m.size(); k > 1; --k)
        std::swap(m[k - 1], m[static_cast<std::size_t>(random.below(static_cast<index>(k)))]);
    };
    if (chance(random, 0.25F)) {
      const sides& other = reaction();
      const auto most = static_cast<index>(other.left.size());
      r.left.push_back(other.left[static_cast<std::size_t>(random.below(most))]);
    }
    if (chance(random, 0.5F)) {
      shuffle(r.left);
      shuffle(r.right);
    }
    std::vector<std::int32_t> ids{smiles_vocabulary::first};
    const auto append = [&](const std::vector<molecule>& m) {
      for (std::size_t k = 0; k < m.size(); ++k) {
        if (k > 0) ids.push_back(shared->dot);
        ids.insert(ids.end(), m[k].begin(), m[k].end());
      }
    };
    append(r.left);
    if (!r.right.empty()) ids.push_back(shared->arrow);
    append(r.right);
    const auto most = static_cast<std::size_t>(shared->model.positions.rows()) - 1;
    ids.resize(std::min(ids.size(), most));
    ids.push_back(smiles_vocabulary::last);
    const auto length = static_cast<index>(ids.size());
    const auto count = std::max<index>(1, std::lround(0.15 * static_cast<double>(length - 2)));
    if (chance(random, 0.5F)) rewrite_tokens(shared->model, shared->network, random, ids);
    model_sample s;
    s.rows = choose(random, 1, length - 1, count);
    for (const index p : s.rows) ids[static_cast<std::size_t>(p)] = smiles_vocabulary::mask;
    s.input = shared->model.embed(ids).value();
    return s;
  };
}

/// The model in `data_dir`/albert_smiles: measured on the 400 masked reactions of mlm_dev.tsv, calibrated on
/// the 100 of reactions_dev.txt that are not among them.
///
/// Errors  those of the functions above; empty: no reaction is left to calibrate on
inline repquant::result<model_case> load_albert(const std::string& data_dir) {
  const std::string folder = data_dir + "/albert_smiles";
  const auto weights = load_albert_weights(folder + "/weights.safetensors");
  if (!weights) return weights.error();
  auto network = repquant::record(*weights, 128);
  if (!network) return network.error();
  const auto measured = read_masked_reactions(folder + "/mlm_dev.tsv");
  if (!measured) return measured.error();
  const auto vocabulary = read_vocabulary(folder + "/vocab.txt");
  if (!vocabulary) return vocabulary.error();
  const auto text = read_text(folder + "/reactions_dev.txt");
  if (!text) return text.error();
  const std::vector<masked_reaction> spare = spare_reactions(*text, *vocabulary, *measured);
  if (spare.empty())
    return repquant::failure{repquant::errc::empty, "reactions_dev.txt: spare reactions", 0, 1};
  auto calibration = samples_of(*weights, spare);
  if (!calibration) return calibration.error();
  auto evaluation = samples_of(*weights, *measured);
  if (!evaluation) return evaluation.error();
  model_case m;
  m.name = "albert_smiles";
  m.network = std::move(*network);
  m.calibration = std::move(*calibration);
  m.evaluation = std::move(*evaluation);
  m.accuracy = "masked_accuracy";
  m.vary = reaction_variations(*weights, m.network, *vocabulary, spare);
  return m;
}

}  // namespace examples
