// SPDX-License-Identifier: MIT
/// Floats to codes and back.
#include <repquant/codec/uniform.hpp>
#include <repquant/kernel/decode.hpp>
#include <repquant/kernel/encode.hpp>

#include "cases.hpp"
#include "memory.hpp"
#include "peers.hpp"
#include "random.hpp"
#include <cstring>

namespace compare {
namespace {

namespace rq = repquant;

constexpr index cols = 768;

struct tokens {
  index rows;
  buffer<float> x;
  buffer<std::uint8_t> q;
  rq::uniform codec{.bits = 8};
  rq::affine scale{0.0237F, 117};

  explicit tokens(index r) : rows(r), x(static_cast<std::size_t>(r * cols)), q(x.size()) {
    bit_source bits;
    for (float& v : x) v = static_cast<float>(bits.normal());
    rq::encode(codec, scale, std::span<const float>(x), std::span<std::uint8_t>(q));
  }
  [[nodiscard]] std::string text() const { return std::to_string(rows) + "x" + std::to_string(cols); }
};

void add_all(const session& s, const std::string& name, const tokens& t, const std::vector<contender>& all) {
  const std::vector<timing> times = race(all, s.options.rules);
  for (std::size_t i = 1; i < all.size(); ++i) {
    s.rows.add(name, t.text(), all[i].name, {"Gvalues/s", 1e-9 * static_cast<double>(t.x.size())}, times[0],
               times[i], {}, all[i].note);
  }
}
/// As many bytes as a value and its code, half read, half written.
contender copy_of(const tokens& t, buffer<std::uint8_t>& from, buffer<std::uint8_t>& to) {
  from.assign(t.x.size() * 5 / 2, 1);
  to.assign(from.size(), 0);
  return {"memcpy", [&from, &to] {
            std::memcpy(to.data(), from.data(), from.size());
            asm volatile("" : : "r"(to.data()) : "memory");
          }};
}

}  // namespace

rq::failure encode_cases(const session& s) {
  const std::vector<index> sizes =
      s.options.brief ? std::vector<index>{8} : std::vector<index>{43, 197, 16384};
  if (s.options.threads != 1) return {};
  for (const index rows : sizes) {
    const tokens t(rows);
    buffer<std::uint8_t> codes(t.x.size());
    buffer<float> values(t.x.size());
    buffer<std::uint8_t> from;
    buffer<std::uint8_t> to;
    if (s.options.wants("encode_u8")) {
      std::vector<contender> all = {{"ours", [&] {
                                       rq::encode(t.codec, t.scale, std::span<const float>(t.x),
                                                  std::span<std::uint8_t>(codes));
                                     }}};
      if constexpr (has_xnnpack)
        all.push_back(xnnpack_encode(t.x, rows, codes, t.scale.scale, t.scale.zero_point, 1));
      if constexpr (has_onednn)
        all.push_back(onednn_encode(t.x, rows, codes, t.scale.scale, t.scale.zero_point));
      all.push_back(copy_of(t, from, to));
      add_all(s, "encode_u8", t, all);
    }
    if (s.options.wants("decode_u8")) {
      std::vector<contender> all = {{"ours", [&] {
                                       rq::decode(t.codec, t.scale, std::span<const std::uint8_t>(t.q),
                                                  std::span<float>(values));
                                     }}};
      if constexpr (has_xnnpack)
        all.push_back(xnnpack_decode(t.q, rows, values, t.scale.scale, t.scale.zero_point, 1));
      all.push_back(copy_of(t, from, to));
      add_all(s, "decode_u8", t, all);
    }
  }
  return {};
}

}  // namespace compare
