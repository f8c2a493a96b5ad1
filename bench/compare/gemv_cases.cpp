// SPDX-License-Identifier: MIT
/// Products of one row.
#include "cases.hpp"
#include "own_product.hpp"
#include "peers.hpp"
#include "random.hpp"

namespace compare {
namespace {

namespace rq = repquant;

/// One row of activations by `copies` matrices in turn, so that with enough of them none is in a cache.
void run_case(const session& s, const std::string& name, int w_bits, const extent& e, int copies,
              const team& exec) {
  bit_source bits;
  const auto weights = static_cast<std::size_t>(e.n * e.k);
  const int half = 1 << (w_bits - 1);
  const auto w = uniform_values<std::int8_t>(bits, weights, -half, half - 1);
  const auto x = uniform_values<std::uint8_t>(bits, static_cast<std::size_t>(e.k), 0, 255);
  buffer<std::int8_t> x_signed;
  for (const std::uint8_t v : x) x_signed.push_back(static_cast<std::int8_t>(v - 128));
  buffer<std::uint8_t> codes(static_cast<std::size_t>(e.n));

  std::vector<own_product> own;
  std::vector<contender> peers;
  for (int i = 0; i < copies; ++i) {
    own.emplace_back(e, x, w, own_product::form{8, w_bits, rq::packing_goal::memory}, exec,
                     s.options.threads);
    if constexpr (has_xnnpack) {
      peers.push_back(xnnpack_gemm({e, nullptr, x_signed.data(), w.data(), nullptr, nullptr,
                                    reinterpret_cast<std::int8_t*>(codes.data())},
                                   s.options.threads));
    }
  }
  std::size_t turn = 0;
  std::size_t peer_turn = 0;
  std::vector<contender> all = {{"ours", [&] { own[turn++ % own.size()].to_codes(codes.data()); }}};
  if (!peers.empty()) {
    all.push_back({peers[0].name, [&] { peers[peer_turn++ % peers.size()].run(); }, peers[0].note});
  }
  const std::vector<timing> times = race(all, s.options.rules);
  limit most;
  if (copies > 1) {
    most = s.limit_of("read 256 MiB, 4 streams");
    most.value *= e.operations() / static_cast<double>(own[0].layout().bytes());
  }
  for (std::size_t i = 1; i < all.size(); ++i) {
    s.rows.add(name, e.text(), all[i].name, gops(e.operations()), times[0], times[i], most, all[i].note);
  }
}

}  // namespace

rq::failure gemv_cases(const session& s) {
  const team exec(s.options.threads);
  const extent large = s.options.brief ? extent{1, 64, 96} : extent{1, 4096, 4096};
  const extent small = s.options.brief ? extent{1, 40, 24} : extent{1, 384, 384};
  if (s.options.wants("gemv_s8_cold")) run_case(s, "gemv_s8_cold", 8, large, 12, exec);
  if (s.options.wants("gemv_s4_cold")) run_case(s, "gemv_s4_cold", 4, large, 24, exec);
  if (s.options.wants("gemv_small")) run_case(s, "gemv_small", 8, small, 1, exec);
  return {};
}

}  // namespace compare
