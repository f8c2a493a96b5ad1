// SPDX-License-Identifier: MIT
/// Reads safetensors files: named tensors, checked before anything is handed out.
///
/// Length: the checks of the header are the file; the writer has its own (write_safetensors.hpp).
#pragma once

#include <repquant/io/file.hpp>
#include <repquant/io/tensor.hpp>
#include <repquant/matrix/matrix.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <set>

namespace repquant {

/// Stands for "whatever the file has" where a size is asked for.
inline constexpr index any_size = -1;

/// The tensors of one safetensors file, sorted by name.
///
///   layout   u64 little-endian N; N bytes of JSON {"name": {"dtype", "shape", "data_offsets"}, ...}; data
///
/// Every byte of the data belongs to exactly one tensor; names are unique; sizes agree with dtype and
/// shape; N <= 100,000,000. Data need not be aligned.
///
/// Source    https://github.com/huggingface/safetensors, "Format"
/// Example   auto file = rq::safetensors::open("vit.safetensors");
///           auto w = file->matrix("head.weight", 10, 64);
class safetensors {
 public:
  /// The largest header that the format allows.
  static constexpr std::uint64_t largest_header = 100'000'000;

  safetensors(safetensors&&) noexcept = default;
  safetensors& operator=(safetensors&&) noexcept = default;
  safetensors(const safetensors&) = delete;  // tensors point into storage_
  safetensors& operator=(const safetensors&) = delete;
  ~safetensors() = default;

  /// Reads a file.
  ///
  /// Errors  io: it cannot be read (got = errno); those of parse
  static result<safetensors> open(const std::string& path) {
    result<std::vector<std::byte>> bytes = read_file(path);
    if (!bytes) return bytes.error();
    result<safetensors> file = parse(*bytes, detail::file_name(path, 40));
    if (file) file->storage_ = std::move(*bytes);  // moving a vector leaves its bytes where they are
    return file;
  }

  /// Looks at bytes in memory, which must outlive the result. `place` names them in failures.
  ///
  /// Errors  bad_format: too short, not a header, not JSON, an entry without its three fields, a name or a
  ///         field twice, data_offsets that leave a hole, overlap or pass the end; shape_mismatch: bytes
  ///         that do not fit dtype and shape; too_large: a header above 100,000,000 bytes
  /// Cost    one pass over the header
  static result<safetensors> parse(std::span<const std::byte> bytes, std::string_view place = "safetensors") {
    safetensors file;
    file.place_ = place;
    if (failure f = file.read_header(bytes)) return f.within(place);
    return file;
  }

  /// All tensors, sorted by name.
  [[nodiscard]] std::span<const tensor> tensors() const noexcept { return tensors_; }
  /// The text of `__metadata__`.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  /// How failures name this file.
  [[nodiscard]] const std::string& place() const noexcept { return place_; }

  /// The tensor of that name, or nullptr.
  [[nodiscard]] const tensor* find(std::string_view name) const noexcept {
    const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                     [](const tensor& t, std::string_view n) { return t.name < n; });
    return at != tensors_.end() && at->name == name ? &*at : nullptr;
  }

  /// A tensor of two dimensions as floats (F32, F16, BF16; F64 is rounded). NaN and infinities are
  /// passed on: check(linear) and the calibrators refuse them.
  ///
  /// Errors  empty: no such tensor; shape_mismatch: not two dimensions, or other sizes; bad_format: not
  ///         floats
  [[nodiscard]] result<repquant::matrix<>> matrix(std::string_view name, index rows = any_size,
                                                  index cols = any_size) const {
    const std::array<index, 2> want{rows, cols};
    const result<const tensor*> t = checked(name, want);
    if (!t) return t.error();
    repquant::matrix<> m((*t)->shape[0], (*t)->shape[1]);
    if (failure f = copy_floats(**t, {m.data(), static_cast<std::size_t>(m.size())})) {
      return f.within(name).within(place_);
    }
    return m;
  }

  /// A tensor of one dimension as floats. Errors as matrix().
  [[nodiscard]] result<repquant::column<>> column(std::string_view name, index size = any_size) const {
    const std::array<index, 1> want{size};
    const result<const tensor*> t = checked(name, want);
    if (!t) return t.error();
    repquant::column<> c((*t)->shape[0]);
    if (failure f = copy_floats(**t, {c.data(), static_cast<std::size_t>(c.size())})) {
      return f.within(name).within(place_);
    }
    return c;
  }

