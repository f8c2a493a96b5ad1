// SPDX-License-Identifier: MIT
/// IDX files, the format of MNIST and its successors: raw, or compressed where zlib is built in.
///
///   images   00 00 08 03, count, rows, cols (big-endian 32 bit), then count*rows*cols bytes
///   labels   00 00 08 01, count, then count bytes
#pragma once

#include <repquant/core/shape.hpp>
#include <repquant/io/file.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#if defined(REPQUANT_EXAMPLES_ZLIB)
#include <zlib.h>
#endif

namespace examples {

using repquant::errc;
using repquant::failure;
using repquant::index;
using repquant::result;

/// No limit to how many images or labels are read.
inline constexpr index all_of_them = std::numeric_limits<index>::max();

/// Grey images, one byte a pixel, row by row.
struct idx_images {
  index count = 0;
  index rows = 0;
  index cols = 0;
  std::vector<std::uint8_t> pixels;

  [[nodiscard]] std::span<const std::uint8_t> image(index i) const noexcept {
    const auto size = static_cast<std::size_t>(rows * cols);
    return std::span(pixels).subspan(static_cast<std::size_t>(i) * size, size);
  }
};

namespace detail {

/// Up to `limit` bytes of what a gzip file holds.
inline result<std::vector<std::byte>> gunzip(std::span<const std::byte> bytes, std::size_t limit,
                                             const std::string& place) {
#if defined(REPQUANT_EXAMPLES_ZLIB)
  z_stream stream{};
  if (::inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) return failure{errc::bad_format, place + ": zlib"};
  // zlib's interface takes what it only reads as non-const, and counts in 32 bits: a piece at a time
  std::vector<std::byte> out;
  std::array<std::byte, 1U << 16U> piece;
  std::size_t fed = 0;
  int state = Z_OK;
  while (state == Z_OK && out.size() < limit) {
    if (stream.avail_in == 0) {
      const std::size_t n = std::min<std::size_t>(bytes.size() - fed, 1U << 20U);
      stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data() + fed));  // NOLINT
      stream.avail_in = static_cast<uInt>(n);
      fed += n;
    }
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    state = ::inflate(&stream, Z_NO_FLUSH);
    const std::size_t made = std::min(piece.size() - stream.avail_out, limit - out.size());
    out.insert(out.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(made));
  }
  static_cast<void>(::inflateEnd(&stream));
  if (out.size() == limit || state == Z_STREAM_END) return out;
  // Z_BUF_ERROR: it wants more than there is
  if (state == Z_BUF_ERROR) return failure{errc::io, place + ": compressed file ends too early"};
  return failure{errc::io, place + ": compressed data is damaged"};
#else
  static_cast<void>(bytes);
  static_cast<void>(limit);
  return failure{errc::io, place + ": compressed, and built without zlib: use gunzip, or install zlib"};
#endif
}

/// Header and data of an IDX file with `Dimensions` dimensions, at most `limit` entries of the first.
template<std::size_t Dimensions>
struct idx_file {
  std::array<index, Dimensions> sizes{};
  std::vector<std::uint8_t> data;

  static result<idx_file> parse(std::span<const std::byte> raw, index limit, const std::string& place) {
    constexpr std::size_t header = 4 + 4 * Dimensions;
    const bool packed = raw.size() > 2 && raw[0] == std::byte{0x1F} && raw[1] == std::byte{0x8B};
    std::vector<std::byte> unpacked;
    if (packed) {
      result<std::vector<std::byte>> start = gunzip(raw, header, place);
      if (!start) return start.error();
      unpacked = std::move(*start);
    }
    std::span<const std::byte> bytes = packed ? std::span<const std::byte>(unpacked) : raw;
    const auto big_endian = [&](std::size_t at) {
      index v = 0;
      for (std::size_t i = at; i < at + 4; ++i) v = v << 8U | std::to_integer<index>(bytes[i]);
      return v;
    };
    if (bytes.size() < header) {
      return failure{errc::bad_format, place + ": bytes", static_cast<index>(bytes.size()), header};
    }
    constexpr index magic = 0x800 + static_cast<index>(Dimensions);
    if (big_endian(0) != magic)
      return failure{errc::bad_format, place + ": magic number", big_endian(0), magic};
    idx_file file;
    index entry = 1;
    for (std::size_t d = 0; d < Dimensions; ++d) {
      file.sizes[d] = big_endian(4 + 4 * d);
      if (d == 0) continue;
      if (file.sizes[d] > 65535)
        return failure{errc::too_large, place + ": image side", file.sizes[d], 65535};
      entry *= file.sizes[d];
    }
    const index count = std::min(file.sizes[0], limit);
    constexpr index most = index{1} << 40U;  // before any product of three 32-bit numbers is made
    if (entry > 0 && count > most / entry) {
      return failure{errc::too_large, place + ": images of this size", count, most / entry};
    }
    const index needed = static_cast<index>(header) + count * entry;
    const bool whole = count == file.sizes[0];
    if (packed) {  // one byte more where the file must end there
      result<std::vector<std::byte>> all =
          gunzip(raw, static_cast<std::size_t>(needed) + (whole ? 1 : 0), place);
      if (!all) return all.error();
      unpacked = std::move(*all);
      bytes = unpacked;
    }
    const auto size = static_cast<index>(bytes.size());
    if (size < needed || (whole && size > needed)) {
      return failure{errc::bad_format, place + ": bytes", size, needed};
    }
    file.sizes[0] = count;
    file.data.resize(static_cast<std::size_t>(count * entry));
    if (!file.data.empty()) std::memcpy(file.data.data(), bytes.data() + header, file.data.size());
    return file;
  }
};

}  // namespace detail

/// Images from the bytes of a file; at most `limit`, the first ones.
///
/// Errors  bad_format: another magic number, fewer or more bytes than the header promises; too_large: sides
///         or counts that no data set has; io: damaged compression, or compressed and built without zlib
inline result<idx_images> parse_idx_images(std::span<const std::byte> bytes, const std::string& place,
                                           index limit = all_of_them) {
  result<detail::idx_file<3>> file = detail::idx_file<3>::parse(bytes, limit, place);
  if (!file) return file.error();
  return idx_images{file->sizes[0], file->sizes[1], file->sizes[2], std::move(file->data)};
}
/// Labels from the bytes of a file. Errors as above.
inline result<std::vector<std::uint8_t>> parse_idx_labels(std::span<const std::byte> bytes,
                                                          const std::string& place,
                                                          index limit = all_of_them) {
  result<detail::idx_file<1>> file = detail::idx_file<1>::parse(bytes, limit, place);
  if (!file) return file.error();
  return std::move(file->data);
}
/// Images from a file. Errors  io: it cannot be read; and as above
inline result<idx_images> read_idx_images(const std::string& path, index limit = all_of_them) {
  const result<std::vector<std::byte>> bytes = repquant::read_file(path);
  if (!bytes) return bytes.error();
  return parse_idx_images(*bytes, repquant::detail::file_name(path, 40), limit);
}
/// Labels from a file. Errors as above.
inline result<std::vector<std::uint8_t>> read_idx_labels(const std::string& path, index limit = all_of_them) {
  const result<std::vector<std::byte>> bytes = repquant::read_file(path);
  if (!bytes) return bytes.error();
  return parse_idx_labels(*bytes, repquant::detail::file_name(path, 40), limit);
}

}  // namespace examples
