// SPDX-License-Identifier: MIT
#include <repquant/kernel/cpu.hpp>
#include <repquant/kernel/pack_panels.hpp>
#include <repquant/kernel/panel_codes.hpp>

#include "catch.hpp"
#include "unit/kernel/guarded.hpp"
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

/// The value of output j at place k, read from panels as panel_layout.hpp says.
int stored(const rq::panel_layout& l, const std::byte* panels, rq::index j, rq::index k) {
  const rq::index width = l.width();
  const std::byte* panel = panels + j / width * l.panel_bytes();
  if (l.storage == rq::panel_storage::bytes) {
    const auto byte = static_cast<std::uint8_t>(panel[(k / 4 * width + j % width) * 4 + k % 4]);
    return static_cast<std::int8_t>(byte);
  }
  const std::byte* at = panel + ((k / 2 * width + j % width) * 2 + k % 2) * 2;
  return static_cast<std::int16_t>(static_cast<unsigned>(at[0]) | static_cast<unsigned>(at[1]) << 8U);
}

}  // namespace

TEST_CASE("pack_panels stores every code less the shift, and zeros beyond the matrix") {
  std::mt19937 engine(2);
  int wrong = 0;
  for (rq::instruction_set set : {rq::instruction_set::scalar, rq::instruction_set::sse4,
                                  rq::instruction_set::avx2, rq::instruction_set::avx512_vnni}) {
    for (rq::panel_storage storage : {rq::panel_storage::bytes, rq::panel_storage::pairs}) {
      for (rq::index n : {1, 3, 8, 17, 37, 64}) {
        for (rq::index k : {1, 2, 7, 16, 31, 64, 100}) {
          for (bool places_together : {true, false}) {
            const rq::index stride = (places_together ? k : n) + static_cast<rq::index>(engine() % 3);
            const rq::index lines = places_together ? n : k;
            const rq::index length = places_together ? k : n;
            const auto size = static_cast<std::size_t>((lines - 1) * stride + length);
            for (guarded::edge edge : {guarded::edge::front, guarded::edge::back}) {
              const guarded::memory<std::uint8_t> codes(size, edge);
              for (std::uint8_t& c : codes.span()) c = static_cast<std::uint8_t>(engine());
              const rq::panel_layout l{set, storage, 1, n % 2 == 0 ? 128 : 77, k, n};
              // bytes hold code - shift where that is one: the lowest codes are shift - 128
              if (storage == rq::panel_storage::bytes) {
                for (std::uint8_t& c : codes.span())
                  c = static_cast<std::uint8_t>(std::clamp<int>(c, l.shift - 128, l.shift + 127));
              }
              const rq::code_matrix w{codes.data(), places_together ? stride : 1,
                                      places_together ? 1 : stride};
              const guarded::memory<std::byte> panels(static_cast<std::size_t>(l.bytes()), edge);
              rq::pack_panels(l, w, panels.data());
              for (rq::index j = 0; j < l.padded_n(); ++j) {
                for (rq::index p = 0; p < l.padded_k(); ++p) {
                  const int want = j < n && p < k ? w.at(j, p) - l.shift : 0;
                  wrong += stored(l, panels.data(), j, p) == want ? 0 : 1;
                }
              }
            }
          }
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("codes written piece by piece into panels are those that pack_panels stores, and are read back") {
  std::mt19937 engine(9);
  for (rq::instruction_set set : rq::all_instruction_sets) {
    for (rq::panel_storage storage : {rq::panel_storage::bytes, rq::panel_storage::pairs}) {
      for (const auto& [n, k] : {std::pair<rq::index, rq::index>{1, 1}, {37, 7}, {64, 13}, {5, 100}}) {
        CAPTURE(rq::name_of(set), n, k);
        const rq::panel_layout l{set, storage, 1, 128, k, n};
        std::vector<std::uint8_t> codes(static_cast<std::size_t>(n * k));
        for (std::uint8_t& c : codes) c = static_cast<std::uint8_t>(engine());
        const rq::code_matrix w{codes.data(), k, 1};
        std::vector<std::byte> want(static_cast<std::size_t>(l.bytes()));
        rq::pack_panels(l, w, want.data());
        // what is beyond the matrix stays as it was: there pack_panels stores zeros
        const guarded::memory<std::byte> got(want.size(), guarded::edge::back);
        std::fill(got.span().begin(), got.span().end(), std::byte{0});
        const rq::index middle = n / 2;
        for (const auto& [first, last] : {std::pair<rq::index, rq::index>{middle, n}, {0, middle}}) {
          for (rq::index place = 0; place < k; ++place) {
            rq::write_codes(l, {first, last, place, place + 1}, {codes.data() + first * k + place, k, 1},
                            got.data());
          }
        }
        CHECK(std::equal(want.begin(), want.end(), got.span().begin()));
        std::vector<std::uint8_t> back(codes.size(), 1);
        rq::read_codes(l, {0, n, 0, k}, got.data(), back.data(), k, 1);
        CHECK(back == codes);
        std::vector<std::uint8_t> part(static_cast<std::size_t>(n - middle), 1);
        rq::read_codes(l, {middle, n, k - 1, k}, got.data(), part.data(), 1, 77);
        for (rq::index j = middle; j < n; ++j)
          CHECK(part[static_cast<std::size_t>(j - middle)] == w.at(j, k - 1));
      }
    }
  }
}
