// SPDX-License-Identifier: MIT
/// Writes safetensors files.
#pragma once

#include <repquant/io/tensor.hpp>
#include <repquant/matrix/matrix.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace repquant {

/// A tensor that looks at a matrix or a column, for write_safetensors.
inline tensor tensor_of(std::string name, const matrix<>& m) {
  return {std::move(name),
          dtype::f32,
          {m.rows(), m.cols()},
          std::as_bytes(std::span(m.data(), static_cast<std::size_t>(m.size())))};
}
inline tensor tensor_of(std::string name, const column<>& c) {
  return {std::move(name),
          dtype::f32,
          {c.size()},
          std::as_bytes(std::span(c.data(), static_cast<std::size_t>(c.size())))};
}

/// The bytes of a safetensors file: widest number formats first, then by name; the header is padded with
/// spaces so that the data starts at a multiple of 64.
///
/// Errors    bad_format: a name that is empty, not UTF-8, "__metadata__" or there twice; shape_mismatch:
///           bytes that do not fit dtype and shape
/// Example   auto bytes = rq::write_safetensors(std::vector{rq::tensor_of("w", w)});
///           if (rq::failure f = rq::write_file("w.safetensors", *bytes)) ...
inline result<std::vector<std::byte>> write_safetensors(
    std::span<const tensor> tensors, const std::map<std::string, std::string>& metadata = {}) {
  std::vector<const tensor*> order;
  for (const tensor& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const tensor* a, const tensor* b) {
    return a->type != b->type ? a->type > b->type : a->name < b->name;
  });

  // JSON replaces what is not UTF-8; text that comes back changed was not
  const auto quoted = [](const std::string& text) -> result<std::string> {
    std::string q = nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
    const nlohmann::json back = nlohmann::json::parse(q, nullptr, false);
    const auto* const same = back.get_ptr<const std::string*>();
    if (same == nullptr || *same != text) return failure{errc::bad_format, "text is not UTF-8"};
    return q;
  };

  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      const result<std::string> k = quoted(key);
      const result<std::string> v = quoted(value);
      if (!k || !v) return failure{errc::bad_format, "__metadata__: text is not UTF-8"};
      header += (header.back() == '{' ? "" : ",") + *k + ":" + *v;
    }
    header += "}";
  }
  std::set<std::string_view> names;
  std::size_t end = 0;
  for (const tensor* t : order) {
    if (t->name.empty() || t->name == "__metadata__")
      return failure{errc::bad_format, "tensor name: " + t->name};
    if (!names.insert(t->name).second) return failure{errc::bad_format, t->name + ": name twice", 2, 1};
    const std::int64_t needed = byte_size(t->type, t->shape);
    const auto bytes = static_cast<std::int64_t>(t->bytes.size());
    if (bytes != needed) return failure{errc::shape_mismatch, t->name + ": bytes", bytes, needed};
    const result<std::string> name = quoted(t->name);
    if (!name) return name.error();
    header +=
        (header.size() == 1 ? "" : ",") + *name + ":{\"dtype\":\"" + name_of(t->type) + "\",\"shape\":[";
    for (std::size_t d = 0; d < t->shape.size(); ++d) {
      header += (d == 0 ? "" : ",") + std::to_string(t->shape[d]);
    }
    header +=
        "],\"data_offsets\":[" + std::to_string(end) + "," + std::to_string(end + t->bytes.size()) + "]}";
    end += t->bytes.size();
  }
  header += "}";
  header.resize((8 + header.size() + 63) / 64 * 64 - 8, ' ');

  std::vector<std::byte> out(8 + header.size() + end);
  const std::uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  std::byte* at = out.data() + 8 + header.size();
  for (const tensor* t : order) at = std::copy(t->bytes.begin(), t->bytes.end(), at);
  return out;
}

}  // namespace repquant
