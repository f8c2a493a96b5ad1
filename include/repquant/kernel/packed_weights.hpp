// SPDX-License-Identifier: MIT
/// Packed weights as an object in the caller's bytes: a header that says for which instruction set and kernel
/// they are, the corrections that make their sums those of zero points, the panels. It can be stored; one
/// that is damaged or made for something else is refused.
///
///   rq::weight_codes w{{codes, in}, in, out, 8, 8, x_zero, w_zero};
///   const rq::packing_plan plan = rq::plan_packing(set, w);
///   rq::pack_weights(plan, w, bytes);                              // plan.bytes() of them
///   rq::gemm_weights packed;
///   if (rq::failure f = rq::open_weights(bytes, set, in, out, packed)) ...
///   rq::gemm<set>(packed, x, rows, in, 0, packed.layout.panels(), scratch, epilogue);
///
/// Length: what is written and what is read stand side by side.
#pragma once

#include <repquant/core/checksum.hpp>
#include <repquant/core/failure.hpp>
#include <repquant/kernel/gemm.hpp>
#include <repquant/kernel/pack_panels.hpp>

#include <bit>
#include <limits>

namespace repquant {

static_assert(std::endian::native == std::endian::little, "repquant: packed weights are read in place");

/// What is packed: codes of weights, and the zero points that both operands of the product have.
struct weight_codes {
  code_matrix codes;
  index k = 0;  ///< places that are summed over
  index n = 0;  ///< outputs
  int x_bits = 8;
  int w_bits = 8;
  std::int32_t x_zero = 0;
  std::span<const std::int32_t> w_zero;  ///< [n], with groups [n x groups]
  index group = 0;  ///< places that share a zero point and a scale, a multiple of 8; 0: none
  std::span<const float> scale = {};  ///< with groups: [n x groups]

  [[nodiscard]] constexpr index groups() const noexcept { return group == 0 ? 1 : (k + group - 1) / group; }
};

/// The first bytes of packed weights.
struct packed_header {
  static constexpr std::uint32_t expected_magic = 0x57505152;  // "RQPW"
  static constexpr std::uint32_t current_version = 1;
  std::uint32_t magic = expected_magic;
  std::uint32_t version = current_version;
  std::uint64_t total_bytes = 0;
  std::uint64_t checksum = 0;
  std::int64_t k = 0;
  std::int64_t n = 0;
  std::int32_t products = 0;
  std::int32_t shift = 0;
  std::uint8_t set = 0;
  std::uint8_t storage = 0;
  std::uint8_t x_bits = 0;
  std::uint8_t wide = 0;       ///< 1: corrections and sums are int64
  std::uint8_t has_slope = 0;  ///< 0: every slope is common_slope
  std::uint8_t reserved[3] = {};
  std::int32_t common_slope = 0;
  std::int32_t group = 0;
};
static_assert(sizeof(packed_header) == 64);

/// How weights will be packed.
struct packing_plan {
  panel_layout layout;
  int x_bits = 8;
  bool wide = false;
  bool has_slope = false;
  std::int32_t common_slope = 0;