  /// A tensor of any dimensions as floats, last dimension fastest. Errors as matrix(). Its shape is
  /// find(name)->shape.
  [[nodiscard]] result<std::vector<float>> floats(std::string_view name) const {
    const tensor* t = find(name);
    if (t == nullptr) return missing(name);
    std::vector<float> values(static_cast<std::size_t>(t->size()));
    if (failure f = copy_floats(*t, values)) return f.within(name).within(place_);
    return values;
  }

  /// An integer tensor of any dimensions; `size` counts all its numbers.
  ///
  /// Errors  empty: no such tensor; shape_mismatch: another count; bad_format: not integers; too_large: a
  ///         number that an int32 cannot hold
  [[nodiscard]] result<std::vector<std::int32_t>> ints(std::string_view name, index size = any_size) const {
    const tensor* t = find(name);
    if (t == nullptr) return missing(name);
    if (size != any_size && t->size() != size) {
      return failure{errc::shape_mismatch, "size", t->size(), size}.within(name).within(place_);
    }
    std::vector<std::int32_t> values(static_cast<std::size_t>(t->size()));
    if (failure f = copy_ints(*t, values)) return f.within(name).within(place_);
    return values;
  }

 private:
  safetensors() = default;

  [[nodiscard]] failure missing(std::string_view name) const {
    return failure{errc::empty, name, 0, 1}.within(place_);
  }

  [[nodiscard]] result<const tensor*> checked(std::string_view name, std::span<const index> want) const {
    const tensor* t = find(name);
    if (t == nullptr) return missing(name);
    const auto rank = static_cast<index>(want.size());
    if (t->rank() != rank) {
      return failure{errc::shape_mismatch, "dimensions", t->rank(), rank}.within(name).within(place_);
    }
    for (std::size_t d = 0; d < want.size(); ++d) {
      if (want[d] == any_size || t->shape[d] == want[d]) continue;
      const char* side = rank == 1 ? "size" : d == 0 ? "rows" : "columns";
      return failure{errc::shape_mismatch, side, t->shape[d], want[d]}.within(name).within(place_);
    }
    return t;
  }

  /// An entry's "shape" or "data_offsets": counts, or nothing where one is not.
  static bool read_counts(const nlohmann::json& list, std::vector<index>& out) {
    if (!list.is_array()) return false;
    for (const nlohmann::json& item : list) {
      const auto* count = item.get_ptr<const nlohmann::json::number_unsigned_t*>();
      if (count == nullptr || *count > static_cast<std::uint64_t>(std::numeric_limits<index>::max()))
        return false;
      out.push_back(static_cast<index>(*count));
    }
    return true;
  }

  failure read_entry(const std::string& name, const nlohmann::json& entry, std::span<const std::byte> data,
                     std::vector<std::array<index, 3>>& extents) {
    const auto field = [&](const char* key) {
      const auto at = entry.is_object() ? entry.find(key) : entry.end();
      return at == entry.end() ? nullptr : &*at;
    };
    const nlohmann::json* type = field("dtype");
    const nlohmann::json* dims = field("shape");
    const nlohmann::json* place = field("data_offsets");
    tensor t;
    t.name = name;
    std::vector<index> offsets;
    if (type == nullptr || !type->is_string()) return {errc::bad_format, "dtype"};
    if (dims == nullptr || !read_counts(*dims, t.shape)) return {errc::bad_format, "shape"};
    if (place == nullptr || !read_counts(*place, offsets)) return {errc::bad_format, "data_offsets"};
    const auto& spelled = *type->get_ptr<const std::string*>();
    const auto* const facts = std::find_if(std::begin(dtype_table), std::end(dtype_table),
                                           [&](const dtype_facts& d) { return spelled == d.name; });
    if (facts == std::end(dtype_table)) return {errc::bad_format, "dtype " + spelled};
    t.type = static_cast<dtype>(facts - std::begin(dtype_table));
    if (offsets.size() != 2) {
      return {errc::bad_format, "data_offsets: entries", static_cast<index>(offsets.size()), 2};
    }
    const auto end_of_data = static_cast<index>(data.size());
    if (offsets[1] > end_of_data) return {errc::bad_format, "data_offsets: end", offsets[1], end_of_data};
    if (offsets[0] > offsets[1]) return {errc::bad_format, "data_offsets: begin", offsets[0], offsets[1]};
    const index bytes = offsets[1] - offsets[0];
    const std::int64_t needed = byte_size(t.type, t.shape);
    if (bytes != needed) return {errc::shape_mismatch, "bytes", bytes, needed};
    t.bytes = data.subspan(static_cast<std::size_t>(offsets[0]), static_cast<std::size_t>(bytes));
    extents.push_back({offsets[0], offsets[1], static_cast<index>(tensors_.size())});
    tensors_.push_back(std::move(t));
    return {};
  }

