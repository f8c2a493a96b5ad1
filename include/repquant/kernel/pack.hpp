// SPDX-License-Identifier: MIT
/// pack and unpack: codes of 2 or 4 bits, one to a byte, to and from bytes that are full of them.
///
/// The order is canonical: the first code is in the lowest bits, as in ONNX (int4, int2) and in most
/// files. The kernels that multiply have orders of their own, made from the unpacked codes in `prepare`.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/pack_registers.hpp>

#include <concepts>
#include <span>

namespace repquant {

/// How many codes of `Bits` bits a byte holds.
template<int Bits>
requires(Bits == 2 || Bits == 4) inline constexpr std::size_t codes_per_byte = 8 / Bits;

/// How many bytes n codes of `Bits` bits take.
template<int Bits>
requires(Bits == 2 || Bits == 4) constexpr std::size_t packed_size(std::size_t n) noexcept {
  return n / codes_per_byte<Bits> + (n % codes_per_byte<Bits> == 0 ? 0 : 1);
}

/// Codes to full bytes.
///
///   bytes[k] = sum over i of (codes[k * per + i] mod 2^Bits) 2^(Bits i)      per = 8 / Bits
///
/// The last byte is filled up with zeros.
///
/// Shapes    bytes [packed_size<Bits>(codes.size())]; no alignment is asked for
/// Requires  codes and bytes do not overlap
/// Precision the same bytes for every Arch
/// Example   pack<4>(codes, bytes);
template<int Bits, class Arch = default_arch>
requires(Bits == 2 || Bits == 4) inline void pack(std::span<const std::uint8_t> codes,
                                                  std::span<std::uint8_t> bytes) noexcept {
  REPQUANT_ASSERT(bytes.size() == packed_size<Bits>(codes.size()));
  constexpr std::size_t per = codes_per_byte<Bits>;
  const std::uint8_t* in = codes.data();
  std::uint8_t* out = bytes.data();
  const std::size_t n = codes.size();
  std::size_t i = 0;
  if constexpr (!std::same_as<Arch, scalar_arch>) i = detail::pack_registers<Bits, Arch>(in, n, out);
  for (; i < n; i += per) {
    unsigned byte = 0;
    for (std::size_t k = 0; k < per && i + k < n; ++k) {
      byte |= (in[i + k] & ((1U << Bits) - 1U)) << (Bits * k);
    }
    out[i / per] = static_cast<std::uint8_t>(byte);
  }
}

/// Full bytes to codes: the inverse of pack.
///
///   codes[k * per + i] = (bytes[k] >> (Bits i)) mod 2^Bits                   per = 8 / Bits
///
/// Shapes    bytes [packed_size<Bits>(codes.size())]; no alignment is asked for
/// Requires  codes and bytes do not overlap
/// Precision the same codes for every Arch
template<int Bits, class Arch = default_arch>
requires(Bits == 2 || Bits == 4) inline void unpack(std::span<const std::uint8_t> bytes,
                                                    std::span<std::uint8_t> codes) noexcept {
  REPQUANT_ASSERT(bytes.size() == packed_size<Bits>(codes.size()));
  constexpr std::size_t per = codes_per_byte<Bits>;
  const std::uint8_t* in = bytes.data();
  std::uint8_t* out = codes.data();
  const std::size_t n = codes.size();
  std::size_t i = 0;
  if constexpr (!std::same_as<Arch, scalar_arch>) i = detail::unpack_registers<Bits, Arch>(in, n, out);
  for (; i < n; i += per) {
    const unsigned byte = in[i / per];
    for (std::size_t k = 0; k < per && i + k < n; ++k) {
      out[i + k] = static_cast<std::uint8_t>((byte >> (Bits * k)) & ((1U << Bits) - 1U));
    }
  }
}

}  // namespace repquant