  /// Bytes of one array of corrections or scales; a multiple of 64.
  [[nodiscard]] constexpr std::size_t correction_bytes() const noexcept {
    const std::size_t bytes = static_cast<std::size_t>(layout.padded_n() * layout.groups()) * (wide ? 8 : 4);
    return (bytes + 63) / 64 * 64;
  }
  [[nodiscard]] constexpr std::size_t slope_offset() const noexcept {
    return sizeof(packed_header) + correction_bytes();
  }
  [[nodiscard]] constexpr std::size_t scale_offset() const noexcept {
    return slope_offset() + (has_slope ? correction_bytes() : 0);
  }
  [[nodiscard]] constexpr std::size_t panel_offset() const noexcept {
    return scale_offset() + (layout.group > 0 ? correction_bytes() : 0);
  }
  /// Bytes that pack_weights writes.
  [[nodiscard]] constexpr std::size_t bytes() const noexcept {
    return panel_offset() + static_cast<std::size_t>(layout.bytes());
  }
};

namespace detail {

/// True where every final sum, or every sum of a group, fits an int32: the sum of |w - z| of each output
/// times the largest |x - x_zero|.
inline bool sums_fit(const weight_codes& w) noexcept {
  const std::int64_t low = w.x_zero;
  const std::int64_t high = (1 << w.x_bits) - 1 - low;
  const std::int64_t max_x = std::max(low < 0 ? -low : low, high < 0 ? -high : high);
  const std::int64_t most = max_x == 0 ? std::numeric_limits<std::int64_t>::max() : 0x7FFFFFFF / max_x;
  const index places = w.group == 0 ? w.k : w.group;
  for (index j = 0; j < w.n; ++j) {
    for (index g = 0; g < w.groups(); ++g) {
      const std::int64_t zero = w.w_zero[static_cast<std::size_t>(j * w.groups() + g)];
      std::int64_t sum = 0;
      for (index k = g * places; k < std::min(w.k, (g + 1) * places) && sum <= most; ++k) {
        const std::int64_t v = std::int64_t{w.codes.at(j, k)} - zero;
        sum += v < 0 ? -v : v;
      }
      if (sum > most) return false;
    }
  }
  return true;
}

/// Calls write(position, output, group) for every correction in the order of the panels; outputs that fill
/// the last panel are -1.
template<class Write>
inline void for_corrections(const panel_layout& l, Write&& write) noexcept {
  index at = 0;
  for (index panel = 0; panel < l.panels(); ++panel) {
    for (index g = 0; g < l.groups(); ++g) {
      for (index i = 0; i < l.width(); ++i, ++at) {
        const index j = panel * l.width() + i;
        write(at, j < l.n ? j : -1, g);
      }
    }
  }
}

/// slope = shift - z and offset = -x_zero sum_k (w[j][k] - z) over the places of a group, modulo the range of
/// T.
template<class T>
inline void write_corrections(const weight_codes& w, const panel_layout& l, T* slope, T* offset) noexcept {
  const index places = w.group == 0 ? w.k : w.group;
  for_corrections(l, [&](index at, index j, index g) {
    std::uint64_t sum = 0;
    std::uint64_t difference = 0;
    if (j >= 0) {
      const std::int64_t zero = w.w_zero[static_cast<std::size_t>(j * l.groups() + g)];
      difference = static_cast<std::uint64_t>(l.shift - zero);
      for (index k = g * places; k < std::min(w.k, (g + 1) * places); ++k) {
        sum += static_cast<std::uint64_t>(w.codes.at(j, k) - zero);
      }
    }
    if (slope != nullptr) slope[at] = static_cast<T>(difference);
    offset[at] = static_cast<T>(0 - static_cast<std::uint64_t>(std::int64_t{w.x_zero}) * sum);
  });
}

}  // namespace detail

/// Chooses how to pack: layout_of_weights, and int64 sums where zero points ask for them.
///
/// Requires  w.codes below 2^w_bits, w_zero [n]; 2 <= bits <= 8; int64 holds k max|x - x_zero| max|w - z|.
///           Groups: w_zero and scale [n x groups], group a multiple of 8, every group's sum fits an int32
/// Cost      a few passes over the weights
inline packing_plan plan_packing(instruction_set set, const weight_codes& w,
                                 packing_goal goal = packing_goal::speed) noexcept {
  packing_plan p;
  p.layout = layout_of_weights(set, w.codes, w.k, w.n, w.x_bits, w.w_bits, goal, w.group);
  p.x_bits = w.x_bits;
  p.wide = w.group == 0 && !detail::sums_fit(w);
  p.has_slope = p.wide;
  for (std::int32_t z : w.w_zero) p.has_slope = p.has_slope || z != w.w_zero[0];
  if (!p.has_slope) {
    p.common_slope = static_cast<std::int32_t>(static_cast<std::uint32_t>(p.layout.shift) -
                                               static_cast<std::uint32_t>(w.w_zero[0]));
  }
  return p;
}

/// Writes header, corrections and panels.
///
/// Shapes    out [plan.bytes()], aligned to 64 for speed, to 8 for correctness
/// Requires  plan is plan_packing of the same w
inline void pack_weights(const packing_plan& plan, const weight_codes& w, std::span<std::byte> out) noexcept {
  REPQUANT_ASSERT(out.size() >= plan.bytes() && reinterpret_cast<std::uintptr_t>(out.data()) % 8 == 0);
  const panel_layout& l = plan.layout;
  std::byte* first = out.data() + sizeof(packed_header);
  std::byte* second = plan.has_slope ? out.data() + plan.slope_offset() : nullptr;
  std::fill(first, out.data() + plan.panel_offset(), std::byte{0});
  if (plan.wide) {
    detail::write_corrections(w, l, reinterpret_cast<std::int64_t*>(second),
                              reinterpret_cast<std::int64_t*>(first));
  } else {
    detail::write_corrections(w, l, reinterpret_cast<std::int32_t*>(second),
                              reinterpret_cast<std::int32_t*>(first));
  }
  if (l.group > 0) {
    auto* scale = reinterpret_cast<float*>(out.data() + plan.scale_offset());
    detail::for_corrections(l, [&](index at, index j, index g) {
      scale[at] = j < 0 ? 0.0F : w.scale[static_cast<std::size_t>(j * l.groups() + g)];
    });
  }
  pack_panels(l, w.codes, out.data() + plan.panel_offset());
  packed_header h;
  h.total_bytes = plan.bytes();
  h.k = l.k;
  h.n = l.n;
  h.products = l.products;
  h.shift = l.shift;
  h.set = static_cast<std::uint8_t>(l.set);
  h.storage = static_cast<std::uint8_t>(l.storage);
  h.x_bits = static_cast<std::uint8_t>(plan.x_bits);
  h.wide = plan.wide ? 1 : 0;
  h.has_slope = plan.has_slope ? 1 : 0;
  h.common_slope = plan.common_slope;
  h.group = static_cast<std::int32_t>(l.group);
  h.checksum = checksum(h, out.first(plan.bytes()).subspan(sizeof h));
  std::memcpy(out.data(), &h, sizeof h);
}

/// Packed weights that open_weights has accepted before: reads the header and nothing else.
inline gemm_weights view_weights(std::span<const std::byte> bytes) noexcept {
  packed_header h;
  std::memcpy(&h, bytes.data(), sizeof h);
  packing_plan p;
  p.layout = {static_cast<instruction_set>(h.set),
              static_cast<panel_storage>(h.storage),
              h.products,
              h.shift,
              static_cast<index>(h.k),
              static_cast<index>(h.n),
              static_cast<index>(h.group)};
  p.wide = h.wide != 0;
  p.has_slope = h.has_slope != 0;
  gemm_weights w;
  w.layout = p.layout;
  w.panels = bytes.data() + p.panel_offset();
  const std::byte* first = bytes.data() + sizeof h;
  const std::byte* second = p.has_slope ? bytes.data() + p.slope_offset() : nullptr;
  w.common_slope = h.common_slope;
  if (h.group > 0) w.scale = reinterpret_cast<const float*>(bytes.data() + p.scale_offset());
  if (p.wide) {
    w.wide_offset = reinterpret_cast<const std::int64_t*>(first);
    w.wide_slope = reinterpret_cast<const std::int64_t*>(second);
  } else {
    w.offset = reinterpret_cast<const std::int32_t*>(first);
    w.slope = reinterpret_cast<const std::int32_t*>(second);
  }
  return w;
}

/// Looks at packed weights: nothing, and `out` filled, or why they are refused.
///
/// Errors  shape_mismatch (too few bytes, other sizes), bad_format (alignment, not packed weights, another
///         version or instruction set, parts that no version writes), bad_bits (packed for other
///         activations), group_mismatch (groups of another size), bad_checksum
/// Cost    one pass over the bytes
[[nodiscard]] inline failure open_weights(std::span<const std::byte> bytes, instruction_set set, index k,
                                          index n, int x_bits, gemm_weights& out, index group = 0) noexcept {
  const auto number = [](auto v) { return static_cast<std::int64_t>(v); };
  packed_header h;
  if (bytes.size() < sizeof h) {
    return {errc::shape_mismatch, "packed weights: bytes", number(bytes.size()), number(sizeof h)};
  }
  const auto past = reinterpret_cast<std::uintptr_t>(bytes.data()) % 8;
  if (past != 0) return {errc::bad_format, "packed weights: alignment", number(past), 0};
  std::memcpy(&h, bytes.data(), sizeof h);
  if (h.magic != h.expected_magic) {
    return {errc::bad_format, "packed weights: magic", number(h.magic), number(h.expected_magic)};
  }
  if (h.version != h.current_version) {
    return {errc::bad_format, "packed weights: version", number(h.version), number(h.current_version)};
  }
  if (h.set != static_cast<std::uint8_t>(set)) {
    return {errc::bad_format, "packed weights: instruction set", number(h.set), number(set)};
  }
  if (h.k != k) return {errc::shape_mismatch, "packed weights: places", h.k, k};
  if (h.n != n) return {errc::shape_mismatch, "packed weights: outputs", h.n, n};
  if (h.x_bits != x_bits) return {errc::bad_bits, "packed weights: activations", h.x_bits, x_bits};
  if (h.storage > 2 || (h.storage != 0 && !multiplies_bytes(set))) {
    return {errc::bad_format, "packed weights: storage", h.storage, 0};
  }
  if (h.products < 0 || h.products > 1024)
    return {errc::bad_format, "packed weights: products", h.products, 1024};
  if (h.wide != 0 && h.has_slope == 0) {
    return {errc::bad_format, "packed weights: slopes of wide sums", h.has_slope, 1};
  }
  if (h.wide != 0 && h.group != 0)
    return {errc::bad_format, "packed weights: group of wide sums", h.group, 0};
  if (h.group != group) return {errc::group_mismatch, "packed weights: group", h.group, group};
  packing_plan p;
  p.layout = {set, static_cast<panel_storage>(h.storage), h.products, h.shift, k, n, group};
  p.wide = h.wide != 0;
  p.has_slope = h.has_slope != 0;
  if (h.total_bytes != p.bytes()) {
    return {errc::bad_format, "packed weights: bytes", number(h.total_bytes), number(p.bytes())};
  }
  if (bytes.size() < p.bytes()) {
    return {errc::shape_mismatch, "packed weights: bytes", number(bytes.size()), number(p.bytes())};
  }
  const std::uint64_t found = checksum(h, bytes.first(p.bytes()).subspan(sizeof h));
  if (found != h.checksum) {
    return {errc::bad_checksum, "packed weights: checksum", number(found), number(h.checksum)};
  }
  out = view_weights(bytes);
  return {};
}

}  // namespace repquant