  /// Nothing, or the first place where the tensors leave a hole, overlap or end before the data does.
  failure check_tiling(std::vector<std::array<index, 3>>& extents, index end_of_data) const {
    std::sort(extents.begin(), extents.end());
    index end = 0;
    for (const auto& [begin, next, which] : extents) {
      if (begin != end) {
        return failure{errc::bad_format, "data_offsets: begin", begin, end}.within(
            tensors_[static_cast<std::size_t>(which)].name);
      }
      end = next;
    }
    return end == end_of_data ? failure{} : failure{errc::bad_format, "bytes of tensors", end, end_of_data};
  }

  failure read_header(std::span<const std::byte> bytes) {
    const auto file_size = static_cast<std::int64_t>(bytes.size());
    if (bytes.size() < 10) return {errc::bad_format, "file size", file_size, 10};
    const auto length = detail::number_at<std::uint64_t>(bytes, 0);
    const auto shown = static_cast<std::int64_t>(std::min<std::uint64_t>(length, 0x7FFFFFFFFFFFFFFF));
    if (length > bytes.size() - 8) return {errc::bad_format, "header length", shown, file_size - 8};
    if (length > largest_header) {
      return {errc::too_large, "header length", shown, static_cast<std::int64_t>(largest_header)};
    }
    const auto header = bytes.subspan(8, static_cast<std::size_t>(length));
    const auto data = bytes.subspan(8 + static_cast<std::size_t>(length));
    const std::int64_t first = header.empty() ? -1 : static_cast<std::int64_t>(header[0]);
    if (first != '{') return {errc::bad_format, "header: first byte", first, '{'};

    // A JSON object keeps the last of two equal keys, so they are watched while it is read.
    std::array<std::set<std::string>, 3> seen;  // [1] names, [2] fields of the entry being read
    std::string twice;
    const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
      const auto level = static_cast<std::size_t>(depth);
      if (event == nlohmann::json::parse_event_t::object_start && level + 1 < seen.size()) {
        seen[level + 1].clear();
      } else if (event == nlohmann::json::parse_event_t::key && level < seen.size()) {
        const auto& key = *value.get_ptr<const std::string*>();
        if (!seen[level].insert(key).second) twice = key;
      }
      return true;
    };
    const auto* const text = reinterpret_cast<const char*>(header.data());
    const nlohmann::json root = nlohmann::json::parse(text, text + header.size(), watch, false);
    if (!root.is_object()) return {errc::bad_format, "header: JSON"};
    if (!twice.empty()) return {errc::bad_format, "header: twice: " + twice, 2, 1};

    std::vector<std::array<index, 3>> extents;  // begin, end, position in tensors_
    for (auto at = root.begin(); at != root.end(); ++at) {
      if (at.key() == "__metadata__") {
        if (!at->is_object()) return {errc::bad_format, "__metadata__"};
        for (auto item = at->begin(); item != at->end(); ++item) {
          const auto* const value = item->get_ptr<const std::string*>();
          if (value == nullptr) return {errc::bad_format, "__metadata__: " + item.key()};
          metadata_[item.key()] = *value;
        }
      } else if (failure f = read_entry(at.key(), at.value(), data, extents)) {
        return f.within(at.key());
      }
    }
    return check_tiling(extents, static_cast<index>(data.size()));
  }

  std::vector<std::byte> storage_;
  std::vector<tensor> tensors_;  // in the order of JSON's object, which sorts by name
  std::map<std::string, std::string> metadata_;
  std::string place_;
};

}  // namespace repquant
