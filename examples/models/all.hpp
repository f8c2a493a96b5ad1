// SPDX-License-Identifier: MIT
/// All trained models by name.
#pragma once

#include "models/albert.hpp"
#include "models/clip.hpp"
#include "models/fashion_mnist.hpp"
#include "models/gpt_char4k.hpp"
#include "models/kwt1.hpp"
#include "models/stories260k.hpp"
#include "models/vit_mnist.hpp"

namespace examples {

/// The names of the models: those of their folders, and the unbalanced form of one.
inline std::vector<std::string> model_names() {
  return {"vit_mnist",   "fashion_mnist", "fashion_mnist_unbalanced", "kwt1_audio", "albert_smiles",
          "stories260k", "gpt_char4k",    "clip_tiny_multimodal"};
}

/// The model of that name, from its folder in `data_dir`.
///
/// Errors  bad_option: no such name; those of its loader
inline repquant::result<model_case> load_model(std::string_view name, const std::string& data_dir) {
  if (name == "vit_mnist") return load_vit_mnist(data_dir);
  if (name == "fashion_mnist") return load_fashion_vit(data_dir);
  if (name == "fashion_mnist_unbalanced") return load_fashion_vit(data_dir, true);
  if (name == "kwt1_audio") return load_kwt1(data_dir);
  if (name == "albert_smiles") return load_albert(data_dir);
  if (name == "stories260k") return load_stories260k(data_dir);
  if (name == "gpt_char4k") return load_gpt_char4k(data_dir);
  if (name == "clip_tiny_multimodal") return load_clip(data_dir);
  return repquant::failure{repquant::errc::bad_option, "no model named " + std::string(name)};
}

}  // namespace examples
